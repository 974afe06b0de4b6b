"""Growth: what a push costs the database as the log grows, and as the push grows.

Two databases, so that what the small one has to search is small: the log stays at 10,000 rows in one and grows
to 2,000,000 in the other. Both hold one feed, ten changes to each record. Half of a push edits records.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from typing import Any, NamedTuple

import asyncpg

from bench.figures import Work, measure, ratio
from bench.play import show
from bench.stage import Stage, console, sql
from bench.workload import TABLE, Device
from syncd.postgres.migrate import migrate

SMALL = 10_000
YOUNG = 50_000
STEPS = (10_000, 100_000, 500_000, 2_000_000)
SIZES = (1, 10, 100, 1000)
BATCH = 100
TARGET = 1.1
EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) "
AN_HOUR = 3_600_000_000


class Cost(NamedTuple):
    """Of one push, as the database says: milliseconds, and buffers touched."""

    millis: float
    buffers: int


class Feed:
    """A database with one feed, its loader (superuser) and its writer (the runtime role)."""

    def __init__(self, stage: Stage, name: str) -> None:
        self._stage, self._name, self._rows = stage, f"bench_{name}", 0
        self._first = Device(name, f"space-{name}")
        self._writer: asyncpg.Connection | None = None

    async def create(self) -> None:
        """Makes the database, the schema, the space, and with a first push the feed and the names."""
        server = self._stage.server
        maker = await asyncpg.connect(server.owner_dsn)
        await maker.execute(f'CREATE DATABASE "{self._name}"')
        await maker.close()
        await migrate(server.dsn("postgres", self._name), say=lambda text: None)
        self._owner = await asyncpg.connect(server.dsn("postgres", self._name))
        await self.reconnect()
        assert self._writer is not None
        async with self._writer.transaction():
            await self._writer.execute("SELECT syncd.sync_act_as($1, true)", self._first.user)
            await self._writer.execute("SELECT syncd.sync_space_create($1, $1)", self._first.space)
        await self.push(self._first, 1)

    async def fill(self, rows: int, *, unseen: bool = False) -> None:
        """Appends to the log up to `rows` rows, with the records and the head that go with them.

        `unseen`: without the statistics and the new connection, as where a server's first minute is a busy one.
        """
        names = (self._first.space, TABLE, self._first.user, self._first.client)
        at = await self._owner.fetchrow(sql("growth_names"), *names)
        space, app, table, user, client, head = at
        stamp = time.time_ns() // 1000 - AN_HOUR
        fields = json.loads(self._first.push(1))["changes"][0]["fields"]
        registers = {name: {**register, "clientId": self._first.client} for name, register in fields.items()}
        async with self._owner.transaction():
            await self._owner.execute("SET LOCAL session_replication_role = replica")
            await self._owner.execute("SET LOCAL synchronous_commit = off")
            arguments = (space, app, table, user, client, head, rows, json.dumps(fields))
            await self._owner.execute(sql("growth_changes"), *arguments)
            await self._owner.execute(sql("growth_records"), space, app, head, rows, json.dumps(registers), stamp)
            await self._owner.execute(sql("growth_head"), space, app, rows)
        self._rows = rows
        if not unseen:
            await self._owner.execute("VACUUM (ANALYZE)")
            await self._owner.execute("CHECKPOINT")
            await self.reconnect()

    async def leave_alone(self) -> None:
        """No statistics until somebody asks for them."""
        for table in ("sync_changes", "sync_records", "sync_feeds"):
            await self._owner.execute(f"ALTER TABLE syncd.{table} SET (autovacuum_enabled = off)")

    def device(self, name: str, *, spread: bool = False) -> Device:
        """Another device of the user. It holds the records of the last 10,000 rows, or all of them."""
        first = 1 if spread else max(1, (self._rows - SMALL) // 10 + 1)
        held = [f"018f6d2c-7a3b-7000-9000-{n:012x}" for n in range(first, self._rows // 10 + 1)]
        device = Device(self._first.user, self._first.space, edits=2, held=held)
        device.client = name
        return device

    async def push(self, device: Device, size: int, *, by: asyncpg.Connection | None = None) -> Cost:
        """Pushes, over the feed's own connection or another, and says what it cost."""
        writer = by or self._writer
        assert writer is not None
        call = (await device.prepared([device.push(size)]))[0]
        plan = json.loads(await writer.fetchval(EXPLAIN + call.sql, *call.arguments))[0]
        top = plan["Plan"]
        return Cost(plan["Execution Time"], top["Shared Hit Blocks"] + top["Shared Read Blocks"])

    async def reconnect(self, *, keep: bool = False) -> asyncpg.Connection:
        """A connection whose plans are made of what the tables hold now; the one before is closed, or kept."""
        if self._writer is not None and not keep:
            await self._writer.close()
        self._writer = await asyncpg.connect(self._stage.server.dsn("syncd_runtime", self._name))
        return self._writer

    async def close(self) -> None:
        await self._owner.close()
        if self._writer is not None:
            await self._writer.close()


