"""Large pushes are read change by change: bounds met exactly and exceeded by one; what stays of what is too large."""

from __future__ import annotations

import json
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from syncd.core.errors import HeldFull, Malformed, SyncdError, TooLarge
from syncd.protocol import first_generation, large, live_messages, messages
from syncd.protocol.first_generation import UNREADABLE, push_body
from syncd.protocol.large import MOST_MEMBERS, frame_in, push_in
from syncd.protocol.messages import MOST_COMMAS, IncomingChange, PushBody, decode, first_texts, raw_changes
from syncd.protocol.normalize import Limits, space_of

AT = "2026-01-01T10:00:00Z"
generations = pytest.mark.parametrize("legacy", [False, True], ids=["ours", "first generation"])
EVERY: dict[str, Any] = {
    "clientId": "c", "since": "x", "schemaVersion": 3, "atomic": True, "pull": False, "bytes": 2048,
    "incarnations": ["1.a", "2.b"], "pushed": ["p"],
}  # fmt: skip


def change(record: str = "r", **members: Any) -> dict[str, Any]:
    return {"table": "t", "id": record, "op": "update", "fields": {"x": {"value": 1, "at": AT}}, **members}


def push(*changes: Any, **members: Any) -> bytes:
    return json.dumps({"changes": changes, **members}).encode()


def refusal(work: Any) -> SyncdError:
    with pytest.raises(SyncdError) as why:
        work()
    return why.value


@generations
def test_of_a_push_every_member_is_read(legacy: bool) -> None:
    body = push(
        change("a", changeId="k", spaceId="s", schemaVersion=2, actor={"n": 1}, origin="o"), change("b"), **EVERY
    )
    whole = push_body(body) if legacy else decode(body, PushBody)
    read = push_in(body, Limits(), legacy)
    assert msgspec.structs.asdict(read) == msgspec.structs.asdict(whole)
    assert [type(one) for one in read.changes] == [IncomingChange] * 2
    assert (read.clientId, read.since, read.schemaVersion, read.atomic, read.pull) == ("c", "x", 3, True, False)


@generations
@pytest.mark.parametrize("members", [{}, {"changes": []}], ids=["none", "empty"])
def test_a_push_without_changes_has_none(legacy: bool, members: Any) -> None:
    read = push_in(json.dumps({"clientId": "c", **members}).encode(), Limits(), legacy)
    assert (read.changes, read.clientId, read.pull) == ([], "c", True)


def test_the_first_generation_may_say_null_for_no_changes() -> None:
    assert push_in(b'{"changes":null}', Limits(), True).changes == []
    frame = frame_in(b'{"type":"push","changes":null}', Limits(), True)
    assert isinstance(frame, live_messages.PushFrame)
    assert frame.changes == []


FRAMES: dict[str, dict[str, Any]] = {
    "push": {"changes": [change("a"), change("b")], "requestId": 7, "appId": "app", "schemaVersion": 3, "atomic": True},
    "auth": {"token": "x", "clientId": "c", "protocol": 1},
    "subscribe": {"appId": "app", "since": "x", "collections": ["t"], "first": "t", "limit": 9},
    "unsubscribe": {"appId": "app"},
    "presence": {"spaceId": "s", "state": {"x": 1}},
    "ping": {},
}


@generations
@pytest.mark.parametrize("kind", FRAMES)
def test_of_a_frame_every_member_is_read(legacy: bool, kind: str) -> None:
    text = json.dumps({"type": kind, **FRAMES[kind]}).encode()
    read, whole = frame_in(text, Limits(), legacy), live_messages.incoming(text, legacy=legacy)
    assert isinstance(read, type(whole))
    assert msgspec.structs.asdict(read) == msgspec.structs.asdict(whole)
    if isinstance(read, live_messages.PushFrame):
        assert (read.requestId, read.appId, read.schemaVersion, read.atomic) == (7, "app", 3, True)
        assert [one.id for one in read.changes] == ["a", "b"]
    if isinstance(read, live_messages.Subscribe):
        assert (read.appId, read.since, read.limit) == ("app", "x", 9)


def test_a_frame_of_ours_says_what_its_store_is() -> None:
    text = json.dumps({"type": "push", "changes": [change()], "incarnations": ["1.a"]}).encode()
    read = frame_in(text, Limits(), False)
    assert isinstance(read, live_messages.PushFrame)
    assert read.incarnations == ["1.a"]


def test_a_push_holds_so_many_changes_and_no_more() -> None:
    limits = Limits(max_changes=3)
    assert len(push_in(push(*map(change, "abc")), limits, False).changes) == 3
    why = refusal(lambda: push_in(push(*map(change, "abcd")), limits, False))
    assert (type(why), why.code) == (TooLarge, "too_many_changes")
    assert why.detail == "A push holds at most 3 changes; send them in parts."
    frame = b'{"type":"push",' + push(*map(change, "abcd"))[1:]
    assert refusal(lambda: frame_in(frame, limits, False)).code == "too_many_changes"
    # What the first generation sends it would send again for ever.
    assert len(push_in(push(*map(change, "abcd")), limits, True).changes) == 4


