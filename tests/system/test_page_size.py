"""A page is bounded, also where records are smaller as text than as they are stored."""

from __future__ import annotations

from collections.abc import Callable

from tests.wire import Device, edit

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
