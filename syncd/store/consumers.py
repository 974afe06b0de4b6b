"""Consumers in the database: their leases, what is new for them, and how far they are. One call each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from syncd.postgres.statements import statement
from syncd.store.pool import Pool

# Of a consumer, which its processes share (sync_consume_balance in schema/functions/consume_slots.sql).
SLOTS = 64


class UnknownConsumer(Exception):
    """There is no consumer of this name, or the login is no member of its role."""


class BatchLost(Exception):
    """Another process has these feeds by now, or the consumer was begun again. Nothing of the transaction was kept."""


class RegisteredConsumer(NamedTuple):
    """What a consumer is registered for. `apps`, `tables`: None for all; `begins`: where it began."""

    name: str
    role: str
    apps: list[str] | None
    tables: list[str] | None
    begins: str
    made_at: datetime


class ConsumerLag(NamedTuple):
    """How far a consumer is behind. `processes`: those that are there; `seconds`: for how long the oldest waits."""

    name: str
    processes: int
    feeds: int
    changes: int
    seconds: float


class HeldSlot(NamedTuple):
    """A slot of a process; `lease` is another number whenever it changed hands."""

    slot: int
    lease: int


class WaitingFeed(NamedTuple):
    """A feed with more than was acknowledged, by numbers and names. `base`: -1 where the log is read, else the state;
    `acks`: how often it was acknowledged."""

    space_no: int
    app_no: int
    slot: int
    lease: int
    seq: int
    base: int
    acks: int
    head: int
    space_id: str
    app: str

    @property
    def key(self) -> tuple[int, int]:
        return self.space_no, self.app_no


class ReadPart(NamedTuple):
    """What was read of the k-th feed: up to `upto`; `reset`: 'folded', 'all' or None; `body`: changes, separated by
    U+001E; `last_erasure`: as of then."""

    k: int
    upto: int
    base: int
    reset: str | None
    body: bytes | None
    last_erasure: UUID


class ConsumedPlace(NamedTuple):
    """From where (`feed`) to where a feed was read."""

    feed: WaitingFeed
    upto: int
    base: int


class ConsumerSession:
    """A consumer's calls over one connection, as one of its processes."""

    def __init__(self, connection: Any, name: str, holder: UUID) -> None:
        self.connection, self._name, self._holder = connection, name, holder

    async def registered(self) -> RegisteredConsumer:
        """Raises UnknownConsumer."""
        return RegisteredConsumer(*(await self._call("consumer_named"))[0])

    async def lease(self, seconds: float, idle: bool) -> list[HeldSlot]:
        """Says that this process is there, and returns its slots. `idle`: it reads nothing just now, so that slots of
        which it has too many can go. Raises UnknownConsumer."""
        return [HeldSlot(*row) for row in await self._call("consume_lease", self._holder, seconds, idle)]

    async def end_still(self) -> int:
        """Ends what processes that are gone stand still in: how many connections. Raises UnknownConsumer."""
        return int((await self._call("consume_end_still"))[0][0])

    async def leave(self) -> None:
        """This process goes."""
        await self._call("consume_leave", self._holder)

    async def look(self, most: int) -> list[WaitingFeed]:
        """The feeds that have news, those first that were served longest ago."""
        return [WaitingFeed(*row) for row in await self._call("consume_look", self._holder, most)]

    async def look_at(self, feeds: Sequence[tuple[int, int]]) -> list[WaitingFeed]:
        """Those of these feeds, by numbers of space and app, that have news."""
        spaces, apps = [space for space, _ in feeds], [app for _, app in feeds]
        return [WaitingFeed(*row) for row in await self._call("consume_look_at", self._holder, spaces, apps)]

    async def read(self, feeds: Sequence[WaitingFeed], rows: int, size: int) -> list[ReadPart]:
        """What is new in feeds, in their order, of some `rows` changes and `size` bytes."""
        lists = (
            [feed.space_no for feed in feeds], [feed.app_no for feed in feeds],
            [feed.seq for feed in feeds], [feed.base for feed in feeds],
        )  # fmt: skip
        return [ReadPart(*row) for row in await self._call("consume_read", *lists, rows, size)]

    async def ack(self, places: Sequence[ConsumedPlace]) -> None:
        """Feeds are at these places, when the transaction ends. Raises BatchLost."""
        await self._call(
            "consume_ack", self._holder,
            [place.feed.lease for place in places], [place.feed.space_no for place in places],
            [place.feed.app_no for place in places], [place.feed.acks for place in places],
            [place.upto for place in places], [place.base for place in places],
        )  # fmt: skip

    async def last_erasure(self) -> UUID:
        """Which erasure ended last: another value after each."""
        found: UUID = await self.connection.fetchval(statement("last_erasure"))
        return found

    async def acked(self, places: Sequence[ConsumedPlace]) -> bool:
        """Whether an acknowledgement of these came about."""
        spaces, apps = [place.feed.space_no for place in places], [place.feed.app_no for place in places]
        found = await self._call("consume_acked", spaces, apps, [place.feed.acks + 1 for place in places])
        return bool(found[0][0])

    async def _call(self, name: str, *values: Any) -> Any:
        try:
            return await self.connection.fetch(statement(name), self._name, *values)
        except asyncpg.PostgresError as why:
            if why.sqlstate == "SY021":
                raise BatchLost(self._name) from None
            if why.sqlstate == "SY022":
                raise UnknownConsumer(self._name) from None
            raise


class ConsumerOperator:
    """Everybody's, for a connection of one who may act as the tables' owner."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def add(
        self, name: str, role: str, apps: Sequence[str] | None, tables: Sequence[str] | None, begins: str
    ) -> bool:
        """Registers a consumer; False: there is one of the name."""
        values = (name, role, apps, tables, begins)
        return bool(await self._connection.fetchval(statement("consumer_add"), *values))

    async def reset(self, name: str, begins: str) -> bool:
        """Has it begin again; False: there is none."""
        return bool(await self._connection.fetchval(statement("consumer_reset"), name, begins))

    async def remove(self, name: str) -> bool:
        """Removes it; False: there is none."""
        return bool(await self._connection.fetchval(statement("consumer_remove"), name))

    async def lags(self) -> list[ConsumerLag]:
        """How far each consumer is behind."""
        return [ConsumerLag(*row) for row in await self._connection.fetch(statement("consumer_lags"))]

    async def list(self) -> list[RegisteredConsumer]:
        return [RegisteredConsumer(*row) for row in await self._connection.fetch(statement("consumer_list"))]


async def consumer_lags(pool: Pool) -> list[ConsumerLag]:
    """How far each consumer is behind. Raises Busy, DatabaseUnavailable."""
    return [ConsumerLag(*row) for row in await pool.fetch("consumer_lags")]
