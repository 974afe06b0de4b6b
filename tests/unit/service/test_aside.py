"""What takes long to read is read beside the others' requests: nobody's body holds up a worker."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import msgspec
import pytest

from syncd.core.errors import HeldFull, Malformed, SyncdError, TooLarge
from syncd.core.pieces import FEW, PIECE, RESTING
from syncd.core.principal import Principal
from syncd.edge.bytes_held import BytesHeld
from syncd.edge.requests import Request
from syncd.live.connection import MAX_OWN, Connection
from syncd.protocol import live_messages, messages
from syncd.protocol.first_generation import push_body
from syncd.protocol.holding import Sent
from syncd.protocol.large import frame_in, push_in
from syncd.protocol.messages import (
    IncomingChange,
    IncomingRegister,
    PushBody,
    decode,
    first_texts,
    raw_changes,
)
from syncd.protocol.normalize import Limits
from syncd.protocol.pull_messages import PullRequest
from syncd.protocol.push_answer import Result, encoded
from syncd.service import aside as working
from syncd.service import push as pushing
from syncd.service.aside import LARGE, LEGACY_MARKS, LEGACY_SMALL, MOST_MEMBERS, SMALL, aside, is_large
from syncd.service.event_ids import EventIds
from syncd.service.pull import PullState
from syncd.transfer import importer
from tests.support.wire import at, edit

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

T = TypeVar("T")


@pytest.mark.parametrize(
    ("body", "large"),
    [
        (b"{" + b'"a":1,' * (SMALL // 6 - 1) + b"}", False),
        (b'{"a":"' + b"x" * (LARGE - 100) + b'"}', False),
        (b'{"a":"' + b"x" * LARGE + b'"}', True),
        (b"{" + b'"a":1,' * (MOST_MEMBERS + 1) + b"}", True),
        (b"{" + b'"a" :1,' * MOST_MEMBERS + b"}", True),
        (b"[" + b'{"at":"2026-01-01T10:00:00Z"},' * 5_000 + b"]", False),
    ],
    ids=["small", "one long text", "longer", "many members", "many with a space", "instants"],
)
def test_a_body_is_large_by_its_size_or_its_members(body: bytes, large: bool) -> None:
    assert is_large(body) == large


@pytest.mark.parametrize(
    ("body", "large"),
    [
        (b"{" + b'"a":1,' * (LEGACY_SMALL // 6 - 1) + b"}", False),
        (b"{" + b'"a":1,' * (LEGACY_SMALL // 6 + 1) + b"}", True),
        (b'{"a":"' + b"x" * (LARGE - 100) + b'"}', False),
        (b"[" + b"1," * (LEGACY_MARKS - 2) + b"1]", False),
        (b"[" + b"1," * (LEGACY_MARKS - 1) + b"1]", True),
        (b"[" * (LEGACY_SMALL + 1), True),
    ],
    ids=["small", "many members", "one long text", "many commas", "one more", "many brackets"],
)
def test_a_body_of_the_first_generation_is_large_sooner(body: bytes, large: bool) -> None:
    assert is_large(body, True) == large
    assert not is_large(body)


@pytest.mark.parametrize("legacy", [False, True], ids=["ours", "first generation"])
async def test_what_one_turn_of_the_loop_looks_at_in_a_push_is_bounded(
    legacy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4,000 members in 39 KB of a first-generation push are 50 ms; of ours six."""
    beside = list[bool]()

    class Passed(Exception):
        pass

    async def noted(apart: bool, *_: object) -> object:
        beside.append(apart)
        raise Passed

    monkeypatch.setattr(pushing, "aside", noted)
    fields = {f"k{n}": {"value": 1, "at": at(1)} for n in range(600)}
    body = json.dumps({"changes": [{"table": "t", "id": "r", "op": "update", "fields": fields}]}).encode()
    message = push_body(body) if legacy else decode(body, PushBody)
    pushes, wanted = pushing.PushService(cast(Any, None), b"", Limits(), 0), PullRequest("app", plain=legacy)
    request = pushing.PushRequest(Principal("ann"), "c", wanted, body, message, 0, EventIds(0))
    with pytest.raises(Passed):
        await pushes.push(request)
    assert beside == [legacy]


def pushes() -> dict[str, bytes]:
    """Large pushes, also such as are at fault."""
    changes = [edit(f"r{n}", x="text" * 150) for n in range(900)]
    good = json.dumps({"changes": changes, "clientId": "c", "schemaVersion": 3}).encode()
    parts = good.rpartition(b'"update"')
    return {
        "good": good,
        "whose is too large": good.replace(b'"text', b'"' + b"z" * (1 << 20), 1),
        "with an id that is none": good.replace(b'"r7"', b"7"),
        "with no operation": parts[0] + b'"upset"' + parts[2],
        "with half a pair": good.replace(b'"r7"', rb'"\ud800"'),
        "cut short": good[:-100],
        "with no list": b'{"changes":{"a":"' + b"x" * LARGE + b'"}}',
        "with nothing": b'{"more":"' + b"x" * LARGE + b'"}',
    }


