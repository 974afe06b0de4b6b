"""Connections to PostgreSQL as the runtime role, and what a failure of one means.

Behind a pooler in transaction mode (PgBouncer) statements are not kept prepared and every call is a
transaction of its own, so that both halves of it reach the same server process.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import asyncpg
import msgspec
import structlog

from syncd.core.database_url import for_writing
from syncd.core.error_codes import ERROR_CODES
from syncd.core.errors import Busy, DatabaseUnavailable, SyncdError
from syncd.core.failures import log_failure
from syncd.postgres import contexts
from syncd.postgres.contexts import ActingUser, ContextSession, bound
from syncd.postgres.sessions import AT_START, PINNED, connect, through_pooler
from syncd.postgres.statements import statement
from syncd.store.turns import Turns

T = TypeVar("T")
Row = Any  # asyncpg.Record, by position and by name
log = structlog.get_logger("syncd.store")

TRIES = 6
# What is not named with its schema is PostgreSQL's own. Behind a pooler only the functions can see to that.
SESSION = {"search_path": "pg_catalog, pg_temp", "application_name": "syncd"}
# Too few numbers lie ready for names or spaces; a sequence has come to its end.
NO_NUMBERS, USED_UP = "SY013", "2200H"
# So many numbers one call of sync_numbers_make adds.
NUMBERS_AT_ONCE = 5000
SET_LOCAL = (
    "SELECT pg_catalog.set_config(s.n, s.v, true) "
    "FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS s(n, v)"
)
READ_ONLY = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean"
# Another transaction was in the way; nothing was written, and trying again is likely to succeed.
AGAIN = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.UniqueViolationError,
)
# The database is at work on something else for longer than we let a device wait.
BUSY = (
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.TooManyConnectionsError,
    asyncpg.OutOfMemoryError,
    asyncpg.DiskFullError,
)
GONE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.DatabaseDroppedError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InternalClientError,  # the connection ended in the middle of an answer
    # What a connection is refused for: a password, a role, or a database that is not there (just now).
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    # The database is there and the schema is not, or not all of it: it is just being restored.
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedObjectError,
    asyncpg.UndefinedTableError,
)


class Locked(Busy):
    """A lock was not to be had in the time that was given for it."""


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    """Every setting of ours ends with its transaction, or is the session's, so there is nothing to reset between two
    uses. `session`: what it signs contexts with, where the server has a key."""

    session: ContextSession | None = None

    def get_reset_query(self) -> str:
        return ""


class Pool:
    """A pool of connections; `open` before use. Waiting for a connection ends after `timeout` seconds; users take
    turns for one (`syncd.store.turns`). `max_names`: how many names a user may make, None for any number.
    `context_key`: signs who acts (`syncd.postgres.contexts`). `writes`: it is of the server that is written to."""

    def __init__(
        self, dsn: str, *, size: int = 8, timeout: float = 10.0, lock_ms: int = 5000, statement_ms: int = 30000,
        max_names: int | None = None, context_key: str | None = None, writes: bool = True,
    ) -> None:  # fmt: skip
        self._context_key, self._writes = context_key, writes
        self._dsn, self.size, self._timeout = for_writing(dsn) if writes else dsn, size, timeout
        self.lock_seconds = lock_ms / 1000
        # A little more than the database gives itself: it should be the one to say no.
        self._patience = statement_ms / 1000 + 2
        self._limits = {"lock_timeout": str(lock_ms), "statement_timeout": str(statement_ms)}
        if max_names is not None:
            self._limits["syncd.max_names"] = str(max_names)
        self._pool: Any = None
        self._turns = Turns(size)
        self._opening = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()
        self.pooled = False

    async def open(self) -> None:
        """Connects, and finds out whether a pooler stands between. Raises DatabaseUnavailable."""
        async with self._opening:
            if self._pool is not None:
                return
            try:
                self.pooled = await self._behind_pooler()
                self._pool = await asyncpg.create_pool(
                    self._dsn,
                    connect=asyncpg.connect if self.pooled else self._connect,
                    min_size=0 if self.pooled else min(2, self.size),
                    max_size=self.size,
                    connection_class=_Connection,
                    init=self._with_session,
                    statement_cache_size=0 if self.pooled else 100,
                    timeout=self._timeout,
                    command_timeout=self._patience,
                )
            except (*GONE, asyncpg.PostgresError) as why:
                log.warning("database unavailable", error=type(why).__name__)
                raise DatabaseUnavailable from None

    async def _connect(self, dsn: str, **how: Any) -> Any:
        return await connect(dsn, settings={**AT_START, **self._limits, **SESSION}, **how)

    async def _with_session(self, connection: Any) -> None:
        if self._context_key is not None:
            connection.session = ContextSession(self._context_key)

    async def _behind_pooler(self) -> bool:
        connection = await self._connect(self._dsn, timeout=self._timeout, statement_cache_size=0)
        try:
            return await through_pooler(connection)
        finally:
            await connection.close()

    async def close(self) -> None:
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await _ended(pool, 5)
        await asyncio.gather(*self._leaving)

    def drop(self) -> None:
        """Cuts all connections off, and what waits for an answer of one; the next call makes new ones."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            pool.terminate()

    async def must_write(self, connection: Any) -> None:
        """For `attempt`: whether what is written there is taken. Raises ReadOnlySQLTransactionError."""
        if await connection.fetchval(READ_ONLY):
            raise asyncpg.ReadOnlySQLTransactionError

    def _leave(self, pool: Any) -> None:
        """Gives all connections up: their server has become a standby, or was fenced off. The next call looks for
        the one that is written to now, by the names in the URL."""
        if pool is self._pool and self._writes:
            log.warning("the database is read-only: leaving it")
            self._pool = None
            task = asyncio.create_task(_ended(pool, self._patience))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """One connection for one call. Errors come out as the server's own."""
        if self._pool is None:
            await self.open()
        async with self._acquired() as connection:
            if self.pooled:
                async with connection.transaction(isolation="read_committed"):
                    settings = {**PINNED, **self._limits}
                    await connection.execute(SET_LOCAL, list(settings), list(settings.values()))
                    if connection.session is not None:
                        await connection.session.begin(connection)  # it may be another server process each time
                    yield connection
            else:
                if connection.session is not None and not connection.session.begun:
                    await connection.session.begin(connection)
                yield connection

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[Any]:
        """One connection without a transaction, for who begins one that is long."""
        if self._pool is None:
            await self.open()
        async with self._acquired() as connection:
            yield connection

    @asynccontextmanager
    async def _acquired(self) -> AsyncIterator[Any]:
        async with self._turns.place(self._timeout), self._connected() as connection:
            yield connection

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        pool = self._pool
        try:
            connection = await pool.acquire(timeout=self._timeout)
        except TimeoutError:
            # All in use is a crowd; a connection that cannot be made is a database that is away.
            if pool.get_size() >= self.size:
                raise Busy from None
            raise
        except asyncpg.PostgresError as why:
            # A connection that is refused, whatever for: the database is full, closed to us, or not this one.
            log.warning("database unavailable", error=type(why).__name__)
            raise DatabaseUnavailable from None
        try:
            yield connection
        except asyncpg.ReadOnlySQLTransactionError:
            self._leave(pool)
            raise
        finally:
            await pool.release(connection)

    async def fetch(
        self, name: str, *arguments: Any, took: Callable[[float], None] = lambda seconds: None
    ) -> list[Row]:
        """Runs a statement by name as a transaction of its own; tries again after a clash with another. `took` is told
        how many seconds the database had it, also where it fails."""

        async def work(connection: Any) -> list[Row]:
            began = time.monotonic()
            try:
                rows: list[Row] = await connection.fetch(statement(name), *bound(connection, *arguments))
                return rows
            finally:
                took(time.monotonic() - began)

        return await self.attempt(work, name)

    async def fetch_as(
        self, user: str, adopt: tuple[str, int] | None, name: str, *arguments: Any, add: bool = False
    ) -> list[Row]:
        """Runs a statement as a user, whose rows it sees. `adopt`: a membership list as JSON text and its age, which is
        taken over before; `add`: the user may be new. Raises Refusal (SY010)."""

        async def work(connection: Any) -> list[Row]:
            async with connection.transaction():
                acting = bound(connection, ActingUser(user), add or adopt is not None)
                await connection.execute(statement("act_as"), *acting)
                if adopt is not None:
                    await connection.execute(statement("adopt"), *adopt)
                return list(await connection.fetch(statement(name), *arguments))

        return await self.attempt(work, name)

    async def attempt(self, work: Callable[[Any], Awaitable[T]], name: str = "") -> T:
        """Runs `work(connection)`; a clash with another transaction is tried again, with jitter. `name`: of its
        statement, for the log."""
        for turn in range(TRIES):
            try:
                async with self.connection() as connection:
                    return await with_good_contexts(connection, work)
            except asyncpg.ReadOnlySQLTransactionError:
                # Nothing was written there; there may be another one that is written to, which is looked for once.
                if turn:
                    raise DatabaseUnavailable from None
            except AGAIN as why:
                if turn == TRIES - 1:
                    raise Busy from None
                log.info("clash", error=type(why).__name__, turn=turn)
                await asyncio.sleep(random.uniform(0, 0.02 * 2**turn))
            except BUSY as why:
                log.warning("busy", error=type(why).__name__)
                raise (Locked if isinstance(why, asyncpg.LockNotAvailableError) else Busy) from None
            except GONE as why:
                log.warning("database unavailable", error=type(why).__name__)
                raise DatabaseUnavailable from None
            except asyncpg.PostgresError as why:
                if why.sqlstate == contexts.SQLSTATE and not turn and self._context_key is not None:
                    continue
                if why.sqlstate != NO_NUMBERS or turn == TRIES - 1:
                    raise refusal(why, name) from None
                await self._more_numbers(*msgspec.json.decode(why.detail, type=tuple[str, int]))
        raise AssertionError("unreachable")

    async def _more_numbers(self, kind: str, count: int) -> None:
        """In a transaction of its own: what was taken in one that is refused would be lost."""
        try:
            async with self.connection() as connection:
                for _ in range(0, max(count, 1), NUMBERS_AT_ONCE):
                    await connection.execute(statement("numbers_make"), kind, count)
        except asyncpg.PostgresError as why:
            raise refusal(why, "numbers_make") from None


