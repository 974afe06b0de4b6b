"""A page is bounded, also where records are smaller as text than as they are stored."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

import asyncpg
import pytest

from syncd.store.backup import ExportFeed, ExportPage, Snapshot, snapshot_of
from syncd.transfer.export import pieces
from tests.support.harness import Server
from tests.support.wire import Device, edit

RECORDS, LIMIT = 6_000, 5_000


def test_a_page_ends_at_its_limit_when_its_text_just_fits_the_bytes(device: Callable[..., Device]) -> None:
    writer = device("page-size")
    fields = {f"f{n}": n % 2 == 0 for n in range(4)}  # true and false are larger in jsonb, beside their keys
    fields["text"] = "x" * 26  # 5,000 of these take 2.2 MB as stored and 2.05 as text, about the 2 MiB of a page
    for start in range(0, RECORDS, 1000):
        writer.push(*(edit(f"r{start + n}", **fields) for n in range(1000)), pull=False)
    seen = []
    for kind in ({}, {"history": "1"}):
        since, more = "", True
        sizes = []
        while more:
            page = device("page-size", "reader").pull(since, limit=LIMIT, **kind)
            since, more = page["syncedUntil"], page["hasMore"]
            sizes.append(len(page["serverChanges"]))
        seen.append(sizes)
        assert sum(sizes) == RECORDS
        assert max(sizes) <= LIMIT
    assert all(len(sizes) > 1 for sizes in seen)


async def test_an_export_of_large_changes_looks_at_few_more_than_fit(
    server: Server, device: Callable[..., Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = device("large-changes")
    for start in range(0, 300, 100):
        writer.push(*(edit(f"r{start + n}", text=f"{n} " * 5000) for n in range(100)), pull=False)
    looked, page = list[int](), Snapshot.page

    async def watched(snapshot: Snapshot, feed: ExportFeed, after: int, rows: int) -> ExportPage:
        looked.append(rows)
        return await page(snapshot, feed, after, rows)

    monkeypatch.setattr(Snapshot, "page", watched)
    connection = await asyncpg.connect(server.runtime_dsn)
    try:
        async with (
            snapshot_of(connection, "large-changes") as snapshot,
            aclosing(pieces(snapshot, await snapshot.feeds())) as found,
        ):
            held = [piece.events async for piece in found]
    finally:
        await connection.close()
    assert sum(held) == 300
    assert len(held) > 3
    assert max(looked[1:]) < 2 * max(held) + 50 < 300
