"""What `syncd.write` of one change costs beside the same INSERTs by hand. Microseconds a transaction, the ways in turn.

`python -m bench.write [ROUNDS]`. Each transaction has a row of the application's own. By hand: the feed's head, the log
and the state are written by three statements more, as the owner, whom nothing checks; and as the role that row security
binds, with the acting user set and the seq taken by the functions that there are for it. CPU is the backend's and this
process's together; the time is what the application waits, which a busy machine makes longer.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg

import syncd
from bench.push_groups import on_cpu
from bench.stage import console
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.migrate import migrate

USER, APP, TABLE = "ada", "shop", "orders"
FIELDS = {"state": "new", "lines": 3, "paid": False, "note": "leave it at the door"}
TRANSACTIONS = 200
AT = "2026-01-01T00:00:00.000000Z"
OWN = "INSERT INTO public.orders VALUES ($1, 'new')"
HEAD = "UPDATE syncd.sync_feeds SET head = head + 1 WHERE space_no = $1 AND app_no = $2 RETURNING head"
LOGGED = """
INSERT INTO syncd.sync_changes (seq, push_end, created_at, event_id, space_no, app_no, table_no, user_no, client_no, op,
                                record_id, change_id, fields)
VALUES ($1, $1, clock_timestamp(), gen_random_uuid(), $2, $3, $4, $5, $6, 1, $7, $8, $9)"""
STATE = """
INSERT INTO syncd.sync_records (seq, latest, event_id, space_no, app_no, table_no, client_no, deleted, record_id,
                                registers)
VALUES ($1, 1767225600000000, gen_random_uuid(), $2, $3, $4, $5, false, $6, $7)"""

Way = Callable[[str], Awaitable[Any]]
# Of each way and round: microseconds of PostgreSQL, of this process, and of waiting, a transaction.
Found = dict[str, list[tuple[float, float, float]]]


class Hand:
    """The statements that an application would need, prepared, on one connection."""

    def __init__(self, connection: asyncpg.Connection, numbers: dict[str, int], bound: bool) -> None:
        self.connection, self.bound = connection, bound
        self.space, self.app, self.table, self.user, self.client = (
            numbers[name] for name in ("space", APP, TABLE, USER, "_server:backend")
        )

    async def prepare(self) -> None:
        """Before the first write."""
        taking = "SELECT base + 1 FROM syncd.sync_advance($1, $2, 1)" if self.bound else HEAD
        self.own, self.taken, self.logged, self.state = [
            await self.connection.prepare(sql) for sql in (OWN, taking, LOGGED, STATE)
        ]

    async def write(self, record: str) -> None:
        """One transaction."""
        registers = {name: {"value": value, "at": AT} for name, value in {**FIELDS, "deletedAt": None}.items()}
        fields = json.dumps(registers)
        held = json.dumps({name: {**one, "clientId": "_server:backend"} for name, one in registers.items()})
        async with self.connection.transaction():
            await self.own.fetch(record)
            if self.bound:
                await self.connection.execute("SELECT syncd.sync_act_as($1)", USER)
            seq = await self.taken.fetchval(self.space, self.app)
            await self.logged.fetch(
                seq, self.space, self.app, self.table, self.user, self.client, record, f"id-{record}", fields
            )
            await self.state.fetch(seq, self.space, self.app, self.table, self.client, record, held)


async def measured(postgres: EmbeddedPostgres, rounds: int) -> Found:
    """All ways in turn; the first round is not kept."""
    owner = await asyncpg.connect(postgres.owner_dsn)
    await owner.execute(
        "CREATE ROLE shop LOGIN IN ROLE syncd_writer; CREATE TABLE public.orders (id text PRIMARY KEY, state text);"
        "GRANT ALL ON public.orders TO shop, syncd_runtime"
    )
    shop, runtime = [await asyncpg.connect(postgres.dsn(role)) for role in ("shop", "syncd_runtime")]
    change = {"table": TABLE, "fields": FIELDS}
    await syncd.write(shop, user=USER, app=APP, changes=[{**change, "id": "first"}])
    numbers = dict(await owner.fetch("SELECT name, name_no FROM syncd.sync_names"))
    numbers["space"] = await owner.fetchval("SELECT space_no FROM syncd.sync_spaces")
    by_hand, bound = Hand(owner, numbers, False), Hand(runtime, numbers, True)
    await by_hand.prepare()
    await bound.prepare()

    async def alone(record: str) -> None:
        async with shop.transaction():
            await shop.execute(OWN, record)

    async def write(record: str) -> None:
        async with shop.transaction():
            await shop.execute(OWN, record)
            await syncd.write(shop, user=USER, app=APP, changes=[{**change, "id": record}])

    ways: dict[str, tuple[asyncpg.Connection, Way]] = {
        "own row alone": (shop, alone), "by hand, as the owner": (owner, by_hand.write),
        "by hand, bound": (runtime, bound.write), "syncd.write": (shop, write),
    }  # fmt: skip
    found: Found = {way: [] for way in ways}
    for turn in range(rounds + 1):
        for way in list(ways) if turn % 2 else list(ways)[::-1]:
            figures = await _round(*ways[way], f"{way}{turn}")
            if turn:
                found[way].append(figures)
    return found


async def _round(connection: asyncpg.Connection, way: Way, name: str) -> tuple[float, float, float]:
    pid = connection.get_server_pid()
    backend, own, begun = on_cpu(pid), time.process_time_ns(), time.perf_counter_ns()
    for number in range(TRANSACTIONS):
        await way(f"{name}-{number}")
    taken = on_cpu(pid) - backend, time.process_time_ns() - own, time.perf_counter_ns() - begun
    return taken[0] / TRANSACTIONS / 1000, taken[1] / TRANSACTIONS / 1000, taken[2] / TRANSACTIONS / 1000


def _told(found: Found) -> None:
    for way, figures in found.items():
        backend, own, waited = (statistics.median(column) for column in zip(*figures, strict=True))
        console.print(f"{way:22} PostgreSQL {backend:7.0f}  Python {own:7.0f}  waited {waited:7.0f}")
    for hand in ("by hand, as the owner", "by hand, bound"):
        pairs = list(zip(found["syncd.write"], found[hand], strict=True))
        cpu = statistics.median((a[0] + a[1]) / (b[0] + b[1]) for a, b in pairs)
        waited = statistics.median(a[2] / b[2] for a, b in pairs)
        console.print(f"syncd.write / {hand}: {cpu:.2f} of its CPU, {waited:.2f} of its time")


def alone(rounds: int) -> Found:
    """Measured in a database of its own."""
    folder = Path(tempfile.mkdtemp(prefix="syncd-bench-"))
    folder.chmod(0o755)
    try:
        with EmbeddedPostgres(folder / "data") as postgres:
            asyncio.run(migrate(postgres.owner_dsn, say=lambda text: None))
            return asyncio.run(measured(postgres, rounds))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    _told(alone(int(sys.argv[1]) if len(sys.argv) > 1 else 5))


if __name__ == "__main__":
    main()
