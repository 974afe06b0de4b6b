"""The same work straight from asyncpg: what the database can do when nothing stands before it.

Runs in the process that makes the HTTP load, so that both sides begin alike.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

import asyncpg
import uvloop

from bench.workload import Call, Recorder, pull_call
from syncd.postgres.statements import statement
from syncd.store.log import Log, Page


class Direct(NamedTuple):
    """Wall time in seconds, calls or rows made, and bytes that came."""

    seconds: float
    calls: int
    size: int


def calls(dsn: str, lanes: Sequence[Sequence[Call]], warm: int = 0) -> Direct:
    """Makes each lane's calls over its own connection. The first `warm` of each are not measured."""
    return uvloop.run(_calls(dsn, lanes, warm))


async def _calls(dsn: str, lanes: Sequence[Sequence[Call]], warm: int) -> Direct:
    connections = [await asyncpg.connect(dsn) for _ in lanes]

    async def run(connection: asyncpg.Connection, some: Sequence[Call]) -> None:
        for sql, arguments in some:
            await connection.fetch(sql, *arguments)

    try:
        await asyncio.gather(*(run(c, lane[:warm]) for c, lane in zip(connections, lanes, strict=True)))
        start = time.perf_counter()
        await asyncio.gather(*(run(c, lane[warm:]) for c, lane in zip(connections, lanes, strict=True)))
        return Direct(time.perf_counter() - start, sum(len(lane) - warm for lane in lanes), 0)
    finally:
        for connection in connections:
            await connection.close()


def pages(dsn: str, user: str, history: bool) -> Direct:
    """A fresh device's pages, each by one call of sync_pull; making the calls is not measured."""
    return uvloop.run(_pages(dsn, user, history))


async def _pages(dsn: str, user: str, history: bool) -> Direct:
    connection = await asyncpg.connect(dsn)
    try:
        key = bytes(await connection.fetchval(statement("server")))
        spent, size, count, since, more = 0.0, 0, 0, "", True
        while more:
            state, call = await pull_call(user, key, since, limit=10_000, history=history)
            start = time.perf_counter()
            page = Page(*(await connection.fetch(call.sql, *call.arguments))[0])
            spent += time.perf_counter() - start
            size, count, more = size + len(page.body), count + 1, page.more
            since = (await state.delta(Log(Recorder()), page)).synced_until
        return Direct(spent, count, size)
    finally:
        await connection.close()


def copy(dsn: str, sql: str, arguments: Sequence[object]) -> Direct:
    """COPY (sql) TO STDOUT, thrown away as it comes."""
    return uvloop.run(_copy(dsn, sql, arguments))


async def _copy(dsn: str, sql: str, arguments: Sequence[object]) -> Direct:
    connection, size = await asyncpg.connect(dsn), 0

    async def take(data: bytes) -> None:
        nonlocal size
        size += len(data)

    try:
        start = time.perf_counter()
        said = await connection.copy_from_query(sql, *arguments, output=take)
        return Direct(time.perf_counter() - start, int(said.split()[1]), size)
    finally:
        await connection.close()


def unshare(dsn: str) -> None:
    """Moves every feed's version, so that no page that a worker keeps is right: the next device is the first."""
    uvloop.run(_done(dsn, "UPDATE syncd.sync_feeds SET head = head"))


def tidy(dsn: str) -> None:
    """Vacuums and analyses, as autovacuum would have done within a minute: for both sides of a comparison. And writes
    what the load left to write, which is no part of what is measured next."""
    uvloop.run(_done(dsn, "VACUUM (ANALYZE)", "CHECKPOINT"))


async def _done(dsn: str, *queries: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for query in queries:
            await connection.execute(query)
    finally:
        await connection.close()
