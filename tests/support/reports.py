"""Views for reports, for tests: made by the command, and read as a login that may nothing else."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from tests.support import command_line
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.wire import Json, unique


async def syncd(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    """`syncd …` for this server's database."""
    return await asyncio.to_thread(command_line.syncd, *words, "--database-url", server.owner_dsn)


async def done(server: Server, *words: str) -> str:
    """The same, which must succeed; what it said."""
    finished = await syncd(server, *words)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout + finished.stderr


async def schema(server: Server, app: str, **tables: Json) -> None:
    """Puts schemas in force, by SQL, as `syncd schema apply` does after it has looked at them."""
    for table, body in tables.items():
        conn = await asyncpg.connect(server.owner_dsn)
        await conn.execute("SELECT syncd.sync_schema_put($1, $2, $3)", app, table, json.dumps(body))
        await conn.close()


@asynccontextmanager
async def login(server: Server, *reads: str) -> AsyncIterator[str]:
    """The DSN of a login of its own that reads what the options say; nothing: it is no reader."""
    name = unique("bi").replace("-", "_")
    await run(server.owner_dsn, f"CREATE ROLE {name} LOGIN")
    try:
        if reads:
            await done(server, "views", "grant", name, *reads)
        yield server.dsn(name)
    finally:
        if reads:
            await syncd(server, "views", "revoke", name)
        await run(server.owner_dsn, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


async def ids(dsn: str, view: str) -> set[str]:
    """The ids of the records that a login reads in a view."""
    return {row[0] for row in await run(dsn, f'SELECT id FROM syncd_app."{view}"')}


async def columns(server: Server, view: str) -> dict[str, str]:
    """The columns of a view in their order, with their types."""
    asked = f"""SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
                WHERE attrelid = 'syncd_app."{view}"'::regclass AND attnum > 0 ORDER BY attnum"""
    found: dict[str, Any] = dict(await run(server.owner_dsn, asked))
    return found
