"""Erasures in the database: a user asks for its own, and they are performed on an operator's connection. Each call is
one transaction, and can be made again."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from syncd.postgres.contexts import ActingUser
from syncd.postgres.statements import statement
from syncd.store.pool import Pool


class Erasure(NamedTuple):
    """What is known of an erasure; times are seconds since 1970, `done` None while it is under way. Of a record it has
    the names, of a user `digest`, SHA-256 of `salt` and the user's id. `counts` is JSON text."""

    ordinal: int
    what: str
    asked: float
    done: float | None
    space_id: str | None
    app: str | None
    table_name: str | None
    record_id: str | None
    salt: str | None
    digest: str | None
    anonymise: bool
    counts: str

    def facts(self) -> dict[str, Any]:
        """As members of a JSON object, without those that are of the other kind."""
        known = {name: value for name, value in self._asdict().items() if value is not None}
        return {**known, "counts": msgspec.json.decode(self.counts)}


class ErasedFeed(NamedTuple):
    """A feed to be gone through up to the seq `upto`. `whole`: everything in it is to go."""

    space: int | None
    app: int | None
    whole: bool
    upto: int | None


class Erasures:
    """What users ask for. Raises Refusal (SY010: last_owner), Busy, DatabaseUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def ask(self, user: str) -> float:
        """Notes that a user asks to be erased: since when, in seconds since 1970."""
        return float((await self._pool.fetch("erase_ask", ActingUser(user)))[0][0])


class ErasureOperator:
    """Begins, performs and lists them. Raises asyncpg's errors: SQLSTATE SY010 for what cannot be erased."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def begin_record(self, space: str, app: str, table: str, record: str) -> int:
        """The number of the erasure of a record, which may have been begun."""
        return int(await self._connection.fetchval(statement("erase_record"), space, app, table, record))

    async def begin_user(self, user: str, anonymise: bool) -> int:
        """The same of a user, whose memberships and name are gone from then on."""
        return int(await self._connection.fetchval(statement("erase_user"), user, anonymise))

    async def begin(self, ordinal: int, anonymise: bool) -> bool:
        """Begins one that was asked for, or goes on: whether it is not done, as another process may have done it."""
        return bool(await self._connection.fetchval(statement("erase_begin"), ordinal, anonymise))

    async def known(self, user: str) -> bool:
        """Whether somebody has the id."""
        return bool(await self._connection.fetchval(statement("erase_known"), user))

    async def asked(self) -> list[int]:
        """The numbers of those of users that are not done."""
        return [int(row[0]) for row in await self._connection.fetch(statement("erase_asked"))]

    async def take_over(self, erasures: list[Erasure]) -> list[int]:
        """In a database that was restored: the numbers of those that are to be performed again."""
        told = msgspec.json.encode([one.facts() for one in erasures]).decode()
        return [int(row[0]) for row in await self._connection.fetch(statement("erase_again"), told)]

    async def moved(self, ordinal: int) -> list[int]:
        """Of the erasure of a record that moved: those of where it was, and others of it that are not done."""
        return list(await self._connection.fetchval(statement("erase_moved"), ordinal))

    async def bury(self, ordinal: int) -> ErasedFeed:
        """Empties the record of an erasure, and tells devices of it."""
        return ErasedFeed(*await self._connection.fetchrow(statement("erase_bury"), ordinal))

    async def clean_record(self, ordinal: int, feed: ErasedFeed, after: int, rows: int) -> int:
        """Takes the record's values out of the next `rows` places of its feed; how far that was."""
        arguments = (ordinal, feed.space, feed.app, after, rows, feed.upto)
        return int(await self._connection.fetchval(statement("erase_log"), *arguments))

    async def clean_beside(self, ordinal: int) -> None:
        """Takes the record out of held changes and undelivered messages."""
        await self._connection.execute(statement("erase_beside"), ordinal)

    async def clean_letters(self, ordinal: int) -> None:
        """Takes the user out of undelivered messages."""
        await self._connection.execute(statement("erase_letters"), ordinal)

    async def feeds(self, ordinal: int, clients: list[str]) -> list[ErasedFeed]:
        """The feeds that the erasure of a user goes through, who has those devices."""
        return [ErasedFeed(*row) for row in await self._connection.fetch(statement("erase_feeds"), ordinal, clients)]

    async def head(self, feed: ErasedFeed) -> int:
        """How far a feed is by now."""
        return int(await self._connection.fetchval(statement("erase_head"), feed.space, feed.app))

    async def clients(self, ordinal: int) -> list[str]:
        """The devices of that user."""
        return list(await self._connection.fetchval(statement("erase_clients"), ordinal))

    async def clean_user(self, ordinal: int, feed: ErasedFeed, clients: list[str], after: int, rows: int) -> int:
        """Takes the user's values out of the next `rows` places of a feed; how far that was."""
        arguments = (ordinal, feed.space, feed.app, feed.whole, clients, after, rows, feed.upto)
        return int(await self._connection.fetchval(statement("erase_user_log"), *arguments))

    async def end(self, ordinal: int) -> Erasure:
        """Notes that an erasure is done."""
        return Erasure(*await self._connection.fetchrow(statement("erase_end"), ordinal))

    async def list(self) -> list[Erasure]:
        """All that were asked for, the oldest first."""
        return [Erasure(*row) for row in await self._connection.fetch(statement("erase_list"))]

    async def key(self) -> bytes:
        """The key that signs receipts."""
        return bytes(await self._connection.fetchval(statement("receipt_key")))
