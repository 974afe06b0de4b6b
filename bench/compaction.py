"""Compaction: a new device's first sync beside a long history, pushes while the log is folded, and what it frees.

Two feeds of equally many records in the server's own database: one whose log has a change for each, one that was edited
for long. Both are pulled by a fresh device; then the long one is folded while a device pushes into it at a steady rate.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import asyncpg

from bench import direct_load, http_load
from bench.figures import Work, measure
from bench.paced import paced
from bench.play import show
from bench.stage import Stage, console, sql
from bench.workload import TABLE, Device, pull_request
from syncd.service.compact import Compaction, CompactionReport, Policy
from syncd.store.compaction import Compactor

RECORDS, CHANGES = 100_000, 2_000_000
RATE, CALM = 50, 40.0
SAME, TWICE = 1.15, 2.0


class Sizes(NamedTuple):
    """Bytes of log and state, with their indexes; and how many changes there are."""

    log: int
    state: int
    changes: int


def run(stage: Stage) -> tuple[list[Work], dict[str, Any]]:
    """First syncs before and after, pushes meanwhile."""
    records, changes = (RECORDS // 10, CHANGES // 10) if stage.quick else (RECORDS, CHANGES)
    short, long = (stage.devices(name, 1, edits=0)[0] for name in ("short", "long"))
    with stage.progress(f"a history of {changes:,} changes to {records:,} records", 2) as step:
        for device, rows in ((short, records), (long, changes)):
            asyncio.run(_fill(stage, device, rows, records))
            step(f"{rows:,} changes")
        stage.load(direct_load.tidy, stage.server.owner_dsn)
    before = asyncio.run(_sizes(stage))
    fresh = _bootstrap(stage, short, long, records)
    calm, busy, report, seconds = _pushed(stage, long, records)
    asyncio.run(_vacuum(stage))
    after = asyncio.run(_sizes(stage))
    folded = _bootstrap(stage, short, long, records)
    found = [
        measure("bootstrap", f"fresh device, {records:,} records, {changes:,} changes of history", fresh[1], fresh[0],
                unit="s", against="a change each", target=SAME, ceiling=True),
        measure("bootstrap_folded", "the same after compaction, and pushes to half of it", folded[1], fresh[1],
                unit="s", against="before", target=SAME, ceiling=True),
        measure("compaction_push", f"99 % of pushes in 5 s while {report.looked:,} changes are folded", [busy], [calm],
                unit="ms", against="before", target=TWICE, ceiling=True,
                note=f"{report.looked / seconds:,.0f} changes/s, rests included"),
    ]  # fmt: skip
    for one in found:
        show(one)
    console.print(f"  {report.dropped:,} of {report.looked:,} changes dropped in {seconds:.0f} s; "
                  f"log {before.log / 1e6:,.0f} MB, {before.changes:,} changes; of {after.changes:,} now")  # fmt: skip
    points = [
        {
            "log": sizes.log,
            "changes": sizes.changes,
            "bytes": sizes.log / max(1, sizes.changes),
            "seconds": found[n].sides["syncd"].median,
        }
        for n, sizes in enumerate((before, after))
    ]
    return found, {"compaction": points}


async def _fill(stage: Stage, device: Device, rows: int, records: int) -> None:
    """A log of `rows` changes, as if it had been written during the last day."""
    first = json.loads(device.push(1))["changes"][0]["fields"]
    body = device.push(1)
    load = stage.load(http_load.prebuilt, stage.server.port, [[device.request(stage.token(device), body)]])
    assert load.applied == 1
    registers = {name: {**register, "clientId": device.client} for name, register in first.items()}
    owner = await asyncpg.connect(stage.server.owner_dsn)
    try:
        space, app, table, user, client, _ = await owner.fetchrow(
            sql("growth_names"), device.space, TABLE, device.user, device.client
        )
        async with owner.transaction():
            await owner.execute("SET LOCAL session_replication_role = replica")
            await owner.execute("SET LOCAL synchronous_commit = off")
            await owner.execute("SET LOCAL statement_timeout = 0")
            arguments = (space, app, table, user, client, rows, records, json.dumps(first))
            await owner.execute(sql("compaction_changes"), *arguments)
            stamp = time.time_ns() // 1000 - 3_600_000_000
            await owner.execute(sql("compaction_records"), space, app, records - 1, json.dumps(registers), stamp)
            await owner.execute(sql("growth_head"), space, app, rows)
    finally:
        await owner.close()


def _bootstrap(stage: Stage, short: Device, long: Device, records: int) -> tuple[list[float], list[float]]:
    """Seconds of fresh pulls of both feeds, in turn."""
    seconds: tuple[list[float], list[float]] = ([], [])
    rounds = stage.rounds(5)
    with stage.progress(f"first sync of {records:,} records", rounds) as step:
        for turn in range(rounds + 1):
            for device, found in zip((short, long), seconds, strict=True):
                before, after = pull_request(stage.token(device), "@").split(b"@")
                load = stage.load(http_load.pages, stage.server.port, before, after)
                if load.failed:
                    raise RuntimeError(f"not all came: {load}")
                if turn:
                    found.append(load.seconds)
            if turn:
                step(f"{seconds[1][-1]:.2f} s, {seconds[0][-1]:.2f} s with a short history")
    return seconds


def _pushed(stage: Stage, device: Device, records: int) -> tuple[float, float, CompactionReport, float]:
    """What 99 % of pushes of ten took, in milliseconds, before and while the log is folded; what that did."""
    stop = Path(stage.server.data_dir) / "bench-stop"
    token = stage.token(device)
    held = [f"018f6d2c-7a3b-7000-9000-{n:012x}" for n in range(records)]
    writer = Device(device.user, device.space, edits=1, held=held)
    requests = [writer.request(token, writer.push(10)) for _ in range(int(RATE * 600))]
    half = int(RATE * CALM)
    with stage.progress(f"{RATE} pushes a second", 2) as step:
        calm = median(stage.load(paced, stage.server.port, requests[:half], RATE, stop))
        step(f"{calm:.1f} ms (99 %) before")
        found: list[tuple[CompactionReport, float]] = []

        def compact() -> None:
            found.append(asyncio.run(_compact(stage, device.space)))
            stop.touch()

        thread = threading.Thread(target=compact)
        thread.start()
        busy = median(stage.load(paced, stage.server.port, requests[half:], RATE, stop))
        thread.join()
        step(f"{busy:.1f} ms (99 %) meanwhile")
    stop.unlink()
    return calm, busy, *found[0]


async def _compact(stage: Stage, space: str) -> tuple[CompactionReport, float]:
    connection = await asyncpg.connect(stage.server.owner_dsn)
    try:
        compactor = Compactor(connection)
        if not await compactor.take():
            raise RuntimeError("somebody else compacts")
        work = Compaction(compactor, Policy(timedelta(0), space=space), datetime.now(UTC))
        started = time.perf_counter()
        report = await work.run(await work.plan())
        await compactor.give_back()
        return report, time.perf_counter() - started
    finally:
        await connection.close()


async def _vacuum(stage: Stage) -> None:
    connection = await asyncpg.connect(stage.server.owner_dsn)
    await Compactor(connection).vacuum()
    await connection.close()


async def _sizes(stage: Stage) -> Sizes:
    connection = await asyncpg.connect(stage.server.owner_dsn)
    try:
        log, state = await Compactor(connection).sizes()
        return Sizes(log, state, await connection.fetchval(sql("compaction_count")))
    finally:
        await connection.close()
