"""The database without a server: as SQL, by whichever role."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import asyncpg


async def run(dsn: str, *statements: str) -> list[Any]:
    """What the last of some statements answers."""
    conn = await asyncpg.connect(dsn)
    try:
        rows: list[Any] = []
        for statement in statements:
            rows = [tuple(row) for row in await conn.fetch(statement)]
        return rows
    finally:
        await conn.close()


def pushed(who: str, space: str, record: str, value: object = 1, client: str = "c1") -> str:
    """A push of one change: the first goes the long way, the second the short one."""
    register = {"value": value, "at": "2026-01-01T00:00:00.000000Z"}
    instant = 1767225600000000
    head = {
        "user": who, "client": client, "app": "app", "n": 1, "spaces": [space], "tables": ["t"], "ids": [None],
        "hi": instant, "skew": 60000000, "largest": 100000,
    }  # fmt: skip
    change = {
        "i": 1, "s": 1, "t": 1, "r": record, "o": 1, "e": str(uuid4()), "f": {"x": register},
        "g": {"x": {**register, "clientId": client}}, "lo": instant, "hi": instant,
    }  # fmt: skip
    return (
        f"SELECT marks FROM syncd.sync_push('{json.dumps([head])}', ARRAY[1],"
        f" ARRAY['{json.dumps([change])}']::pg_catalog.json[])"
    )


async def somebody_waits(conn: Any, *, behind: bool = False) -> None:
    """Returns when a statement waits for a lock that this connection has, or `behind` one that waits for it."""
    waiting = "SELECT pid FROM pg_locks WHERE NOT granted AND {} && pg_blocking_pids(pid)"
    if behind:
        waiting = waiting.format(f"ARRAY({waiting})")
    for _ in range(6000):
        if await conn.fetchval(waiting.format("ARRAY[pg_backend_pid()]")):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nothing ever waited")
