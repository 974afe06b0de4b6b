"""What PostgreSQL can do when nothing stands before it, with as many clients: upserts of the same records.

The floor writes a record and its key, and nothing of what makes a record sync. Beside it is the old way, which took a
transaction for each change: log row and state, over four round trips. Both run in the process that makes the load.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from bench.machine import Tree

SQL = Path(__file__).parent / "sql"
# Changes a client in one batch, batches a client, clients: (id, change id, record).
Row = tuple[str, str, str]
Lanes = Sequence[Sequence[Sequence[Row]]]
Write = Callable[[asyncpg.Connection, Sequence[Row]], Awaitable[Any]]


def row(change: dict[str, Any], record: dict[str, Any]) -> Row:
    """What the floors are given of a change."""
    return change["id"], change["changeId"], json.dumps(record, separators=(",", ":"))


def make_tables(owner_dsn: str) -> None:
    """The floors' tables in the server's own database, so that both flush the same log."""
    asyncio.run(_execute(owner_dsn, (SQL / "floor_tables.sql").read_text()))


def upserts(dsn: str, lanes: Lanes, watched: Tree) -> tuple[float, float]:
    """Seconds that it took to write each batch by one statement, a transaction each; and CPU seconds of the watched.
    Neither the connections nor the first batch of each is measured."""
    return uvloop.run(_all(dsn, lanes, _upsert, watched))


def transactions(dsn: str, lanes: Lanes, watched: Tree) -> tuple[float, float]:
    """The same for each change in a transaction of its own: log row, then state."""
    return uvloop.run(_all(dsn, lanes, _transaction_each, watched))


def pgbench(bindir: Path, dsn: str, record: str, clients: int, seconds: float, watched: Tree) -> tuple[float, float]:
    """Prepared upserts a second, and CPU seconds that the watched used for each, connections not counted."""
    command = [
        str(bindir / "pgbench"), "-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-T", str(int(seconds) + 1),
        "-D", f"record={record}", "-f", str(SQL / "pgbench_upsert.sql"), dsn,
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(0.5)  # they are there by now
        used, start = watched.cpu(), time.perf_counter()
        time.sleep(seconds)
        used, passed = watched.cpu() - used, time.perf_counter() - start
        said, wrong = process.communicate()
    rate = re.search(r"tps = ([\d.]+)", said)
    if process.returncode or rate is None:
        raise RuntimeError(f"pgbench failed:\n{said}{wrong}")
    return float(rate[1]), used / passed / float(rate[1])


async def _upsert(connection: asyncpg.Connection, rows: Sequence[Row]) -> None:
    statement = UPSERT
    await connection.execute(statement, [one[0] for one in rows], [one[2] for one in rows])


async def _transaction_each(connection: asyncpg.Connection, rows: Sequence[Row]) -> None:
    for record_id, change_id, record in rows:
        async with connection.transaction():
            seq = await connection.fetchval(LOG, change_id, record_id, record)
            if seq is not None:
                await connection.execute(STATE, record_id, record, seq)


async def _all(dsn: str, lanes: Lanes, write: Write, watched: Tree) -> tuple[float, float]:
    connections = [await asyncpg.connect(dsn) for _ in lanes]

    async def lane(connection: asyncpg.Connection, batches: Sequence[Sequence[Row]]) -> None:
        for rows in batches:
            await write(connection, rows)

    try:
        await asyncio.gather(*(lane(c, some[:1]) for c, some in zip(connections, lanes, strict=True)))
        used, start = watched.cpu(), time.perf_counter()
        await asyncio.gather(*(lane(c, some[1:]) for c, some in zip(connections, lanes, strict=True)))
        return time.perf_counter() - start, watched.cpu() - used
    finally:
        for connection in connections:
            await connection.close()


async def _execute(dsn: str, text: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(text)
    finally:
        await connection.close()


UPSERT = (SQL / "floor_upsert.sql").read_text()
LOG = """INSERT INTO bench.old_log (change_id, id, record) VALUES ($1, $2, $3)
ON CONFLICT (change_id) DO NOTHING RETURNING seq"""
STATE = """INSERT INTO bench.old_state (id, record, seq) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET record = excluded.record, seq = excluded.seq WHERE old_state.seq < excluded.seq"""
