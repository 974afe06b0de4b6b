"""The schema's migrations: numbered .sql files, forward only, each in a transaction of its own.

Several runners at once are safe: each takes a transaction's advisory lock for each file, so this works
through a pooler as well. It is taken by trying: waiting would hold a snapshot, and an index that is built
concurrently waits for those.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

PACKAGE = Path(__file__).resolve().parent.parent
PREAMBLE = Path(__file__).with_name("preamble.sql")
LOCK = 0x73796E6364  # "syncd"
LOCK_TIMEOUT_MS = 5000
PATIENCE_SECONDS = 120.0

Connection = Any  # asyncpg's, or a pool's proxy for one

# As the owner, with names that resolve the same way for everybody.
PROLOGUE = """\
DO $$ BEGIN
    PERFORM pg_catalog.set_config('role', pg_catalog.pg_get_userbyid(nspowner)::text, true)
    FROM pg_catalog.pg_namespace WHERE nspname = 'syncd';
END $$;
SET LOCAL search_path = syncd, pg_catalog;
SET LOCAL lock_timeout = '{lock_timeout}ms';
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
"""
RECORD = "INSERT INTO syncd.sync_migrations (number, name, sha256) VALUES ($1, $2, $3)"
APPLIED = "SELECT number, name, sha256 FROM syncd.sync_migrations ORDER BY number"
# Not to_regclass: it is refused to who may not enter the schema, and they are to be told what to do.
HAS_LIST = """\
SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = 'syncd' AND c.relname = 'sync_migrations')
"""


class MigrationError(Exception):
    """A migration cannot be applied. `remedy` is what to do about it."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause}. {remedy}")
        self.cause = cause
        self.remedy = remedy


class SchemaTooNew(MigrationError):
    """The database was migrated by a newer syncd than this one."""


class ChangedMigration(MigrationError):
    """A file differs from what was applied under its number."""


class Migration(msgspec.Struct, frozen=True):
    """One numbered file."""

    number: int
    name: str
    sql: str
    sha256: str

    @property
    def label(self) -> str:
        """As the file is called, without its ending."""
        return f"{self.number:04d}_{self.name}"


def schema_directory() -> Path:
    """Inside an installed package, else in the repository beside it."""
    inside = PACKAGE / "schema"
    return inside if inside.is_dir() else PACKAGE.parent / "schema"


def read_migrations(directory: Path | None = None) -> list[Migration]:
    """The files `NNNN_name.sql` of a directory, ordered; numbers run from 1 without a gap."""
    folder = directory or schema_directory()
    found = [_read(path) for path in sorted(folder.glob("[0-9]*.sql"))]
    if [m.number for m in found] != list(range(1, len(found) + 1)):
        raise MigrationError(
            f"the files in {folder} are not numbered 0001, 0002, … without gap or repetition",
            "Rename the newest so that it follows the last one.",
        )
    return found


def _read(path: Path) -> Migration:
    match = re.fullmatch(r"(\d{4})_(\w+)\.sql", path.name)
    if match is None:
        raise MigrationError(f"{path} is not called NNNN_name.sql", "Rename it.")
    content = path.read_bytes()
    return Migration(int(match[1]), match[2], content.decode(), hashlib.sha256(content).hexdigest())


def compare(files: Sequence[Migration], applied: Sequence[tuple[int, str, str]]) -> list[Migration]:
    """The files that are not applied yet.

    Raises:
        SchemaTooNew: more is applied than there are files.
        ChangedMigration: a file is not the one that was applied.
    """
    known = {m.number: m for m in files}
    for number, name, digest in applied:
        if number not in known:
            raise SchemaTooNew(
                f"the database has the migration {number:04d}_{name}, which this syncd does not know",
                "Run the newer syncd that applied it; going back is not possible.",
            )
        if known[number].sha256 != digest:
            raise ChangedMigration(
                f"{known[number].label}.sql is not the file that was applied to this database",
                "Put the file back as it was and make the change in a new migration.",
            )
    done = {number for number, _, _ in applied}
    return [m for m in files if m.number not in done]


