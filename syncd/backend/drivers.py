"""One statement on a caller's connection, whichever driver made it: asyncpg, psycopg, or one with a DB-API cursor.

No driver is imported: what a connection can do says what it is.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from syncd.core.errors import Busy, SyncdError

_ARGUMENT = re.compile(r"\$\d+")
# Of ours, that a feed was not to be had in time, and that two transactions met.
LOCKED, DEADLOCK, CLASH = "55P03", "40P01", "40001"


class AsyncDriver(Protocol):
    """A connection of asyncpg, or an asynchronous one of psycopg."""

    def execute(self, *args: Any, **more: Any) -> Coroutine[Any, Any, Any]:
        """Runs a statement, and answers a cursor or a coroutine, as the driver does."""


class SyncDriver(Protocol):
    """A connection of psycopg, of Django, or of another DB-API driver for PostgreSQL."""

    def cursor(self) -> Any:
        """A cursor of the driver's."""


class DatabaseWord(NamedTuple):
    """What the database said to refuse a statement: SQLSTATE, message and detail."""

    state: str
    message: str
    detail: str


def is_asynchronous(connection: Any) -> bool:
    """Whether its statements are awaited."""
    # What a pool of asyncpg gives hands its calls on, and is no coroutine function by its looks.
    return hasattr(connection, "fetchval") or inspect.iscoroutinefunction(getattr(connection, "execute", None))


async def fetch_value_async(connection: Any, sql: str, arguments: Sequence[str]) -> Any:
    """The one value that a statement answers."""
    if hasattr(connection, "fetchval"):
        return await connection.fetchval(sql, *arguments)
    async with connection.cursor(**_plain_rows(connection)) as cursor:
        await cursor.execute(_ARGUMENT.sub("%s", sql), arguments)
        return _only(await cursor.fetchone())


def fetch_value(connection: Any, sql: str, arguments: Sequence[str]) -> Any:
    """The same on a connection that is not awaited."""
    with connection.cursor(**_plain_rows(connection)) as cursor:
        cursor.execute(_ARGUMENT.sub("%s", sql), arguments)
        return _only(cursor.fetchone())


def _plain_rows(connection: Any) -> dict[str, Any]:
    """psycopg's rows are what its connection was told to make of them."""
    if not type(connection).__module__.startswith("psycopg."):
        return {}
    from psycopg.rows import tuple_row

    return {"row_factory": tuple_row}


def _only(row: Any) -> Any:
    return next(iter(row.values())) if isinstance(row, Mapping) else row[0]


def word_of(error: BaseException) -> DatabaseWord | None:
    """What the database said, by an error of any driver, also a wrapped one; None: it was not the database."""
    for one in _causes(error):
        state = getattr(one, "sqlstate", None) or getattr(one, "pgcode", None)
        if isinstance(state, str):
            said = getattr(one, "diag", None)
            message = getattr(said, "message_primary", None) or getattr(one, "message", None) or str(one)
            detail = getattr(said, "message_detail", None) or getattr(one, "detail", None)
            return DatabaseWord(state, str(message), str(detail or ""))
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def passing(word: DatabaseWord) -> SyncdError | None:
    """The error of what may be tried again, with the whole transaction; None where it is something else."""
    if word.state in (LOCKED, DEADLOCK, CLASH):
        return Busy("Another transaction has the feed. Roll back, and run the transaction again.")
    return None
