"""What a consumer is handed: changes of some feeds, in order per feed, and the way to acknowledge them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import msgspec

from syncd.backend.writing import OnRefused, Written, write
from syncd.store.consumers import ConsumedPlace, ReadPart, WaitingFeed

SEPARATOR = b"\x1e"


class ConsumedRegister(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A field of a change: its value, when its device wrote it, and for one that another device wrote which."""

    value: Any = None
    at: str | None = None
    client_id: str | None = None


class ConsumedChange(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A change that took effect, or (`state`) a record as it is, whole. `created_at`: when the server took it;
    `user_id`: who wrote it; both None for a record whose last change is gone. `deleted_at`: of a `delete`."""

    app_id: str
    event_id: str
    seq: int
    table: str
    id: str
    op: str
    space_id: str
    client_id: str
    fields: dict[str, ConsumedRegister] = {}
    state: bool = False
    user_id: str | None = None
    created_at: str | None = None
    change_id: str | None = None
    deleted_at: str | None = None
    schema_version: int | None = None
    actor: Any = None
    origin: str | None = None

    @property
    def values(self) -> dict[str, Any]:
        """The fields that the change wrote, by name; of a `state` all that the record has."""
        return {name: register.value for name, register in self.fields.items() if name != "deletedAt"}


_decode = msgspec.json.Decoder(list[ConsumedChange]).decode


def _one_line(body: bytes) -> bytes:
    """A line for each change. Between two tokens a stored value may have line breaks, and nowhere else."""
    return body.replace(b"\n", b" ").replace(b"\r", b" ").replace(SEPARATOR, b"\n")


class ResetFeed(NamedTuple):
    """A feed of which the consumer is handed records in place of changes, as compaction folded those.

    `whole`: deletions were forgotten that the consumer may not have heard of. It is handed all records of the feed:
    what it has of others is to go.
    """

    space_id: str
    app_id: str
    whole: bool


class Acknowledging(Protocol):
    """What a batch goes back to, which has the consumer's name."""

    name: str

    async def acknowledge(self, batch: ConsumerBatch) -> None: ...

    def transaction(self, batch: ConsumerBatch) -> Any: ...


class ConsumerBatch:
    """Changes of some feeds, in the order of each feed; whole pushes. `attempt`: 1, and more where it comes again as it
    was not acknowledged. `reset`: the feeds of which the consumer is told that they start again. `written`: what became
    of what it wrote, in order, once it is acknowledged."""

    def __init__(self, owner: Acknowledging, taken: Sequence[WaitingFeed], parts: Sequence[ReadPart]) -> None:
        self._owner = owner
        self.places = [ConsumedPlace(taken[part.k - 1], part.upto, part.base) for part in parts]
        self.reset = [
            ResetFeed(taken[part.k - 1].space_id, taken[part.k - 1].app, part.reset == "all")
            for part in parts
            if part.reset is not None
        ]
        # Of all parts the same: one statement read them.
        self.last_erasure = parts[0].last_erasure
        self._bodies = [part.body for part in parts if part.body]
        self._writes: list[dict[str, Any]] = []
        self.written: list[Written] = []
        self.attempt = 1
        self.settled = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to hand out: feeds moved, and nothing in them is for this consumer."""
        return not (self._bodies or self.reset)

    @cached_property
    def changes(self) -> list[ConsumedChange]:
        """The changes, read once they are asked for."""
        # Feed by feed: what is small is copied and read in half the time of what is megabytes.
        return [change for body in self._bodies for change in _decode(b"[%b]" % body.replace(SEPARATOR, b","))]

    def ndjson(self) -> bytes:
        """Lines of JSON: feeds that start again, as `{"reset": true, "spaceId", "appId", "whole"}`, and the changes, in
        the bytes that the database has."""
        told = [
            {"reset": True, "spaceId": feed.space_id, "appId": feed.app_id, "whole": feed.whole} for feed in self.reset
        ]
        lines = [_one_line(body) for body in self._bodies]
        return b"".join(line + b"\n" for line in [*map(msgspec.json.encode, told), *lines])

    def write(
        self, *, user: str, app: str, changes: Sequence[Mapping[str, Any]], client: str | None = None,
        actor: Any = None, on_refused: OnRefused = "raise",
    ) -> None:  # fmt: skip
        """Has changes written as `user` together with the acknowledgement of this batch: both, or neither. So what is
        written is written once, whatever dies in between. The arguments are those of `syncd.write`; `client` is named
        after the consumer."""
        own = client or f"consumer-{self._owner.name}"
        self._writes.append(
            {"user": user, "app": app, "changes": changes, "client": own, "actor": actor, "on_refused": on_refused}
        )

    @property
    def writes(self) -> bool:
        """Whether something is to be written with the acknowledgement."""
        return bool(self._writes)

    def again(self) -> None:
        """It is handed out once more, and what was to be written for it is not."""
        self.attempt += 1
        self._writes.clear()
        self.written = []

    async def perform(self, connection: Any) -> None:
        """Writes, over the connection whose transaction acknowledges the batch."""
        self.written = []
        for call in self._writes:
            self.written += await write(connection, **call)

    async def ack(self) -> None:
        """Says that this batch is done with: it does not come again. What was to be written is written.

        Raises:
            BatchLost: another process has these feeds by now, and is handed the changes again.
            WriteRefused: something may not be written, so nothing was: the batch is not acknowledged.
            OSError, asyncpg.PostgresError: the database was away for longer than the lease lasts.
        """
        await self._owner.acknowledge(self)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """A transaction that ends with the acknowledgement of this batch: what is written over its connection
        (asyncpg's) is kept together with that, or not at all.

        Raises:
            BatchLost: as `ack`, at the begin.
        """
        async with self._owner.transaction(self) as connection:
            yield connection