@generations
@pytest.mark.parametrize(("what", "most", "part", "between"), [
    ("members of objects", MOST_MEMBERS, b'"a":1', b" "), ("commas", MOST_COMMAS, b"1", b","),
])  # fmt: skip
def test_a_body_has_so_many_parts_and_no_more(what: str, most: int, part: bytes, between: bytes, legacy: bool) -> None:
    """The text ends in the middle, so that one that is looked into is refused for that."""
    opened = b'{"changes":[],"x":['
    left = most - 2 if between == b" " else most - 1
    fitting, beyond = (
        opened + between.join([part] * n) for n in (left + (between == b","), left + 1 + (between == b","))
    )
    assert (fitting.count(b'":'), fitting.count(b","))[between == b","] == most
    for read in (push_in, frame_in):
        fault = refusal(partial(read, fitting, Limits(), legacy))
        assert (fault.code, "at most" in fault.detail) == ("malformed_json", False)
        why = refusal(partial(read, beyond, Limits(), legacy))
        if legacy:
            assert why.code == "malformed_json"
        else:
            assert (type(why), why.code) == (TooLarge, "body_too_large")
            assert why.detail == f"A push holds at most {most:,} {what}; send it in parts."


@generations
def test_a_change_of_the_greatest_size_is_read_and_of_a_larger_one_what_names_it(legacy: bool) -> None:
    members = {"changeId": "k", "spaceId": "s", "schemaVersion": 2, "data": {"y": 1}, "actor": "ann", "origin": "o"}
    body = push(change("small"), change("r", **members))
    size = len(json.dumps(change("r", **members)))
    (_, whole), (small, named) = (
        push_in(body, Limits(max_change=most), legacy).changes for most in (size, size - 1)
    )  # fmt: skip
    assert whole.fields is not None
    assert "x" in whole.fields
    assert whole.origin == "o"
    assert small.fields is not None
    assert (named.table, named.id, named.op, named.changeId) == ("t", "r", "update", "k")
    assert (named.spaceId, named.schemaVersion) == ("s", 2)
    assert (named.fields, named.deletedAt, named.actor, named.origin) == (None, None, msgspec.UNSET, None)
    assert "y" not in (named.data or {})


@generations
@pytest.mark.parametrize("members", [
    {"spaceId": "s"}, {"data": {"spaceId": "d", "y": 1}, "op": "insert"},
    {"fields": {"spaceId": {"value": "f", "at": AT}}},
    {"data": {"spaceId": "d"}, "fields": {"spaceId": {"value": "f", "at": AT}}, "op": "insert"}, {"data": {"y": 1}}, {},
    {"fields": {"spaceId": {"value": None, "at": AT}}}, {"data": {"spaceId": None}, "op": "insert"},
], ids=str)  # fmt: skip
def test_a_change_that_is_too_large_names_the_space_that_it_was_for(legacy: bool, members: Any) -> None:
    body = push(change(**members))
    (whole,) = push_in(body, Limits(), legacy).changes
    (named,) = push_in(body, Limits(max_change=10), legacy).changes
    assert space_of(named, "own") == space_of(whole, "own")
    assert (named.table, named.id, named.op) == (whole.table, whole.id, whole.op)


@generations
def test_an_empty_space_in_a_change_that_is_too_large_is_none(legacy: bool) -> None:
    (named,) = push_in(push(change(spaceId="")), Limits(max_change=10), legacy).changes
    assert named.spaceId is None


@pytest.mark.parametrize("limits", [Limits(), Limits(max_change=10)], ids=["small", "too large"])
def test_a_change_at_fault_is_named_by_its_place(limits: Limits) -> None:
    why = refusal(lambda: push_in(push(change(), change(), {"table": "t", "id": 7, "op": "update"}), limits, False))
    assert (why.code, why.faults[0].pointer) == ("invalid_change", "/changes/2/id")


@pytest.mark.parametrize("limits", [Limits(), Limits(max_change=10)], ids=["small", "too large"])
def test_of_the_first_generation_a_change_at_fault_keeps_no_other(limits: Limits) -> None:
    changes = push_in(push(change("a"), {"table": "t", "id": 7, "op": "update"}, change("b")), limits, True).changes
    assert [one is UNREADABLE for one in changes] == [False, True, False]
    assert [one.id for one in changes] == ["a", "", "b"]


def test_of_the_first_generation_half_a_surrogate_pair_keeps_no_other_change() -> None:
    body = push(change("a"), change("HALF"), change("b")).replace(b"HALF", rb"\ud800")
    assert [one.id for one in push_in(body, Limits(), True).changes] == ["a", "", "b"]
    why = refusal(lambda: push_in(body, Limits(), False))
    assert (why.code, why.faults[0].pointer) == ("invalid_value", "/changes/1")


