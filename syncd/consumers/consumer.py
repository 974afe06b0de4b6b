"""A consumer's process: it holds its share of the feeds, reads what is new in them, and hands it out batch by batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal, NamedTuple
from uuid import uuid4

import asyncpg
import structlog

from syncd.bus.hints import Bus
from syncd.bus.postgres import NotifyBus
from syncd.consumers.batch import ConsumerBatch
from syncd.consumers.feeds import FeedsToRead
from syncd.consumers.hearing import Hearing
from syncd.consumers.lines import ConsumerLine, StatementsKept, pause
from syncd.store.consumers import SLOTS, BatchLost, ConsumerOperator, ConsumerSession, UnknownConsumer
from syncd.store.pool import GONE

log = structlog.get_logger("syncd.consumers")
Begins = Literal["state", "now", "beginning"]

# Whose a consumer is that an operator asks for: nobody else's, since it may read everything.
ROLE = "syncd_owner"
BATCH_BYTES = 4 << 20
# Seconds after which others take over from a process that is not heard of, where nothing else is asked for.
LEASE = 15.0
# A look at all feeds finds so many; where there are more, the next follows at once.
LOOK_MOST, HINTED_AT_ONCE = 2000, 200
# A look goes through all heads. It takes at most a fiftieth of the time where nothing is heard, else a twentieth.
LOOK_EVERY, LOOK_LEAST, IDLE_SHARE, BUSY_SHARE = 2.0, 0.05, 50, 20
LONGEST = 60.0


class ConsumerOptions(NamedTuple):
    """`apps`, `tables`: None as they are registered; `begins`: for one that is not registered yet; `rows`: changes a
    batch, about; `lease`: seconds after which a process that is not heard of loses its feeds."""

    apps: list[str] | None
    tables: list[str] | None
    begins: Begins
    rows: int
    lease: float


async def consume(
    name: str, *, database: str, app: str | Sequence[str] | None = None, tables: Sequence[str] | None = None,
    start: Begins = "now", batch: int = 1000, lease: float = LEASE, wait: bool = True,
    bus: Bus | None = None,
) -> AsyncGenerator[ConsumerBatch, None]:  # fmt: skip
    """What happens in all feeds, or in those of an app and its tables, as batches that are acknowledged.

    `database` is a URL of PostgreSQL: of an operator, for whom the consumer is registered when it is first asked for,
    or of a member of `syncd_consumer`. Each change comes at least once and in the order of its feed; several processes
    under one name share the feeds. `start`: of a consumer that is new, what comes first: only what is written from
    `now` on, the `state` (each record as it is), or the log from its `beginning`. `batch`: changes in one, about.
    `lease`: seconds after which others take over from a process that is not heard of. `wait`: False ends when all that
    there is by now was handed out. `bus`: what carries hints, where it is not PostgreSQL.

    Raises:
        UnknownConsumer: it is not registered, and this login may not do that.
        ValueError: it is registered for other apps or tables.
    """
    apps = [app] if isinstance(app, str) else list(app) if app is not None else None
    options = ConsumerOptions(apps, list(tables) if tables is not None else None, start, batch, lease)
    consumer = Consumer(name, database, options, bus)
    try:
        await consumer.open()
        while (found := await consumer.next(wait)) is not None:
            yield found
    finally:
        await consumer.close()


class Consumer:
    """One process of a consumer. `open` before use; `next` returns a batch, and the same again until it is settled."""

    def __init__(self, name: str, dsn: str, options: ConsumerOptions, bus: Bus | None = None) -> None:
        self.name, self._options = name, options
        whose = (dsn, name, uuid4(), options.lease)
        kept = StatementsKept()
        self._reading, self._acking = ConsumerLine(*whose, kept), ConsumerLine(*whose, kept)
        self._writing = ConsumerLine(*whose, StatementsKept(0))
        self._bus = bus if bus is not None else NotifyBus(dsn)
        self._feeds, self._hearing = FeedsToRead(), Hearing()
        self._current: ConsumerBatch | None = None
        self._coming: asyncio.Task[ConsumerBatch | None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._shared_at = self._looked_at = -LONGEST
        self._look_took, self._more = 0.0, True

    async def open(self) -> None:
        """Registers the consumer where it has to be, and takes a share of the feeds."""
        await self._reading.steadily(self._register)
        await self._bus.open(self._hearing.hear)
        await self._share(idle=True)
        self._beating = asyncio.create_task(self._beat(), name="syncd consumer lease")

    async def close(self) -> None:
        """Gives the feeds to others. What was not acknowledged is handed out again."""
        tasks = [task for task in (self._beating, self._coming) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(*GONE, UnknownConsumer):
            async with asyncio.timeout(5), self._reading.session() as session:
                await session.leave()
        lines = self._reading, self._acking, self._writing
        await asyncio.gather(*(line.close() for line in lines), self._bus.close(), return_exceptions=True)

    async def next(self, wait: bool = True) -> ConsumerBatch | None:
        """The next batch; where the last one was not acknowledged, that one again after a pause. None: there is none,
        and `wait` says not to wait for it."""
        if self._current is not None and not self._current.settled and await self._comes_again(self._current):
            return self._current
        while (batch := await self._following(wait)) is not None:
            if batch.empty:
                await self._skip(batch)
            elif await self._stands(batch):
                self._current = batch
                await self._read_ahead()
                return batch
            else:
                self._lose(batch)
        return None

    async def acknowledge(self, batch: ConsumerBatch) -> None:
        """See ConsumerBatch.ack. An answer that is lost is asked for again, so that nothing is done twice."""
        attempt, unsure, deadline = 0, False, time.monotonic() + self._options.lease
        while True:
            try:
                await self._acknowledged(batch)
                return
            except BatchLost:
                if not (unsure and await self._reading.steadily(lambda session: session.acked(batch.places))):
                    raise
                self._settle(batch)
                return
            except GONE:
                if time.monotonic() > deadline:
                    raise
                unsure = True
                await asyncio.sleep(pause(attempt))
                attempt += 1

    @asynccontextmanager
    async def transaction(self, batch: ConsumerBatch) -> AsyncIterator[Any]:
        """See ConsumerBatch.transaction."""
        async with self._settling(batch, self._writing) as session, session.connection.transaction():
            await session.ack(batch.places)
            yield session.connection
            await batch.perform(session.connection)

    async def _acknowledged(self, batch: ConsumerBatch) -> None:
        """Nothing is written with most: then the statement is the transaction, and takes one round trip."""
        if batch.writes:
            async with self.transaction(batch):
                return
        async with self._settling(batch, self._acking) as session:
            await session.ack(batch.places)

    @asynccontextmanager
    async def _settling(self, batch: ConsumerBatch, line: ConsumerLine) -> AsyncIterator[ConsumerSession]:
        """The connection for an acknowledgement; where the block ends well, that has come about."""
        if batch.settled:
            raise RuntimeError("the batch is acknowledged already, or lost")
        try:
            async with line.session() as session:
                yield session
        except BatchLost:
            self._lose(batch)
            raise
        self._settle(batch)

    def _settle(self, batch: ConsumerBatch) -> None:
        batch.settled = True
        self._feeds.settle(batch.places)

    def _lose(self, batch: ConsumerBatch) -> None:
        """Nothing that was read counts any more."""
        batch.settled = True
        if self._coming is not None:
            self._coming.cancel()
            self._coming = None
        self._feeds.forget()
        self._more = True

    async def _register(self, session: ConsumerSession) -> None:
        options = self._options
        try:
            found = await session.registered()
        except UnknownConsumer:
            operator = ConsumerOperator(session.connection)
            try:
                await operator.add(self.name, ROLE, options.apps, options.tables, options.begins)
            except asyncpg.InsufficientPrivilegeError:
                raise UnknownConsumer(
                    f"there is no consumer {self.name} for this login: have an operator run `syncd consumers add`"
                ) from None
            found = await session.registered()
        for what, asked, there in (("apps", options.apps, found.apps), ("tables", options.tables, found.tables)):
            if asked is not None and sorted(asked) != sorted(there or []):
                raise ValueError(f"the consumer {self.name} is registered for other {what}: {there or 'all'}")

    async def _beat(self) -> None:
        """Says that this process is there, whatever else it does."""
        while True:
            await asyncio.sleep(self._options.lease / 3)
            await self._share(idle=False)

    async def _share(self, *, idle: bool) -> None:
        held = await self._reading.steadily(lambda session: session.lease(self._options.lease, idle))
        if idle:
            if len(held) < SLOTS:  # else nobody keeps any
                await self._reading.steadily(ConsumerSession.end_still)
            self._shared_at = time.monotonic()
        if self._feeds.hold(held):
            self._more = True
            self._hearing.wake()

    async def _comes_again(self, batch: ConsumerBatch) -> bool:
        """Waits; whether the batch is still this process's."""
        await asyncio.sleep(pause(batch.attempt, 0.1, 30.0))
        if not (self._feeds.holds(batch.places) and await self._stands(batch)):
            self._lose(batch)
            return False
        batch.again()
        return True

    async def _stands(self, batch: ConsumerBatch) -> bool:
        """Whether no erasure has ended since it was read. The database is asked right before each handing out: what is
        handed out after a receipt has nothing of what that says is gone."""
        return await self._reading.steadily(ConsumerSession.last_erasure) == batch.last_erasure

    async def _skip(self, batch: ConsumerBatch) -> None:
        """Feeds moved, and nothing in them was for this consumer."""
        with suppress(BatchLost):
            await self.acknowledge(batch)

    async def _following(self, wait: bool) -> ConsumerBatch | None:
        if self._coming is not None:
            coming, self._coming = self._coming, None
            with suppress(*GONE):
                if (batch := await coming) is not None and self._feeds.holds(batch.places):
                    return batch
                if batch is not None:
                    self._lose(batch)
        while True:
            if time.monotonic() - self._shared_at > self._options.lease / 3:
                await self._share(idle=True)
            await self._look_if_due()
            if (batch := await self._reading.steadily(self._read)) is not None:
                return batch
            if not self._feeds and not self._more:
                if not wait:
                    return None
                await self._hearing.wait(self._patience())

    async def _read_ahead(self) -> None:
        """The next batch is read while this one is worked on; not where slots may have to go."""
        due = time.monotonic() - self._shared_at > self._options.lease / 3
        if self._feeds and not due:
            self._coming = asyncio.create_task(self._ahead(), name="syncd consumer reading")
            # What works on this one may not wait for anything: the database is asked before. In the first round the
            # statement is written, and sent at its end.
            for _ in range(2):
                await asyncio.sleep(0)

    async def _ahead(self) -> ConsumerBatch | None:
        async with self._reading.session() as session:
            return await self._read(session)

    async def _read(self, session: ConsumerSession) -> ConsumerBatch | None:
        taken = self._feeds.take(self._options.rows)
        if not taken:
            return None
        parts = await session.read(taken, self._options.rows, BATCH_BYTES)
        if not parts:
            self._feeds.gone(taken)
            return None
        batch = ConsumerBatch(self, taken, parts)
        self._feeds.read(batch.places)
        return batch

    async def _look_if_due(self) -> None:
        """Finds feeds with news: those that were heard of, and from time to time all."""
        if hinted := self._hearing.take(HINTED_AT_ONCE):
            self._found(await self._reading.steadily(lambda session: session.look_at(hinted)))
        since, least = time.monotonic() - self._looked_at, max(LOOK_LEAST, BUSY_SHARE * self._look_took)
        wanted = (self._more and not self._feeds) or (self._hearing.stranger and since > least)
        if not (wanted or since > self._every()):
            return
        self._hearing.stranger = self._more = False
        begun = time.monotonic()
        news = await self._reading.steadily(lambda session: session.look(LOOK_MOST))
        self._looked_at = time.monotonic()
        self._look_took, self._more = self._looked_at - begun, len(news) == LOOK_MOST
        self._found(news)

    def _found(self, news: Any) -> None:
        self._hearing.learn(news)
        self._feeds.found(news)

    def _every(self) -> float:
        return min(max(LOOK_EVERY, IDLE_SHARE * self._look_took), LONGEST)

    def _patience(self) -> float:
        """Seconds until the next look at all, or until slots are shared out."""
        now = time.monotonic()
        due = self._looked_at + (
            max(LOOK_LEAST, BUSY_SHARE * self._look_took) if self._hearing.stranger else self._every()
        )
        return max(0.001, min(due, self._shared_at + self._options.lease / 3 + 0.001) - now)
