"""Compaction as a test does it: over the real tables, everything old enough at once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from syncd.service.compact import Archive, Compaction, CompactionReport, Policy
from syncd.store.compaction import Compactor
from tests.support.wire import Device, at, edit, unique

ALL = timedelta(seconds=-2)  # also what was written at this very instant


async def compact(
    dsn: str, space: str | None = None, *, history: timedelta = ALL, tombstones: timedelta | None = None,
    archive: Archive | None = None, devices: timedelta | None = timedelta(days=365),
) -> CompactionReport:  # fmt: skip
    """One run as an operator, without rests."""
    connection = await asyncpg.connect(dsn)
    try:
        return await compacted(connection, Policy(history, tombstones, space, devices=devices), archive)
    finally:
        await connection.close()


async def compacted(connection: Any, policy: Policy, archive: Archive | None = None) -> CompactionReport:
    """The same over a connection."""
    compactor = Compactor(connection)
    assert await compactor.take()
    work = Compaction(compactor, policy, datetime.now(UTC), archive=archive, rest=0)
    report = await work.run(await work.plan())
    await compactor.give_back()
    return report


def compact_now(dsn: str, space: str | None = None, **how: timedelta | None) -> CompactionReport:
    """The same, for tests that are not asynchronous."""
    return asyncio.run(compact(dsn, space, **how))  # type: ignore[arg-type]


def write_much(device: Device, space: str = "") -> None:
    """Records a to e, whose fields x and y are written again and again; d is deleted, e deleted and brought back."""
    more = {"spaceId": space} if space else {}
    for n in range(1, 31):
        device.write(*({**edit(record, n, x=f"{record}{n}"), **more} for record in "abcde"))
        if n % 10 == 0:
            device.write(*({**edit(record, n, y=n), **more} for record in "abcde"))
    for record in "de":
        device.write({"table": "t", "id": record, "op": "delete", "deletedAt": at(40), "changeId": unique("k"), **more})
    device.write({**edit("e", 50, x="again", deletedAt=None), **more})
