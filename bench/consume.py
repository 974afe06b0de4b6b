"""Consumers: all changes of ten thousand feeds, read and acknowledged by one process; and a look that finds nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg

from bench import consume_load, direct_load
from bench.figures import Bar, Sample, Side, Work
from bench.play import alternate, show, timed
from bench.stage import Stage, console, sql

FEEDS, CHANGES, BATCH = 10_000, 20, 1000
RATE, LOOK = 50_000.0, 10.0
STAMP = {"at": "2026-11-01T00:00:00.000000Z", "clientId": "device"}
FIELDS = {
    name: {"value": value, **STAMP}
    for name, value in {
        "title": "water the plants in the hall",
        "done": False,
        "order": 17,
        "due": "2026-12-01",
    }.items()
}


def run(stage: Stage) -> list[Work]:
    """On a server of its own, which has nothing else."""
    feeds = FEEDS // 10 if stage.quick else FEEDS
    with Stage(stage.quick) as own:
        asyncio.run(_fill(own, feeds))
        own.load(direct_load.tidy, own.server.owner_dsn)
        found = [_consumed(own, feeds), _looked(own, feeds)]
    for one in found:
        show(one)
    return found


def _consumed(own: Stage, feeds: int) -> Work:
    count, dsn = feeds * CHANGES, own.server.owner_dsn

    def by(decoded: bool) -> Any:
        def play() -> Sample:
            one, used = timed(own.database, lambda: own.load(consume_load.everything, dsn, BATCH, decoded))
            if one.changes != count:
                raise RuntimeError(f"{one.changes} of {count} changes came")
            console.print(f"  [dim]{one.batches} batches; µs a change: {1e6 * used / count:.1f} of PostgreSQL, "
                          f"{1e6 * one.cpu / count:.1f} of the consumer[/]")  # fmt: skip
            return Sample(count / one.seconds, (used + one.cpu) * 1000 / count)

        return play

    what = f"consume, {feeds:,} feeds of {CHANGES} changes"
    players = {"syncd": ("read and acknowledged", by(True)), "bytes": ("as lines of JSON", by(False))}
    sides, others = alternate(own, what, own.rounds(3), players)
    bar = Bar(what="syncd", value=sides["syncd"].median, target=RATE)
    return Work(name="consume", what=what, unit="changes/s", sides=sides, bars=[bar], others=others)


def _looked(own: Stage, feeds: int) -> Work:
    milliseconds = own.load(consume_load.looks, own.server.owner_dsn, 60)
    side = Side(label="a look at all feeds that finds nothing", values=milliseconds)
    bar = Bar(what="syncd", value=side.median, target=LOOK, ceiling=True)
    return Work(name="consume_look", what=f"idle consumer, {feeds:,} feeds", unit="ms", sides={"syncd": side},
                bars=[bar], less_is_better=True)  # fmt: skip


async def _fill(own: Stage, feeds: int) -> None:
    connection = await asyncpg.connect(own.server.owner_dsn)
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute("SET LOCAL synchronous_commit = off")
            await connection.execute(sql("consume_feeds"), feeds, CHANGES, json.dumps(FIELDS))
    finally:
        await connection.close()
