"""Compaction as a test does it: over the real tables, everything old enough at once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg

from syncd.service.compact import Archive, Compaction, CompactionReport, Policy
from syncd.store.compaction import Compactor

ALL = timedelta(seconds=-2)  # also what was written at this very instant


async def compact(
    dsn: str, space: str | None = None, *, history: timedelta = ALL, tombstones: timedelta | None = None,
    archive: Archive | None = None, devices: timedelta | None = timedelta(days=365),
) -> CompactionReport:  # fmt: skip
    """One run as an operator, without rests."""
    connection = await asyncpg.connect(dsn)
    try:
        compactor = Compactor(connection)
        assert await compactor.take()
        policy = Policy(history, tombstones, space, devices=devices)
        work = Compaction(compactor, policy, datetime.now(UTC), archive=archive, rest=0)
        report = await work.run(await work.plan())
        await compactor.give_back()
        return report
    finally:
        await connection.close()


def compact_now(dsn: str, space: str | None = None, **how: timedelta | None) -> CompactionReport:
    """The same, for tests that are not asynchronous."""
    return asyncio.run(compact(dsn, space, **how))  # type: ignore[arg-type]