def said(read: Callable[[], PushBody]) -> object:
    """A push with what is kept of it, or what was said of it."""
    try:
        push = read()
    except SyncdError as why:
        return why.code, [fault.pointer for fault in why.faults]
    changes = [(one.table, one.id, one.op, one.changeId, one.spaceId) for one in push.changes]
    registers = [register and (bytes(register.value), register.at) for register in _of_the_small(push.changes)]
    return changes, registers, push.schemaVersion, push.atomic


def _of_the_small(changes: list[IncomingChange]) -> list[IncomingRegister | None]:
    found = [(change.fields or {}).get("x") for change in changes]
    return [None if register and len(bytes(register.value)) > 1 << 20 else register for register in found]


@pytest.mark.parametrize("legacy", [False, True], ids=["ours", "first generation"])
@pytest.mark.parametrize("name", pushes())
def test_a_push_that_is_read_change_by_change_says_the_same(name: str, legacy: bool) -> None:
    body = pushes()[name]
    assert is_large(body)
    whole = (lambda: push_body(body)) if legacy else (lambda: decode(body, PushBody))
    assert said(lambda: push_in(body, Limits(), legacy)) == said(whole)


@pytest.mark.parametrize("legacy", [False, True], ids=["ours", "first generation"])
def test_a_frame_that_is_read_change_by_change_says_the_same(legacy: bool) -> None:
    for body in pushes().values():
        frame = b'{"type":"push","requestId":"q",' + body[1:]
        by_change = said(partial(cast(Any, frame_in), frame, Limits(), legacy))
        assert by_change == said(partial(cast(Any, live_messages.incoming), frame, legacy=legacy))


def test_what_cannot_be_taken_apart_quickly_is_not() -> None:
    def push(texts: str) -> bytes:
        return f'{{"changes":[{texts}]}}'.encode()

    with pytest.raises(TooLarge, match="525,000 commas"):
        push_in(push("1," * 600_000 + "1"), Limits(), False)
    with pytest.raises(TooLarge, match="1000 changes"):
        push_in(push(",".join(['{"table":"t","id":"r","op":"delete"}'] * 1001)), Limits(), False)
    with pytest.raises(Malformed):
        push_in(push("{}," * 600_000 + "{}"), Limits(), True)
    # They would be held, and there is a bound for that.
    with pytest.raises(HeldFull):
        push_in(push(",".join(['{"table":"t","id":"r","op":"no operation"}'] * 10_001)), Limits(), True)


def test_the_texts_of_a_push_are_found_a_piece_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may be the end of a change stands in its texts and lists, too; there are other members, before and after."""
    monkeypatch.setattr(messages, "PIECE", 64)
    odd: list[Any] = ["},{", '}, {"', '\\"},{', [{"a": 1}, {"b": [{}, {}]}], "\u00e4" * 40, "x" * 300, {"},{": "},{"}]
    changes = [{**edit(f"r{n}", x=odd[n % len(odd)]), "data": {"more": odd[n % 5]}} for n in range(60)]
    members = {"clientId": "},{", "since": "[{", "more": {"changes": [{}, {}]}}
    for separators in ((",", ":"), (" , \n", " : ")):
        for push in ({"changes": changes, **members}, {**members, "changes": changes}):
            body = json.dumps(push, separators=separators, ensure_ascii=False).encode()
            others, texts = first_texts(body)
            left = msgspec.json.decode(others, type=dict[str, msgspec.Raw])
            assert [json.loads(bytes(text)) for text in texts] + json.loads(bytes(left["changes"])) == changes
            assert {name: json.loads(bytes(left[name])) for name in members} == members
            assert len(texts) > 30
            assert [json.loads(raw) for raw in raw_changes(body)] == changes


WRONG = {"no UTF-8": b"\xff", "a bracket": b"}", "half a text": b'"', "deep": b"[" * 20_000, "half a number": b"1e",
         "no value": b'{"a":}', "no change": b"[1,2]"}  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True], ids=["ours", "first generation"])
@pytest.mark.parametrize("name", WRONG)
def test_of_a_push_at_fault_the_same_is_said(name: str, legacy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    good = json.dumps(edit("r", x="text")).encode()
    body = b'{"changes":[%b]}' % b",".join([good] * 3 + [WRONG[name]] + [good] * 20)
    whole = said(partial(push_in, body, Limits(), legacy))
    monkeypatch.setattr(messages, "PIECE", 64)
    assert said(partial(push_in, body, Limits(), legacy)) == whole


def test_who_reads_a_large_push_rests_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first piece of it to the last result, and where its changes are given back."""
    rests = 0

    def rest() -> None:
        nonlocal rests
        rests += 1

    def rested(work: Callable[[], T]) -> T:
        nonlocal rests
        rests, token = 0, RESTING.set(rest)
        try:
            return work()
        finally:
            RESTING.reset(token)

    count = 20_000
    body = b'{"changes":[%b]}' % b",".join([b'{"table":"t","id":"r","op":"update","fields":{"x":{"value":1}}}'] * count)
    others, texts = rested(lambda: first_texts(body))
    assert rests >= len(body) // PIECE - 1
    assert len(others) <= 3 * PIECE
    assert len(texts) > 0
    message = rested(lambda: push_in(body, Limits(), True))
    assert rests >= count // FEW
    caller, state = Principal("ann"), PullState(PullRequest("app"), "ann", b"k" * 32)
    parts = pushing.Parts(caller, "c", state, message, Sent(body, None, Limits()), True)
    bounds = rested(parts.bounds)
    assert rests >= count // FEW
    work = rested(lambda: parts.part(bounds[0], pushing.stamps_of(state), False))
    assert rests >= 1000 // FEW
    rested(lambda: pushing.push_call(work, state, EventIds(1), 0))
    assert rests >= 2 * 1000 // FEW
    rested(lambda: encoded([Result("applied")] * count))
    assert rests >= count // 100 // FEW
    rested(parts.let_go)
    assert rests >= 2 * count // FEW // FEW
    assert message.changes == parts.sent.raws == []