async def pending(conn: Connection, *, directory: Path | None = None) -> list[str]:
    """The names of the migrations that the database lacks; what a server asks before it serves.

    Raises:
        SchemaTooNew: the database is of a newer syncd.
        ChangedMigration: a file was changed after it had been applied.
    """
    try:
        async with conn.transaction():
            return [m.label for m in compare(read_migrations(directory), await _applied(conn))]
    except asyncpg.InsufficientPrivilegeError:
        role = await conn.fetchval("SELECT quote_ident(current_user)")
        raise MigrationError(f"{role} may not use the schema syncd", f"GRANT syncd_runtime TO {role};") from None


async def migrate(
    dsn: str,
    *,
    say: Callable[[str], object] = print,
    directory: Path | None = None,
    lock_timeout_ms: int = LOCK_TIMEOUT_MS,
) -> list[str]:
    """Apply what is missing, and return the names of what this call applied.

    A file that cannot get its locks within `lock_timeout_ms` gives way to the traffic and is tried again,
    for at most two minutes.

    Raises:
        MigrationError: with what to do about it.
    """
    files = read_migrations(directory)
    # No statement cache: a transaction pooler may be in between.
    conn = await asyncpg.connect(dsn, statement_cache_size=0, timeout=30)
    try:
        # Who may not even look is told by the preamble what to do.
        with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
            async with conn.transaction():
                if not compare(files, await _applied(conn)):
                    return []
        await _locked(conn, partial(_prepare, conn))
        applied = []
        for migration in files:
            if await _locked(conn, partial(_apply, conn, migration, files, lock_timeout_ms)):
                say(f"applied {migration.label}")
                applied.append(migration.label)
        return applied
    finally:
        await conn.close()


async def _applied(conn: Connection) -> list[tuple[int, str, str]]:
    if not await conn.fetchval(HAS_LIST):
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
        except asyncpg.LockNotAvailableError:
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


async def _apply(conn: Connection, migration: Migration, files: Sequence[Migration], lock_timeout_ms: int) -> bool:
    if migration not in compare(files, await _applied(conn)):
        return False
    await conn.execute(PROLOGUE.format(lock_timeout=lock_timeout_ms))
    try:
        await conn.execute(migration.sql)
    except asyncpg.LockNotAvailableError:
        raise
    except asyncpg.PostgresError as error:
        where = _line(migration.sql, getattr(error, "position", None))
        raise MigrationError(
            f"{migration.label}.sql{where} failed: {error}", "Nothing of this file was applied."
        ) from error
    await conn.execute(RECORD, migration.number, migration.name, migration.sha256)
    return True


def _line(sql: str, position: str | None) -> str:
    return f", line {sql[: int(position)].count(chr(10)) + 1}," if position else ""


def emit(target: Path, *, directory: Path | None = None) -> list[Path]:
    """Write the migrations as files for psql or a host's own tooling, to be applied in order of their names.

    Each is one transaction and records itself, so that the server knows what is there.
    """
    target.mkdir(parents=True, exist_ok=True)
    written = [target / "0000_preamble.sql"]
    written[0].write_text(f"BEGIN;\n{PREAMBLE.read_text()}COMMIT;\n", encoding="utf-8")
    for migration in read_migrations(directory):
        path = target / f"{migration.label}.sql"
        path.write_text(_emitted(migration), encoding="utf-8")
        written.append(path)
    return written


def _emitted(migration: Migration) -> str:
    values = f"{migration.number}, '{migration.name}', '{migration.sha256}'"
    return (
        "-- Written by syncd migrate --emit. Runs once: the second time its record is in the way.\n"
        "BEGIN;\n"
        f"{PROLOGUE.format(lock_timeout=LOCK_TIMEOUT_MS)}"
        f"INSERT INTO syncd.sync_migrations (number, name, sha256) VALUES ({values});\n\n"
        f"{migration.sql.rstrip()}\n\nCOMMIT;\n"
    )
