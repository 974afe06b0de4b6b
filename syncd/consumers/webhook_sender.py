"""Sends what happens to webhooks: a consumer for each, which posts its batches one after another.

An endpoint gets one message at a time. One that does not take it is asked again after growing pauses, and what it
never takes is kept apart. One that took nothing for long is paused.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

import asyncpg
import structlog

from syncd.consumers.batch import ConsumerBatch
from syncd.consumers.consumer import consume
from syncd.consumers.delivery import Delivery, deliver
from syncd.consumers.lines import pause
from syncd.consumers.message import WebhookMessage, headers, messages
from syncd.core.clock import format_instant
from syncd.core.failures import log_failure
from syncd.postgres.sessions import OPERATOR, connect
from syncd.store.consumers import BatchLost, UnknownConsumer
from syncd.store.pool import GONE
from syncd.store.webhooks import Attempt, DeadLetter, Webhook, WebhookOperator

T = TypeVar("T")
log = structlog.get_logger("syncd.webhooks")

RUNS = ("active", "draining")
CHANGES, LOOK_EVERY = 100, 1.0
# Seconds: longer than a consumer's, since what is under way to a receiver goes again where another takes over.
WEBHOOK_LEASE = 30.0


class WebhookOptions(NamedTuple):
    """`pauses`: seconds before each further attempt, half of which to all of which are waited; after the last the
    message is kept apart. `circuit`: so many of these one after another, and the webhook is paused."""

    pauses: Sequence[float] = (5, 30, 120, 600, 1800, 7200, 21600)
    circuit: int = 3


class WebhookLine:
    """The operator's connection: one call at a time."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._operator, self._turn = WebhookOperator(connection), asyncio.Lock()

    async def do(self, work: Callable[[WebhookOperator], Awaitable[T]]) -> T:
        """Runs one piece of work on the line's connection, after those that came before it."""
        async with self._turn:
            return await work(self._operator)


class WebhookSender:
    """Sends for one webhook, until it is paused."""

    def __init__(self, webhook: Webhook, dsn: str, line: WebhookLine, options: WebhookOptions) -> None:
        self.webhook, self._dsn, self._line, self._options = webhook, dsn, line, options
        self._buried = 0

    async def run(self) -> None:
        """Returns when it was drained, or paused."""
        name, waits = self.webhook.name, self.webhook.state == "active"
        batches = consume(name, database=self._dsn, batch=CHANGES, lease=WEBHOOK_LEASE, wait=waits)
        async with aclosing(batches):
            async for batch in batches:
                parts = messages(self.webhook, batch, _now())
                try:
                    if not await self._sent(batch, parts):
                        return
                except BatchLost:
                    log.info("the batch comes again", webhook=name)
        await self._pause("drained")

    async def _sent(self, batch: ConsumerBatch, parts: Sequence[WebhookMessage]) -> bool:
        """Sends each message until it is taken, or kept apart, and acknowledges the batch. Whether the webhook goes on:
        where it does not before the last message, all of them come again."""
        unsent = list[tuple[WebhookMessage, str]]()
        for one in parts:
            found = await self._tried(one)
            if found.gone:
                return await self._pause("the receiver says that it is gone (410)")
            self._buried = 0 if found.taken else self._buried + 1
            if not found.taken:
                unsent.append((one, found.said))
            if self._buried >= self._options.circuit and one is not parts[-1]:
                return await self._pause(self._in_a_row(found))
        if not unsent:
            await batch.ack()
            return True
        async with batch.transaction() as connection:
            for one, said in unsent:
                await self._bury(WebhookOperator(connection), one, said)
        return self._buried < self._options.circuit or await self._pause(self._in_a_row(found))

    async def _tried(self, one: WebhookMessage) -> Delivery:
        """What came of a message in the end."""
        for attempt in range(len(self._options.pauses) + 1):
            if attempt:
                await asyncio.sleep(self._options.pauses[attempt - 1] * random.uniform(0.5, 1))
            one = await self._unerased(one)
            found = await attempted(self.webhook, one, self._line, again=attempt > 0)
            if found.taken:
                break
            log.warning("a webhook did not take it", webhook=self.webhook.name, said=found.said, attempt=attempt + 1)
            if found.gone:
                break
        return found

    async def _unerased(self, one: WebhookMessage) -> WebhookMessage:
        """The message as it may be sent: where an erasure has ended since it was read, without what is gone."""
        last = await self._line.do(WebhookOperator.last_erasure)
        if last == one.last_erasure:
            return one
        body = await self._line.do(lambda operator: operator.letter(self.webhook.name, one.body))
        return one._replace(body=body, last_erasure=last)

    async def _bury(self, operator: WebhookOperator, one: WebhookMessage, said: str) -> None:
        if one.kept is not one.body:
            said = f"{said}; of its {len(one.body):,} bytes the values are not kept"
            log.warning("a message is kept without its values", webhook=self.webhook.name, bytes=len(one.body))
        await operator.bury(self.webhook.name, one.id, one.kept, len(self._options.pauses) + 1, said)

    def _in_a_row(self, found: Delivery) -> str:
        return f"{self._buried} messages in a row were not taken: {found.said}"

    async def _pause(self, why: str) -> bool:
        await self._line.do(lambda operator: operator.into(self.webhook.name, "paused", why, of=RUNS))
        log.warning("a webhook is paused", webhook=self.webhook.name, why=why)
        return False