async def with_good_contexts(connection: Any, work: Callable[[Any], Awaitable[T]]) -> T:
    """`work(connection)`. A connection of which the database refuses contexts is named again before its next call."""
    try:
        return await work(connection)
    except asyncpg.PostgresError as why:
        if why.sqlstate == contexts.SQLSTATE and connection.session is not None:
            connection.session.forget()
        raise


async def _ended(pool: Any, seconds: float) -> None:
    """Closes a pool; what is still in use after so long is cut off."""
    try:
        await asyncio.wait_for(pool.close(), seconds)
    except TimeoutError:
        pool.terminate()


class Refusal(SyncdError):
    """The schema refused on purpose: `state` is its SQLSTATE (SY001 …), `message` and `detail` what it said."""

    def __init__(self, state: str, message: str, detail: str) -> None:
        super().__init__()
        self.state, self.message, self.said = state, message, detail

    def as_code(self) -> SyncdError:
        """The error whose code the schema raised as message (SY010). What is none is logged."""
        if self.message in ERROR_CODES:
            return SyncdError(code=self.message)
        return Unforeseen(log_failure(log, "unknown refusal", self, state=self.state).detail)


class Unwritable(NamedTuple):
    """A change that its user's role may not write: its place, from 1, the field (None: it is the table), and a text for
    people."""

    place: int
    field: str | None
    text: str


