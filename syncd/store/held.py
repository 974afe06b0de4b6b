"""Held changes in the database: whose have become writable, what they are, and why they still are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from syncd.postgres.contexts import ActingUser
from syncd.postgres.statements import statement
from syncd.store.pool import Pool


class Due(NamedTuple):
    """A device that has held changes which may be written by now."""

    user_id: str
    client_id: str
    app: str


class Waiting(NamedTuple):
    """A user whose held changes wait for a space."""

    user_no: int
    user_id: str


class Roomy(NamedTuple):
    """A device with changes, by number, that are held because a space was full which is not any more."""

    user_id: str
    client_id: str
    app: str
    nos: list[int]

    @property
    def device(self) -> Due:
        """The device whose changes are due."""
        return Due(self.user_id, self.client_id, self.app)


class HeldChange(NamedTuple):
    """A held change: its JSON text as it came, what identifies it, when it came; `service`: which pushed it."""

    held_no: int
    content: str | None
    received_us: int
    change: str
    service: str | None


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


class HeldChanges:
    """Each call is one transaction. They raise Busy, DatabaseUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def due(self, users: Sequence[int] | None) -> list[Due]:
        """The devices that have become writers; `users`: only theirs, by number."""
        return [Due(*row) for row in await self._pool.fetch("held_due", None if users is None else list(users))]

    async def waiting(self, after: int, most: int) -> list[Waiting]:
        """The users that wait for a space, by number after one."""
        return [Waiting(*row) for row in await self._pool.fetch("held_waiting", after, most)]

    async def with_room(self, full: Sequence[str]) -> list[Roomy]:
        """What is held because a space was full that is none of these any more."""
        return [Roomy(*row) for row in await self._pool.fetch("held_with_room", list(full))]

    async def take(self, due: Due, most: int, nos: Sequence[int] | None = None) -> list[HeldChange]:
        """A device's changes that may be written by now, at most so many, or those of `nos`."""
        chosen = None if nos is None else list(nos)
        user = ActingUser(due.user_id)
        rows = await self._pool.fetch("held_take", user, due.client_id, due.app, chosen, most)
        return [HeldChange(*row) for row in rows]

    async def mark(self, user: str, reasons: Mapping[int, str]) -> None:
        """Why changes are still held."""
        if reasons:
            text = msgspec.json.encode({str(no): code for no, code in reasons.items()}).decode()
            await self._pool.fetch("held_mark", ActingUser(user), text)

    async def list(self, user: str, app: str, after: int, most: int) -> list[HeldRow]:
        """A user's held changes after a number."""
        return [HeldRow(*row) for row in await self._pool.fetch("held_list", ActingUser(user), app, after, most)]

    async def drop(self, user: str, app: str, no: int) -> bool:
        """Drops a user's held change; whether it was there."""
        return bool((await self._pool.fetch("held_drop", ActingUser(user), app, no))[0][0])

    async def number(self) -> int:
        """How many changes are held: exact up to 1,000, beyond that about."""
        return int((await self._pool.fetch("held_number"))[0][0])


class HeldFilter(NamedTuple):
    """Which held changes an operator means; None: of any."""

    user: str | None = None
    app: str | None = None
    space: str | None = None
    reason: str | None = None


class HeldGroup(NamedTuple):
    """How many changes are held for one reason of one user, in one app, under one space's id."""

    user_id: str
    app: str
    space_id: str | None
    reason: str
    changes: int
    bytes: int
    oldest: datetime


class FoundChange(NamedTuple):
    """A held change as an operator sees it."""

    held_no: int
    user_id: str
    client_id: str
    app: str
    space_id: str | None
    table_name: str | None
    record_id: str | None
    reason: str
    received_at: datetime
    change: str


class HeldDevice(NamedTuple):
    """Held changes of one device in one app, by number."""

    user_id: str
    client_id: str
    app: str
    nos: list[int]


class HeldOperator:
    """What is held of everybody, for a connection that row security does not bind."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def groups(self, which: HeldFilter) -> list[HeldGroup]:
        """An overview of what a filter says."""
        return [HeldGroup(*row) for row in await self._connection.fetch(statement("held_groups"), *which)]

    async def found(self, which: HeldFilter, after: int) -> list[FoundChange]:
        """The next changes after a number, at most 100."""
        return [FoundChange(*row) for row in await self._connection.fetch(statement("held_found"), *which, after)]

    async def devices(self, which: HeldFilter) -> list[HeldDevice]:
        """Whose they are, with how many each has."""
        return [HeldDevice(*row) for row in await self._connection.fetch(statement("held_devices"), *which)]

    async def drop(self, which: HeldFilter) -> int:
        """Drops changes for good; how many."""
        return int(await self._connection.fetchval(statement("held_delete"), *which))