def test_of_what_cannot_be_read_so_much_is_held_and_no_more() -> None:
    limits, bad = Limits(held_changes=2), {"table": "t", "id": 7, "op": "update"}
    assert len(push_in(push(bad, change(), bad), limits, True).changes) == 3
    assert isinstance(refusal(lambda: push_in(push(bad, bad, change(), bad), limits, True)), HeldFull)
    assert len(push_in(push(*[change()] * 5), limits, True).changes) == 5


@pytest.mark.parametrize(("body", "code", "pointer"), [
    ({"changes": [change()], "atomic": "yes"}, "invalid_request", "/atomic"),
    ({"changes": {"a": 1}}, "invalid_request", "/changes"),
    ({"changes": [{"table": "t"}], "atomic": "yes"}, "invalid_request", "/atomic"),
])  # fmt: skip
def test_of_the_first_generation_too_the_push_itself_has_to_be_one(body: Any, code: str, pointer: str) -> None:
    why = refusal(lambda: push_in(json.dumps(body).encode(), Limits(), True))
    assert (type(why), why.code, why.faults[0].pointer) == (Malformed, code, pointer)
    frame = refusal(lambda: frame_in(json.dumps({"type": "push", **body}).encode(), Limits(), True))
    assert (frame.code, frame.faults[0].pointer) == ("invalid_message", pointer)


def test_of_the_first_generation_more_commas_do_no_harm_where_changes_say_what_they_do() -> None:
    numbers = ",".join("1" * 10)
    body = push(change("a"), change("b"), clientId="c")[:-1] + f',"more":[{numbers}{",1" * MOST_COMMAS}]}}'.encode()
    read = push_in(body, Limits(), True)
    assert ([one.id for one in read.changes], read.clientId) == (["a", "b"], "c")
    bad = push(change("a"), {"id": "b"})[:-1] + f',"more":[1{",1" * MOST_COMMAS}]}}'.encode()
    assert [one.id for one in push_in(bad, Limits(), True).changes] == ["a", ""]


@pytest.mark.parametrize(
    "body", [b'{"changes":[{"x":"', b'{"changes":[],"more":[' + b"1," * 2000], ids=["a text", "a list"]
)
def test_what_is_no_json_is_not_taken_apart(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    apart = list[bytes]()

    def noted(text: bytes) -> tuple[bytes, list[bytes]]:
        apart.append(text)
        return text, []

    for module in (first_generation, large):
        monkeypatch.setattr(module, "split_changes", noted)
    frame = b'{"type":"push",' + body[1:]
    assert refusal(lambda: push_body(body)).code == "malformed_json"
    assert refusal(lambda: push_in(body, Limits(), True)).code == "malformed_json"
    for read in (partial(live_messages.incoming, legacy=True), partial(frame_in, limits=Limits(), legacy=True)):
        assert refusal(partial(read, frame)).code == "malformed_json"
    assert apart == []


def test_of_the_texts_in_a_piece_so_many_are_made_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is found that may be between two changes, a piece grows; what is made of it is made in one call."""
    pieces, decoder = [0], messages._TEXTS

    def noted(text: bytes) -> list[msgspec.Raw]:
        pieces.append(text.count(b","))
        return decoder.decode(text)

    monkeypatch.setattr(messages, "_TEXTS", SimpleNamespace(decode=noted))
    body = b'{"changes":[{},' + b"1," * 2_000_000 + b"{},{}]}"
    why = refusal(lambda: push_in(body, Limits(), True))
    assert (type(why), why.code) == (Malformed, "invalid_request")
    assert why.detail == "The body holds what are no changes."
    assert isinstance(refusal(lambda: push_in(body, Limits(), False)), TooLarge)
    assert first_texts(body) == (body, [])
    assert max(pieces) <= MOST_COMMAS


@generations
@pytest.mark.parametrize("name", [b'"changes"', rb'"ch\u0061nges"', b' "changes" '])
@pytest.mark.parametrize("second", [b"[%b]", b"[]", b"null"])
def test_of_two_lists_of_changes_in_a_large_push_the_last_counts(legacy: bool, name: bytes, second: bytes) -> None:
    many = [change(f"r{n}", data={"changes": "x" * 1000}) for n in range(600)]
    last = second.replace(b"%b", json.dumps(change("last")).encode())
    for end in (b"", b',"clientId":"c"'):
        body = push(*many)[:-1] + b"," + name + b":" + last + end + b"}"
        frame = b'{"type":"push",' + body[1:]
        assert len(body) > 2 * messages.PIECE
        if second == b"null" and not legacy:
            assert refusal(partial(push_in, body, Limits(), legacy)).code == "invalid_request"
            continue
        expected = ["last"] if second == b"[%b]" else []
        assert [one.id for one in push_in(body, Limits(), legacy).changes] == expected
        read = frame_in(frame, Limits(), legacy)
        assert isinstance(read, live_messages.PushFrame)
        assert [one.id for one in read.changes] == expected
        for text in (body, frame):
            assert [json.loads(raw)["id"] for raw in raw_changes(text)] == expected
    # A field of that name is none.
    assert len(first_texts(push(*many))[1]) > 100