# What the schema raises for such changes, and the beginning of the policies' names behind that.
UNWRITABLE, POLICY = "SY012", '"writable_by'


def unwritable(why: Refusal) -> list[Unwritable]:
    """The changes that were refused so."""
    return [Unwritable(*one) for one in msgspec.json.decode(why.said, type=list[tuple[int, str | None, str]])]


class Unforeseen(SyncdError):
    """The database could not do it, for a reason that no code of ours stands for. Nothing was written."""


def told(why: SyncdError) -> SyncdError:
    """The error that whoever asked is told of."""
    return why.as_code() if isinstance(why, Refusal) else why


def refusal(why: asyncpg.PostgresError, name: str) -> SyncdError:
    """The error that a database error becomes. Its text stays here: it may hold what a user wrote. `name`: of the
    statement."""
    state = str(why.sqlstate or "")
    if isinstance(why, asyncpg.InsufficientPrivilegeError) and _not_granted(why):
        log.warning("database unavailable", error=type(why).__name__)
        return DatabaseUnavailable()
    if isinstance(why, asyncpg.InsufficientPrivilegeError) and POLICY in str(why):
        log.warning("a schema was applied while a change was written, or a way in has not asked", statement=name)
        return Busy()
    if state == USED_UP:
        log.error("no number is left", remedy="syncd doctor")
        return SyncdError(code="numbers_used_up")
    if state == NO_NUMBERS:
        return Busy()
    if state == contexts.SQLSTATE:
        log.error("the database refused to say who acts", remedy="the same SYNCD_CONTEXT_KEY for all; syncd doctor")
        return DatabaseUnavailable()
    if state.startswith("SY"):
        return Refusal(state, str(why.args[0]) if why.args else "", str(getattr(why, "detail", "") or ""))
    return Unforeseen(log_failure(log, "database error", why, statement=name, sqlstate=state).detail)


def _not_granted(why: asyncpg.PostgresError) -> bool:
    """Whether the role lacks a right, which a dump that is being restored grants last; not that a policy or a function
    of ours says no."""
    return str(getattr(why, "server_source_function", "") or "").startswith("aclcheck_error")
