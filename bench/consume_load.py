"""A consumer at work, in the process that makes the load: all that there is, read and acknowledged."""

from __future__ import annotations

import os
import statistics
import time
from contextlib import aclosing
from typing import NamedTuple
from uuid import uuid4

import asyncpg
import uvloop

from syncd.consumers import consume
from syncd.store.consumers import ConsumerOperator, ConsumerSession

NAME = "bench"


class Consumed(NamedTuple):
    """Wall time and this process's CPU, in seconds; and how many changes came, in how many batches."""

    seconds: float
    cpu: float
    changes: int
    batches: int


def everything(dsn: str, rows: int, decoded: bool) -> Consumed:
    """Has the consumer begin again and hands out all. `decoded`: the changes are read, else they stay bytes."""
    return uvloop.run(_everything(dsn, rows, decoded))


async def _everything(dsn: str, rows: int, decoded: bool) -> Consumed:
    connection = await asyncpg.connect(dsn)
    operator = ConsumerOperator(connection)
    if not await operator.reset(NAME, "beginning"):
        await operator.add(NAME, "syncd_consumer", None, None, "beginning")
    await connection.execute("VACUUM ANALYZE syncd.sync_consumer_feeds")
    await connection.close()
    start, cpu, changes, count = time.perf_counter(), _cpu(), 0, 0
    async with aclosing(consume(NAME, database=dsn, batch=rows, wait=False)) as batches:
        async for batch in batches:
            changes += len(batch.changes) if decoded else batch.ndjson().count(b"\n")
            count += 1
            await batch.ack()
    return Consumed(time.perf_counter() - start, _cpu() - cpu, changes, count)


def _cpu() -> float:
    times = os.times()
    return times.user + times.system


def looks(dsn: str, count: int) -> list[float]:
    """Milliseconds of looks at all feeds, in which nothing is found."""
    return uvloop.run(_looks(dsn, count))


async def _looks(dsn: str, count: int) -> list[float]:
    connection, found = await asyncpg.connect(dsn), list[float]()
    session = ConsumerSession(connection, NAME, uuid4())
    await session.lease(60, True)
    for _ in range(count):
        start = time.perf_counter()
        if await session.look(1000):
            raise RuntimeError("there was something to consume")
        found.append((time.perf_counter() - start) * 1000)
    await session.leave()
    await connection.close()
    return [statistics.median(found[n::3]) for n in range(3)]