async def attempted(webhook: Webhook, one: WebhookMessage, line: WebhookLine, *, again: bool) -> Delivery:
    """One attempt, and the count of it."""
    begun = time.monotonic()
    signed = headers(webhook.secret, one, int(time.time()))
    found = await deliver(webhook.url, signed, one.body, private=webhook.private)
    counted = Attempt(found.taken, found.said, time.monotonic() - begun, again)
    await line.do(lambda operator: operator.attempted(webhook.name, counted))
    return found


async def revive(webhook: Webhook, letter: DeadLetter, line: WebhookLine) -> Delivery:
    """Sends a dead letter once more, which is gone when it is taken."""
    body = await line.do(lambda operator: operator.letter(webhook.name, letter.body))  # an erasure may have ended since
    found = await attempted(webhook, WebhookMessage(letter.message_id, body, body), line, again=True)
    if found.taken:
        await line.do(lambda operator: operator.revived(letter.dead_id))
    return found


class WebhookRunner:
    """Sends for all webhooks that are not paused, and follows what an operator does with them."""

    def __init__(self, dsn: str, options: WebhookOptions | None = None) -> None:
        self._dsn, self._options = dsn, options or WebhookOptions()
        self._tasks: dict[str, tuple[Webhook, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Until it is cancelled. While the database is away it is tried again."""
        attempt = 0
        while True:
            try:
                async with webhook_line(self._dsn) as line:
                    attempt = 0
                    await self._follow(line)
            except GONE as why:
                log.warning("the database is away: trying again", error=type(why).__name__)
            finally:
                await self._end(*self._tasks)
            await asyncio.sleep(pause(attempt))
            attempt += 1

    async def _follow(self, line: WebhookLine) -> None:
        while True:
            there = {one.name: one for one in await line.do(lambda operator: operator.all()) if one.state in RUNS}
            for name in [name for name, (known, task) in self._tasks.items() if task.done() or _differs(known, there)]:
                await self._end(name)
                await line.do(lambda operator, name=name: operator.give_back(name))  # type: ignore[misc]
            for name in there.keys() - self._tasks.keys():
                if await line.do(lambda operator, name=name: operator.take(name)):  # type: ignore[misc]
                    sender = WebhookSender(there[name], self._dsn, line, self._options)
                    self._tasks[name] = there[name], asyncio.create_task(_watched(sender), name=f"webhook {name}")
            await asyncio.sleep(LOOK_EVERY)

    async def _end(self, *names: str) -> None:
        tasks = [self._tasks.pop(name)[1] for name in names]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _watched(sender: WebhookSender) -> None:
    """One that fails harms no other: it is begun again with the next look."""
    try:
        await sender.run()
    except (UnknownConsumer, *GONE) as why:
        log.info("a webhook begins again", webhook=sender.webhook.name, error=type(why).__name__)
    except Exception as why:
        log_failure(log, "a webhook failed", why, webhook=sender.webhook.name)
        await asyncio.sleep(10 * LOOK_EVERY)


def _differs(known: Webhook, there: dict[str, Webhook]) -> bool:
    """Whether an operator has changed it, but for what its attempts came to."""
    now = there.get(known.name)
    return now is None or now._replace(said=None, said_at=None) != known._replace(said=None, said_at=None)


@asynccontextmanager
async def webhook_line(dsn: str) -> AsyncIterator[WebhookLine]:
    """An operator's connection, until the block ends."""
    connection = await connect(dsn, timeout=10, statement_cache_size=0, settings=OPERATOR)
    try:
        yield WebhookLine(connection)
    finally:
        connection.terminate()


def _now() -> str:
    return format_instant(int(datetime.now(UTC).timestamp() * 1_000_000))
