"""The first generation's table as a view over the log, for SQL users: `syncd migrate --legacy-view`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import asyncpg

from syncd.postgres.migrate import LOCK_TIMEOUT_MS, _as_owner, _locked
from syncd.postgres.schema_files import MigrationError, named_parts
from syncd.postgres.sessions import OPERATOR, connect

VIEW = "public.sync_changes"
INDEXES = ("by_author", "by_record")
KIND = """\
SELECT c.relkind::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relname = 'sync_changes'"""
OWNER = "SELECT quote_ident(pg_get_userbyid(nspowner)) FROM pg_namespace WHERE nspname = 'syncd'"
MAY_CREATE = (
    "SELECT has_schema_privilege((SELECT nspowner FROM pg_namespace WHERE nspname = 'syncd'), 'public', 'CREATE')"
)
# What an index build that was interrupted leaves is no index, and in the way of the next.
INVALID = """\
SELECT FROM pg_index i WHERE i.indexrelid = to_regclass($1) AND NOT i.indisvalid"""


async def make_view(dsn: str, *, say: Callable[[str], object] = print) -> None:
    """Make the view and its two indexes, or bring them up to date. May run again; nothing waits for the indexes.

    Raises:
        MigrationError: a table has the view's name, or the database refuses.
    """
    parts = named_parts("legacy_view.sql")
    conn = await connect(dsn, settings=OPERATOR, statement_cache_size=0, timeout=30)
    try:
        if await conn.fetchval(KIND) not in (None, "v"):
            raise MigrationError(
                f"{VIEW} is a table", "Import it, then rename it: ALTER TABLE sync_changes RENAME TO sync_changes_old;"
            )
        await _locked(conn, partial(_put_view, conn, parts))
        say(f"made the view {VIEW}: GRANT syncd_sql TO those that use it")
        await conn.execute(f"SET ROLE {await conn.fetchval(OWNER)}")
        for name in INDEXES:
            if await conn.fetch(INVALID, f"syncd.sync_changes_{name}"):
                await conn.execute(f"DROP INDEX CONCURRENTLY syncd.sync_changes_{name}")
            await conn.execute(parts[name])
            say(f"made the index sync_changes_{name}")
    except asyncpg.PostgresError as error:
        raise MigrationError(
            f"{VIEW} failed: {error}", "Connect as a superuser, or as who may create roles."
        ) from error
    finally:
        await conn.close()


async def _put_view(conn: Any, parts: dict[str, str]) -> None:
    await conn.execute(parts["role"])
    owner, lent = await conn.fetchval(OWNER), not await conn.fetchval(MAY_CREATE)
    if lent:
        await conn.execute(f"GRANT CREATE ON SCHEMA public TO {owner}")
    await _as_owner(conn, partial(conn.execute, parts["policy"] + parts["view"]), LOCK_TIMEOUT_MS)
    await conn.execute("RESET ROLE")
    if lent:
        await conn.execute(f"REVOKE CREATE ON SCHEMA public FROM {owner}")
