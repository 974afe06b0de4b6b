"""Backup in the database: one snapshot read page by page, and batches of changes written back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg
import msgspec
import structlog

from syncd.core.errors import Busy, DatabaseUnavailable
from syncd.postgres.contexts import ActingCall, ActingUser, ContextSession, bound
from syncd.postgres.statements import statement
from syncd.store.pool import BUSY, GONE, Pool, refusal
from syncd.store.standbys import Standbys

log = structlog.get_logger("syncd.store")

# Rows looked at, and bytes made, for one page: some milliseconds of the database, and what a worker holds at a time.
PAGE_ROWS, PAGE_BYTES = 2500, 1 << 20
SPACES_AT_A_TIME = 20


class ExportFeed(NamedTuple):
    """An app in a space, by their numbers; `head`: its last seq; `app`, `space_id`: their names as JSON text."""

    space: int
    app_no: int
    head: int
    app: str
    space_id: str


class ExportPage(NamedTuple):
    """`body` has `events` lines, separated by U+001E, without one at its end; `upto`: the seq to go on from."""

    upto: int
    events: int
    body: bytes | None


class ExportScope(NamedTuple):
    """Whose changes are exported, by number, and the time of the snapshot."""

    number: int
    now: datetime


class PutBack(NamedTuple):
    """How many spaces an import made, and whether they kept their numbers, so that cursors stay good."""

    made: int
    numbered: bool


class Appended(NamedTuple):
    """A letter for each change of a batch, and how far each feed has come (0: as before)."""

    marks: str
    heads: list[int]


class AppendedIfNew(NamedTuple):
    """As Appended; None: not all of the batch was new, and nothing is written."""

    marks: str | None
    heads: list[int] | None


class Standing(NamedTuple):
    """An operator: the time, the key that signs the server's cursors, and whether row security leaves the role free."""

    now: datetime
    key: bytes
    whole: bool


class Snapshot:
    """One consistent view of the database. `user`: the number of whose changes are read, None for everybody's."""

    def __init__(self, connection: Any, user: int | None, made: datetime) -> None:
        self._connection, self._user, self.made = connection, user, made

    async def feeds(self, space: str | None = None) -> list[ExportFeed]:
        """The feeds there are, in the order of an export."""
        return [ExportFeed(*row) for row in await self._connection.fetch(statement("export_feeds"), space)]

    async def page(self, feed: ExportFeed, after: int, rows: int) -> ExportPage:
        """The lines that come after a seq; `rows`: how many changes are looked at, at most."""
        arguments = (feed.space, feed.app_no, after, feed.head, self._user, min(rows, PAGE_ROWS), PAGE_BYTES)
        return ExportPage(*await self._connection.fetchrow(statement("export_page"), *arguments))

    async def folded(self, space: str | None) -> str | None:
        """The feeds that compaction folded, of a space or all, as JSON text; None: there are none."""
        found: str | None = await self._connection.fetchval(statement("export_folded"), space)
        return found

    async def blocks(self) -> str | None:
        """Whom users block, as JSON text, for an operator; None: nobody does."""
        found: str | None = await self._connection.fetchval(statement("export_blocks"))
        return found

    async def spaces(self) -> AsyncIterator[str]:
        """The acting user's spaces with their members, each as JSON text."""
        async for row in self._connection.cursor(statement("export_spaces"), prefetch=SPACES_AT_A_TIME):
            yield row[0]

    async def spaces_whole(self, space: str | None) -> AsyncIterator[str]:
        """All spaces (with their numbers) or the one named, each as JSON text; for an operator."""
        query, numbered = statement("export_spaces_whole"), space is None
        async for row in self._connection.cursor(query, space, numbered, prefetch=SPACES_AT_A_TIME):
            yield row[0]


