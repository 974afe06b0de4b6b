"""Brings a schema up to date: the files that come first, the functions as they are now, the files that come after.

Each numbered file is one transaction, and so are all functions together. Several runners at once are safe: each takes a
transaction's advisory lock for each step, so this works through a pooler as well. It is taken by trying: waiting would
hold a snapshot, and an index that is built concurrently waits for those.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import asyncpg

from syncd.postgres import functions
from syncd.postgres.contexts import pads
from syncd.postgres.schema_files import FUNCTIONS, Migration, MigrationError, SchemaFiles, SchemaTooNew, read_schema
from syncd.postgres.sessions import OPERATOR, connect

PREAMBLE = Path(__file__).with_name("preamble.sql")
LOCK = 0x73796E6364  # "syncd"
LOCK_TIMEOUT_MS = 5000
PATIENCE_SECONDS = 120.0

Connection = Any  # asyncpg's, or a pool's proxy for one

# As the owner, with names that resolve the same way for everybody.
SEARCH_PATH = "SET LOCAL search_path = syncd, pg_catalog"
PROLOGUE = """\
DO $$ BEGIN
    PERFORM pg_catalog.set_config('role', pg_catalog.pg_get_userbyid(nspowner)::text, true)
    FROM pg_catalog.pg_namespace WHERE nspname = 'syncd';
