"""What the devices of the measurements write, as requests over HTTP and as calls of the database."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from syncd.core.clock import format_instant
from syncd.core.principal import Principal
from syncd.postgres.contexts import bound
from syncd.postgres.statements import statement
from syncd.protocol.messages import PushBody, decode
from syncd.protocol.normalize import Limits
from syncd.protocol.pull_messages import PullRequest
from syncd.protocol.push_decision import PushDecision
from syncd.service.event_ids import EventIds
from syncd.service.pull import PullState
from syncd.service.push import push_call
from syncd.store.log import Log
from syncd.store.pool import Pool

APP = "bench"
TABLE = "tasks"
SKEW = 60_000_000
RECORD = 251  # bytes of a record with its id, as JSON without spaces
WORDS = ("milk", "report", "garden", "invoice", "ladder", "window", "letter", "engine", "harbour", "lesson")


class Call(NamedTuple):
    """One call of the database: the statement and its arguments."""

    sql: str
    arguments: tuple[Any, ...]


class _Recorded(Exception):
    """Thrown where the call would have gone to the database."""


class Recorder(Pool):
    """Stands where the pool is, and keeps what the server's own code would have sent."""

    def __init__(self) -> None:
        super().__init__("postgresql://nowhere")

    async def fetch(self, name: str, *arguments: Any, took: Any = None) -> list[Any]:
        self.call = Call(statement(name), tuple(bound(None, *arguments)))
        raise _Recorded


class Device:
    """A device of one user, which writes to one space: new records, and every `edits`-th time an edit of two fields.

    Edits are of records of earlier pushes, or `held` from the start, as of a device that pushes as it goes.
    With 0 it only makes records. Ids and stamps ascend in time, as those of the clients do. Edits are `whole` where
    others that are measured beside know no fields: then all of the record is written.
    """

    def __init__(self, user: str, space: str, *, edits: int = 4, held: Sequence[str] = (), whole: bool = False) -> None:
        self.user, self.space, self.client, self.edits, self.whole = user, space, f"{user}-phone", edits, whole
        self._random = random.Random(f"{user} {space}")  # so that no two devices make the same ids
        self._held = list(held)
        self._at = time.time_ns() // 1000 - 1_000_000
        self._made = self._written = 0

    def _id(self, kind: int) -> str:
        """An id like a UUIDv7: 48 bits of milliseconds, a counter, and the device's own bits."""
        self._made += 1
        tail = f"{self._random.getrandbits(48):012x}"
        millis = f"{self._at // 1000:012x}"
        return f"{millis[:8]}-{millis[8:]}-7{self._made >> 14 & 0xFFF:03x}-{kind}{self._made >> 4 & 0xFFF:03x}-{tail}"

    def _change(self, at: str, held: int) -> dict[str, Any]:
        rnd = self._random
        head = {"changeId": self._id(8), "table": TABLE, "spaceId": self.space}
        self._written += 1
        if self.edits and held and self._written % self.edits == 0:
            known = self._held[rnd.randrange(held)]
            values = _values(rnd, known) if self.whole else {"done": True, "position": rnd.random()}
            return {**head, "id": known, "op": "update", "fields": _stamped(values, at)}
        self._held.append(self._id(9))
        fields = _stamped(_values(rnd, self._held[-1]), at)
        return {**head, "id": self._held[-1], "op": "insert", "fields": fields}

    def push(self, size: int) -> bytes:
        """The body of a push of `size` changes that asks for no delta."""
        return self.body(self.changes(size))

    def body(self, changes: Sequence[dict[str, Any]]) -> bytes:
        """The body of a push of these changes."""
        return msgspec.json.encode({"clientId": self.client, "pull": False, "changes": changes})

    def changes(self, size: int) -> list[dict[str, Any]]:
        """The next `size` changes, each to another record."""
        held, changes, met = len(self._held), list[dict[str, Any]](), set[str]()
        while len(changes) < size:
            self._at += 7
            change = self._change(format_instant(self._at), held)
            if change["id"] not in met:
                met.add(change["id"])
                changes.append(change)
        return changes

    def request(self, token: str, body: bytes) -> bytes:
        """The push as the bytes of an HTTP request, as a client of today sends it."""
        head = (
            f"POST /sync/{APP} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n"
            f"X-Client-Id: {self.client}\r\nX-Sync-Protocol: 1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def calls(self, bodies: Sequence[bytes]) -> list[Call]:
        """The same pushes as calls of the database, prepared by the server's own code."""
        return asyncio.run(self.prepared(bodies))

    async def prepared(self, bodies: Sequence[bytes]) -> list[Call]:
        """`calls`, from within an event loop."""
        recorder, caller = Recorder(), Principal(self.user)
        log, calls = Log(recorder), list[Call]()
        for body in bodies:
            wanted = PullRequest(APP)
            work = PushDecision(caller, self.client, wanted, decode(body, PushBody), Limits())
            try:
                await log.push(
                    push_call(work, PullState(wanted, caller.user, b""), EventIds(self._at), SKEW), alone=True
                )
            except _Recorded:
                calls.append(recorder.call)
        return calls


def record(change: dict[str, Any]) -> dict[str, Any]:
    """The record that a whole change leaves behind, with its id: RECORD bytes as JSON, for all that are measured."""
    return {"id": change["id"], **{name: register["value"] for name, register in change["fields"].items()}}


def _values(rnd: random.Random, record_id: str) -> dict[str, Any]:
    """Four values, with a title that is as long as a record of RECORD bytes lets it be."""
    values = {"title": "", "done": False, "position": rnd.random(), "assignee": f"user-{rnd.randrange(50)}"}
    room = RECORD - len(msgspec.json.encode({"id": record_id, **values}))
    title = " ".join(rnd.choices(WORDS, k=room // 5 + 1))
    return {**values, "title": title[: max(0, room)]}


def _stamped(values: dict[str, Any], at: str) -> dict[str, Any]:
    return {name: {"value": value, "at": at} for name, value in values.items()}


def pull_request(token: str, since: str, *, limit: int = 10_000, history: bool = False, words: bool = False) -> bytes:
    """A pull as the bytes of an HTTP request, as a client of today sends it: registers alone, not compressed. `words`:
    as those of ours ask for it."""
    query = f"since={since}&limit={limit}{'&history=1' if history else ''}{'&words=1' if words else ''}"
    return (
        f"GET /sync/{APP}/pull?{query} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n"
        "X-Sync-Protocol: 1\r\n\r\n"
    ).encode()


async def pull_call(user: str, key: bytes, since: str, *, limit: int, history: bool) -> tuple[PullState, Call]:
    """The same pull as a call of the database, and the state that makes the next cursor of its page."""
    request = PullRequest(APP, since, limit=limit, history=history, plain=False)
    state, recorder = PullState(request, user, key), Recorder()
    try:
        await Log(recorder).pull(state.call(Principal(user)))
    except _Recorded:
        return state, recorder.call
    raise AssertionError("the log did not ask the database")