def run(stage: Stage) -> tuple[list[Work], dict[str, Any]]:
    """The measures at the largest log, and both curves."""
    found, curves = asyncio.run(_run(stage))
    for one in found:
        show(one)
    for point in curves["size"]:
        console.print(
            f"  a push of {point['changes']:>5,}: {point['millis']:8.2f} ms, {point['buffers']:>7,.0f} buffers"
        )
    return found, curves


async def _run(stage: Stage) -> tuple[list[Work], dict[str, Any]]:
    small, large = Feed(stage, "small"), Feed(stage, "large")
    steps = (10_000, 100_000) if stage.quick else STEPS
    curve: list[dict[str, float]] = []
    found: list[Work] = []
    with stage.progress(f"log growing to {steps[-1]:,} rows", len(steps) + 1) as step:
        for feed in (small, large):
            await feed.create()
        await small.fill(SMALL)
        for rows in steps:
            await large.fill(rows)
            found, point = await _compared(small, large, rows, 11 if stage.quick else 31)
            curve.append(point)
            step(f"{rows:,} rows: {point['millis']:.2f} ms a push of {BATCH}")
        sizes = await _sizes(large, 5 if stage.quick else 11)
        found.append(await _unseen(stage, small))
    for feed in (small, large):
        await feed.close()
    return found, {"growth": curve, "size": sizes}


async def _unseen(stage: Stage, small: Feed) -> Work:
    """Connections that planned while the tables were young, in a database that was never analysed: the dearest."""
    young = Feed(stage, "young")
    await young.create()
    await young.leave_alone()
    first, planned = young.device("first"), list[asyncpg.Connection]()
    for _ in range(8):
        planned.append(await young.reconnect(keep=True))
        await young.push(first, BATCH)
    await young.fill(YOUNG, unseen=True)
    dearest = max([(await young.push(first, BATCH, by=one)).buffers for one in planned])
    usual = (await _in_turn(young, small, "unseen", False, 5))[1]
    for one in planned[:-1]:
        await one.close()
    await young.close()
    return measure(
        "growth_unseen", f"push of {BATCH} into {YOUNG:,} rows, planned when they were few and never analysed",
        [dearest], [statistics.median(c.buffers for c in usual)], unit="buffers",
        against=f"into {SMALL:,} analysed", target=TARGET, ceiling=True,
    )  # fmt: skip


async def _compared(small: Feed, large: Feed, rows: int, rounds: int) -> tuple[list[Work], dict[str, float]]:
    """Pushes of 100 to both in turn: edits of what is recent, then of records from all over the log."""
    found: list[Work] = []
    point: dict[str, float] = {"rows": rows}
    for kind, spread in (("recent", False), ("spread", True)):
        ours, theirs = await _in_turn(small, large, f"{kind}-{rows}", spread, rounds)
        what = f"push of {BATCH} into {rows:,} rows, edits of {'records from all over' if spread else 'recent records'}"
        against, late = f"into {SMALL:,}", "_spread" if spread else ""
        pairs = ("growth" + late, "ms", "millis"), ("growth" + late + "_buffers", "buffers", "buffers")
        for name, unit, part in pairs:
            mine, other = [float(getattr(c, part)) for c in ours], [float(getattr(c, part)) for c in theirs]
            found.append(measure(name, what, mine, other, unit=unit, against=against, target=TARGET, ceiling=True))
            medians = (one.median for one in found[-1].sides.values())
            point[part + late], point[f"small_{part}{late}"] = medians
            point[f"ratio_{part}{late}"] = ratio(mine, other)
    return found, point


async def _in_turn(small: Feed, large: Feed, name: str, spread: bool, rounds: int) -> tuple[list[Cost], list[Cost]]:
    writers = [(feed, feed.device(name, spread=spread)) for feed in (large, small)]
    costs: list[list[Cost]] = [[], []]
    for n in range(rounds + 3):
        for i, (feed, device) in enumerate(writers):
            cost = await feed.push(device, BATCH)
            if n >= 3:
                costs[i].append(cost)
    return costs[0], costs[1]


async def _sizes(feed: Feed, rounds: int) -> list[dict[str, float]]:
    """What pushes of several sizes cost at the largest log, in turn."""
    device, costs = feed.device("sizes"), {size: list[Cost]() for size in SIZES}
    for _ in range(rounds):
        for size in SIZES:
            costs[size].append(await feed.push(device, size))
    return [
        {"changes": size, "millis": statistics.median(c.millis for c in some),
         "buffers": statistics.median(c.buffers for c in some)}
        for size, some in costs.items()
    ]  # fmt: skip
