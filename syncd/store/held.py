"""Held changes in the database: whose have become writable, what they are, and why they still are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from syncd.store.pool import Pool


class Due(NamedTuple):
    """A device that has held changes which may be written by now."""

    user_id: str
    client_id: str
    app: str


class HeldChange(NamedTuple):
    """A held change: its JSON text as it came, what identifies it, when it came."""

    held_no: int
    content: str | None
    received_us: int
    change: str


class HeldRow(NamedTuple):
    """A held change as its author sees it."""

    held_no: int
    client_id: str
    space_id: str | None
    table_name: str | None
    record_id: str | None
    reason: str
    received_us: int
    change: str


class HeldCount(NamedTuple):
    """How many changes are held, of how many users, with how many bytes, and since when."""

    changes: int
    users: int
    bytes: int
    oldest: datetime | None


class Held:
    """Each call is one transaction. They raise Busy, DatabaseUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def due(self, users: Sequence[int] | None) -> list[Due]:
        """The devices that have become writers; `users`: only theirs, by number."""
        return [Due(*row) for row in await self._pool.fetch("held_due", None if users is None else list(users))]

    async def take(self, due: Due, most: int, nos: Sequence[int] | None = None) -> list[HeldChange]:
        """A device's changes that may be written by now, at most so many, or those of `nos`."""
        chosen = None if nos is None else list(nos)
        return [HeldChange(*row) for row in await self._pool.fetch("held_take", *due, chosen, most)]

    async def mark(self, user: str, reasons: Mapping[int, str]) -> None:
        """Why changes are still held."""
        if reasons:
            text = msgspec.json.encode({str(no): code for no, code in reasons.items()}).decode()
            await self._pool.fetch("held_mark", user, text)

    async def list(self, user: str, app: str, after: int, most: int) -> list[HeldRow]:
        """A user's held changes after a number."""
        return [HeldRow(*row) for row in await self._pool.fetch("held_list", user, app, after, most)]

    async def drop(self, user: str, app: str, no: int) -> bool:
        """Drops a user's held change; whether it was there."""
        return bool((await self._pool.fetch("held_drop", user, app, no))[0][0])

    async def count(self) -> HeldCount:
        """All that is held."""
        return HeldCount(*(await self._pool.fetch("held_count"))[0])