END $$;
{search_path};
SET LOCAL lock_timeout = '{lock_timeout}ms';
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
""".replace("{search_path}", SEARCH_PATH)
RECORD = "INSERT INTO syncd.sync_migrations (number, name, sha256) VALUES ($1, $2, $3)"
LOST_RECORD = (
    "The database has it already and lost the record that it was applied: restore the table "
    "syncd.sync_migrations from a backup."
)
# Whether PUBLIC may make objects, or the owner not set the parameter that says who acts, where the preamble ends that.
OPEN = """\
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_namespace s
    WHERE s.nspname = 'syncd' AND NOT pg_catalog.has_parameter_privilege(s.nspowner, 'backtrace_functions', 'SET')
      AND pg_catalog.has_parameter_privilege('backtrace_functions', 'SET WITH GRANT OPTION')
    UNION ALL
    SELECT FROM pg_catalog.pg_database d,
         pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) a
    WHERE d.datname = pg_catalog.current_database() AND pg_catalog.pg_has_role(current_user, d.datdba, 'USAGE')
      AND a.grantee = 0 AND a.privilege_type IN ('CREATE', 'TEMPORARY')
    UNION ALL
    SELECT FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a
    WHERE n.nspname = 'public' AND pg_catalog.pg_has_role(current_user, n.nspowner, 'USAGE')
      AND a.grantee = 0 AND a.privilege_type = 'CREATE')"""
MEMBERSHIPS = "UPDATE syncd.sync_server SET memberships = $1 WHERE memberships <> $1 RETURNING true"
CONTEXT_KEY = """\
INSERT INTO syncd.sync_context_key AS k (pads) VALUES ($1)
ON CONFLICT (one) DO UPDATE SET pads = EXCLUDED.pads WHERE k.pads <> EXCLUDED.pads RETURNING true"""
ACTING_IN = "backtrace_functions"
MembershipsFrom = Literal["table", "external"]
TOLD = {
    "external": "memberships are taken over from outside",
    "table": "memberships are taken over from outside no more",
}
APPLIED = "SELECT number, name, sha256 FROM syncd.sync_migrations ORDER BY number"


async def pending(conn: Connection, *, directory: Path | None = None) -> list[str]:
    """The names of what the database lacks, in the order of their being applied; what a server asks before it serves.

    Raises:
        SchemaTooNew: the database is of a newer syncd.
        SchemaTooOld: it has only a part of what the baseline stands for.
        ChangedMigration: a file was changed after it had been applied.
    """
    files = read_schema(directory)
    try:
        async with conn.transaction():
            return await _lacking(conn, files)
    except asyncpg.InsufficientPrivilegeError:
        role = await conn.fetchval("SELECT quote_ident(current_user)")
        raise MigrationError(f"{role} may not use the schema syncd", f"GRANT syncd_runtime TO {role};") from None


async def migrate(
    dsn: str,
    *,
    say: Callable[[str], object] = print,
    directory: Path | None = None,
    lock_timeout_ms: int = LOCK_TIMEOUT_MS,
    older_functions: bool = False,
    memberships: MembershipsFrom | None = None,
    context_key: str | None = None,
) -> list[str]:
    """Apply what is missing, and return the names of what this call applied.

    A step that cannot get its locks within `lock_timeout_ms` gives way to the traffic and is tried again,
    for at most two minutes. `older_functions`: put these in, even if a newer syncd's are there. `memberships`: whether
    lists of them are taken over from outside; None leaves it as it is. `context_key`: who acts has to be signed with it
    from now on; "": with none.

    Raises:
        MigrationError: with what to do about it.
    """
    files = read_schema(directory)
    # No statement cache: a transaction pooler may be in between.
    conn = await connect(dsn, settings=OPERATOR, statement_cache_size=0, timeout=30)
    try:
        current = await _is_current(conn, files, older_functions)
        if not current or await conn.fetchval(OPEN):
            await _locked(conn, partial(_prepare, conn))
            current = current and await _is_current(conn, files, older_functions)
        applied: list[str] = []
        for step, work in () if current else _steps(conn, files, older_functions):
            if await _locked(conn, partial(_as_owner, conn, work, lock_timeout_ms)):
                say(f"applied {step}")
                applied.append(step)
        await _settle(conn, files, lock_timeout_ms, say)
        await _say_memberships(conn, memberships, say)
        await _say_contexts(conn, context_key, say)
        return applied
    finally:
        await conn.close()


async def _say_memberships(conn: Connection, memberships: MembershipsFrom | None, say: Callable[[str], object]) -> None:
    if memberships is None:
        return
    async with conn.transaction():
        await conn.execute(PROLOGUE.format(lock_timeout=LOCK_TIMEOUT_MS))
        if await conn.fetchval(MEMBERSHIPS, memberships):
            say(TOLD[memberships])


async def _say_contexts(conn: Connection, key: str | None, say: Callable[[str], object]) -> None:
    if key is None:
        return
    async with conn.transaction():
        await conn.execute(PROLOGUE.format(lock_timeout=LOCK_TIMEOUT_MS))
        if not key:
            if await conn.fetchval("DELETE FROM syncd.sync_context_key RETURNING true"):
                say("who acts is not signed any more")
        elif await conn.fetchval("SELECT syncd.sync_acting_in()") != ACTING_IN:
            owner = await conn.fetchval("SELECT quote_ident(current_user)")
            raise MigrationError(
                f"who acts cannot be signed: {owner} may not set {ACTING_IN}",
                f"have a superuser run: GRANT SET ON PARAMETER {ACTING_IN} TO {owner};",
            )
        elif await conn.fetchval(CONTEXT_KEY, pads(key)):
            say("who acts is signed from now on")


async def _is_current(conn: Connection, files: SchemaFiles, older_functions: bool) -> bool:
    # A role that may not even look is told by the preamble what to do.
    with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
        async with conn.transaction():
            # Both are asked, so that an older syncd is refused before it applies anything.
            missing = files.missing(await _applied(conn))
            lack = await _functions_lack(conn, files, older_functions)
            return not (missing or lack)
    return False


async def _lacking(conn: Connection, files: SchemaFiles) -> list[str]:
    lacking = [m.label for m in files.missing(await _applied(conn))]
    if await functions.pending(conn, files):
        lacking.append(FUNCTIONS)
    return [step for step in files.steps() if step in lacking]


async def _functions_lack(conn: Connection, files: SchemaFiles, older_functions: bool) -> bool:
    try:
        lack = await functions.pending(conn, files)
    except SchemaTooNew:
        if not older_functions:
            raise
        lack = True
    return lack or (bool(files.functions) and await functions.outdated(conn, files))


def _steps(
    conn: Connection, files: SchemaFiles, older_functions: bool
) -> Iterator[tuple[str, Callable[[], Awaitable[bool]]]]:
    by_label = {m.label: m for m in files.migrations}
    for step in files.steps():
        if step == FUNCTIONS:
            yield step, partial(_put_functions, conn, files, older_functions)
        else:
            yield step, partial(_apply, conn, by_label[step], files)


async def _put_functions(conn: Connection, files: SchemaFiles, older_functions: bool) -> bool:
    if not await _functions_lack(conn, files, older_functions):
        return False
    await conn.execute(SEARCH_PATH)
    await functions.put_in(conn, files)
    return True


async def _settle(conn: Connection, files: SchemaFiles, lock_timeout_ms: int, say: Callable[[str], object]) -> None:
    """Where who acts is read from two parameters: from one, when what acts by the functions of before has ended."""
    if len(await conn.fetchval(functions.READS) or ()) < 2:
        return
    before = {row[0] for row in await conn.fetch(functions.OPEN)}
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_SECONDS
    while before & {row[0] for row in await conn.fetch(functions.OPEN)}:
        if loop.time() > deadline:
            say("a transaction from before is still open: run `syncd migrate` again when it has ended")
            return
        await asyncio.sleep(0.05)
    await _locked(conn, partial(_as_owner, conn, partial(_put_settled, conn, files), lock_timeout_ms))


async def _put_settled(conn: Connection, files: SchemaFiles) -> bool:
    if len(await conn.fetchval(functions.READS) or ()) < 2:
        return False  # another runner was first
    await conn.execute(SEARCH_PATH)
    await functions.put_in(conn, files, settled=True)
    return True


async def _applied(conn: Connection) -> list[tuple[int, str, str]]:
    if not await conn.fetchval(functions.HAS_TABLE.format(table="sync_migrations")):
        return []
    return [(row["number"], row["name"], row["sha256"]) for row in await conn.fetch(APPLIED)]


async def _locked(conn: Connection, work: Callable[[], Any]) -> Any:
    """`work` in a transaction that holds the runners' lock, tried again when a lock is not to be had."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_SECONDS
    while True:
        try:
            async with conn.transaction():
                if await conn.fetchval("SELECT pg_catalog.pg_try_advisory_xact_lock($1)", LOCK):
                    return await work()
        except functions.IN_THE_WAY:
            if loop.time() > deadline:
                raise MigrationError(
                    "a migration did not get its locks within two minutes",
                    "Find who holds them: SELECT pid, query FROM pg_stat_activity WHERE state <> 'idle';",
                ) from None
        if loop.time() > deadline:
            raise MigrationError(
                "another migration has been running for two minutes",
                "Wait for it, then run syncd migrate again.",
            )
        await asyncio.sleep(0.05)