@asynccontextmanager
async def snapshot_of(
    connection: Any, user: str | None, session: ContextSession | None = None
) -> AsyncIterator[Snapshot]:
    """What one user sees, until the block ends; None: all that there is, for an operator. `session`: signs who acts."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        if user is None:
            yield Snapshot(connection, None, (await standing(connection)).now)
        else:
            if session is not None:
                await session.begin(connection)  # behind a pooler it is of this transaction
            reader = ExportScope(*await connection.fetchrow(statement("export_user"), ActingUser(user).bound(session)))
            yield Snapshot(connection, reader.number, reader.now)


def _call(head: dict[str, Any]) -> ActingCall | str:
    """An import's head; an operator's names nobody."""
    text = msgspec.json.encode(head)
    return ActingCall(text) if "user" in head else text.decode()


async def standing(connection: Any) -> Standing:
    """What a connection may."""
    return Standing(*await connection.fetchrow(statement("export_operator")))


class Backups:
    """Backup over the server's own connections. A snapshot keeps one for as long as its reader takes. `standbys`: one
    is asked of them first."""

    def __init__(self, pool: Pool, standbys: Standbys | None = None) -> None:
        self._pool, self._standbys = pool, standbys

    async def adopt(self, user: str, adopt: tuple[str, int]) -> None:
        """Takes over a membership list (JSON text and its age): a snapshot is read-only."""

        async def work(connection: Any) -> None:
            async with connection.transaction():
                await connection.execute(statement("act_as"), *bound(connection, ActingUser(user), True))
                await connection.execute(statement("adopt"), *adopt)

        await self._pool.attempt(work, "adopt")

    @asynccontextmanager
    async def snapshot(self, user: str) -> AsyncIterator[Snapshot]:
        """What a user sees. Raises Busy, DatabaseUnavailable."""

        def begin(connection: Any) -> AbstractAsyncContextManager[Snapshot]:
            return snapshot_of(connection, user, connection.session)

        try:
            async with AsyncExitStack() as stack:
                snapshot = await self._standbys.begin(stack, user, begin) if self._standbys else None
                if snapshot is None:
                    connection = await stack.enter_async_context(self._pool.exclusive())
                    snapshot = await stack.enter_async_context(begin(connection))
                yield snapshot
        except BUSY as why:
            log.warning("busy", error=type(why).__name__)
            raise Busy from None
        except GONE as why:
            log.warning("database unavailable", error=type(why).__name__)
            raise DatabaseUnavailable from None
        except asyncpg.PostgresError as why:
            raise refusal(why, "backup") from None

    async def put_back(self, spaces: str, key: bytes | None, made: str) -> PutBack:
        """An operator's: makes the spaces (JSON text) that are missing; how many, and whether cursors stay good."""
        return PutBack(*(await self._pool.fetch("import_spaces", spaces, key, made))[0])

    async def fold(self, folded: str, numbered: bool) -> None:
        """An operator's: what was folded where an import comes from (JSON text) is so here."""
        await self._pool.fetch("import_folded", folded, numbered)

    async def block(self, blocks: str) -> None:
        """An operator's: whom users block where an import comes from (JSON text) they block here."""
        await self._pool.fetch("import_blocks", blocks)

    async def settle(self) -> None:
        """An operator's: the end of an import after which cursors stay good."""
        await self._pool.fetch("import_settle")

    async def unremembered(self, head: dict[str, Any], waves: Sequence[str]) -> list[int]:
        """The places of the changes for which a batch was refused with SY004."""
        return list((await self._pool.fetch("unremembered", _call(head), waves))[0][0] or [])

    async def append(self, head: dict[str, Any], lists: Sequence[Any]) -> Appended:
        """Writes a batch. Raises Refusal."""
        return Appended(*(await self._pool.fetch("import", _call(head), *lists))[0])

    async def append_new(self, head: dict[str, Any], columns: Sequence[Any]) -> Appended | None:
        """An operator's: writes a batch of which all is new; None: something may be known, and nothing is written.
        Raises Refusal."""
        found = AppendedIfNew(*(await self._pool.fetch("import_new", _call(head), *columns))[0])
        return None if found.marks is None or found.heads is None else Appended(found.marks, found.heads)