@pytest.mark.parametrize(("worked", "rests"), [(1.0, 0.0), (0.5, 0.002)], ids=["alone", "beside others"])
def test_a_thread_rests_as_long_as_it_took_where_it_was_kept_waiting(
    worked: float, rests: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, slept = 0.0, list[float]()
    clock = SimpleNamespace(monotonic=lambda: now, thread_time=lambda: now * worked, sleep=slept.append)
    monkeypatch.setattr(working, "time", clock)
    resting = working.Rests()
    for moment in (0.0001, 0.0005, 0.002, 0.0021):
        now = moment
        resting()
    assert slept == ([rests] if rests else [])


def test_a_rest_after_a_long_stop_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who rests keeps the only place."""
    now, slept = 0.0, list[float]()
    clock = SimpleNamespace(monotonic=lambda: now, thread_time=lambda: 0.0, sleep=slept.append)
    monkeypatch.setattr(working, "time", clock)
    resting = working.Rests()
    for now in (0.05, 30.0):  # noqa: B007
        resting()
    assert slept == [0.05, 0.05]


class FewBatches(importer.Batches):
    """Those of a user's import, which are not read ahead, without a file."""

    def __init__(self, batches: list[Any]) -> None:
        self._batches, self._ahead, self._reading = batches, False, None
        self._rest, self.cut = [], None

    async def next(self) -> Any:
        return self._batches.pop(0)


async def test_an_import_s_batches_are_made_ready_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """One push of an export may be a hundred thousand changes."""
    threads = list[int]()

    def noted(batch: list[object]) -> SimpleNamespace:
        threads.append(threading.get_ident())
        return SimpleNamespace(head={"feeds": []})

    async def append(batch: object) -> tuple[str, list[int]]:
        return "a", []

    monkeypatch.setattr(importer, "arrange", noted)
    change, report = SimpleNamespace(push=("s", "app", 1)), importer.ImportReport(1)
    await importer.restore(FewBatches([[change], []]), append, report)
    assert report.imported == len(threads) == 1
    assert threads != [threading.get_ident()]


def test_a_connection_remembers_the_last_of_its_own_changes() -> None:
    """Of a push of any size; to take out the first ones one by one takes the longer the more there were."""
    connection = Connection(cast(Any, None), Principal("ann"), "c", None)
    events = [b"%d" % n for n in range(3 * MAX_OWN)]
    connection.pushed(events[: 2 * MAX_OWN])
    connection.pushed(events[2 * MAX_OWN : -10])
    connection.pushed(events[-10:])
    assert list(connection.own or ()) == events[-MAX_OWN:]
    connection.forget_own(events)
    assert connection.own is None


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_others_have_their_turn_while_a_body_is_unpacked(coding: str) -> None:
    text = b" " * (8 << 20)
    packed = gzip.compress(text) if coding == "gzip" else zstd.compress(text)
    scope = {"type": "http", "method": "POST", "query_string": b"", "headers": [(b"content-encoding", coding.encode())]}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": packed, "more_body": False}

    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(others())
    assert await Request(scope, receive, BytesHeld(10 << 20)).body() == text
    task.cancel()
    assert turns


async def test_what_is_large_is_done_in_another_thread() -> None:
    assert await aside(False, threading.get_ident) == threading.get_ident()
    assert await aside(True, threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await aside(True, divmod, 1, 0)