async def _prepare(conn: Connection) -> None:
    try:
        await conn.execute(PREAMBLE.read_text())
    except asyncpg.PostgresError as error:
        remedy = getattr(error, "hint", None) or "Connect as the owner of the database or as a superuser."
        raise MigrationError(str(error.args[0]), f"{remedy[0].upper()}{remedy[1:]}") from error


async def _as_owner(conn: Connection, work: Callable[[], Awaitable[bool]], lock_timeout_ms: int) -> bool:
    await conn.execute(PROLOGUE.format(lock_timeout=lock_timeout_ms))
    return await work()


async def _apply(conn: Connection, migration: Migration, files: SchemaFiles) -> bool:
    applied = await _applied(conn)
    if migration not in files.missing(applied):
        return False
    if not files.stands_for_applied(migration, applied):
        try:
            await conn.execute(migration.sql)
        except functions.IN_THE_WAY:
            raise
        except asyncpg.PostgresError as error:
            cause = f"{migration.label}.sql{functions.line_of(migration.sql, error)} failed: {error}"
            lost = f" {LOST_RECORD}" if isinstance(error, asyncpg.DuplicateTableError) else ""
            raise MigrationError(cause, f"Nothing of this file was applied.{lost}") from error
    await conn.execute(RECORD, migration.number, migration.name, migration.sha256)
    return True
