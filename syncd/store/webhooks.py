"""Webhooks in the database, over an operator's connection: where they send, how it went, and what is left over."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from syncd.postgres.statements import statement
from syncd.store.consumers import UnknownConsumer
from syncd.store.pool import Pool

# Upper bounds, in seconds, of how long an attempt took; the last bucket has all that took longer.
DURATIONS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Webhook(NamedTuple):
    """A webhook as it is kept. None in `apps`, `tables`, `ops`, `fields`: all; `said`: of the last attempt."""

    name: str
    url: str
    secret: bytes
    apps: list[str] | None
    tables: list[str] | None
    ops: list[str] | None
    fields: list[str] | None
    private: bool
    state: str
    reason: str | None
    said: str | None
    said_at: datetime | None


class DeadLetter(NamedTuple):
    """A message that could not be delivered."""

    dead_id: int
    message_id: str
    body: bytes
    attempts: int
    reason: str
    died_at: datetime


class WebhookCounts(NamedTuple):
    """What became of a webhook's attempts; `buckets`: how many took how long, by DURATIONS."""

    name: str
    sent: int
    failed: int
    retries: int
    dead: int
    buckets: list[int]
    seconds: float


class Attempt(NamedTuple):
    """An attempt to deliver: whether it was taken, what was said, its seconds, and whether it was not the first."""

    taken: bool
    said: str
    seconds: float
    again: bool


class WebhookOperator:
    """All of it, for a connection of one who may act as the tables' owner."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def add(
        self, name: str, url: str, secret: bytes, ops: Sequence[str] | None, fields: Sequence[str] | None, private: bool
    ) -> None:
        """Makes the webhook of the consumer `name`, in the transaction that registers that."""
        values = (name, url, secret, ops, fields, private, len(DURATIONS) + 1)
        await self._connection.execute(statement("webhook_add"), *values)

    async def all(self) -> list[Webhook]:
        """Every webhook."""
        return [Webhook(*row) for row in await self._connection.fetch(statement("webhook_list"))]

    async def counts(self) -> list[WebhookCounts]:
        """What each has sent, for /metrics."""
        return [WebhookCounts(*row) for row in await self._connection.fetch(statement("webhook_counts"))]

    async def into(self, name: str, state: str, reason: str | None, *, of: Sequence[str]) -> bool:
        """Puts a webhook into a state, if it is in one of `of`; whether it was."""
        return bool(await self._connection.fetchval(statement("webhook_state"), name, state, reason, list(of)))

    async def attempted(self, name: str, one: Attempt) -> None:
        """Counts an attempt."""
        place = next((i for i, bound in enumerate(DURATIONS, 1) if one.seconds <= bound), len(DURATIONS) + 1)
        values = (name, one.taken, one.again, place, one.seconds, one.said)
        await self._connection.execute(statement("webhook_attempt"), *values)

    async def last_erasure(self) -> UUID:
        """Which erasure ended last: another value after each."""
        found: UUID = await self._connection.fetchval(statement("last_erasure"))
        return found

    async def letter(self, name: str, body: bytes) -> bytes:
        """A message as it may be sent and kept: without what was erased since it was made. Raises UnknownConsumer."""
        found = await self._connection.fetchval(statement("webhook_letter"), name, body)
        if found is None:
            raise UnknownConsumer(name)
        return bytes(found)

    async def bury(self, name: str, message_id: str, body: bytes, attempts: int, reason: str) -> None:
        """Keeps a message that could not be delivered."""
        await self._connection.execute(statement("webhook_bury"), name, message_id, body, attempts, reason)

    async def dead(self, name: str, after: int = 0, most: int = 100) -> list[DeadLetter]:
        """The oldest messages that could not be delivered, after one of them, at most so many."""
        return [DeadLetter(*row) for row in await self._connection.fetch(statement("webhook_dead"), name, after, most)]

    async def revived(self, dead_id: int) -> None:
        """A dead letter was delivered."""
        await self._connection.execute(statement("webhook_revived"), dead_id)

    async def take(self, name: str) -> bool:
        """Has this connection, and no other, send for a webhook until it ends; False: another one does."""
        return bool(await self._connection.fetchval(statement("webhook_take"), name))

    async def give_back(self, name: str) -> None:
        """Another one may send for it."""
        await self._connection.execute(statement("webhook_give_back"), name)

    async def rewind(self, name: str, since: datetime) -> bool:
        """Has it send again what was written since an instant; False: there is none."""
        return bool(await self._connection.fetchval(statement("consumer_rewind"), name, since))


async def webhook_counts(pool: Pool) -> list[WebhookCounts]:
    """What became of attempts. Raises Busy, DatabaseUnavailable."""
    return [WebhookCounts(*row) for row in await pool.fetch("webhook_counts")]
