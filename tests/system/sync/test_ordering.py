"""G4: a feed's seqs are gapless and in commit order, and every reader gets every change, whatever its page size.

Twelve writers push batches of 1 to 400 into two spaces, some into both at once, while readers page by 1, 3, 37.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.support.device import Change, Device, statuses
from tests.support.harness import Server

WRITERS, PUSHES = 12, 7
SIZES = (1, 1, 2, 3, 7, 20, 60, 150, 400)
PAGES = (1, 3, 37)


class Reader:
    """Follows the log from its beginning with pages of one size, until told that the writers are done."""

    def __init__(self, device: Device, limit: int, *, history: bool = True) -> None:
        self.device, self.limit, self.history = device, limit, history
        self.pages: list[list[Change]] = []
        self.cursors: list[str] = []
        self.done = asyncio.Event()

    @property
    def stream(self) -> list[Change]:
        return [change for page in self.pages for change in page]

    async def follow(self) -> None:
        """Reads on; once the writers are done, until there is nothing more."""
        since = ""
        while True:
            last = self.done.is_set()
            query = {"history": 1} if self.history else {}
            page = await self.device.pull(since, limit=self.limit, **query)
            self.pages.append(page["serverChanges"])
            since = page["syncedUntil"]
            self.cursors.append(since)
            if last and not page["hasMore"]:
                return
            if not page["hasMore"]:
                await asyncio.sleep(0.01)


async def write(device: Device, name: str, seed: int) -> list[tuple[str, int]]:
    """Pushes batches, and notes (space, size) of each; a change says which push it came with, of what size."""
    chance = random.Random(seed)
    pushed = []
    for number in range(PUSHES):
        size = chance.choice(SIZES)
        spaces = chance.choice((["one"], ["two"], ["one", "two"]))
        changes = []
        for space in spaces:
            value = {"push": f"{name}-{number}", "size": size}
            ids = [f"{name}-{number}-{space}-{i}" for i in range(size)]
            changes += [device.change(i, i, value, space=space) for i in ids]
            pushed.append((space, size))
        chance.shuffle(changes)
        assert set(statuses(await device.push(changes))) == {"applied"}
    return pushed


def by_space(changes: list[Change]) -> dict[str, list[Change]]:
    """Changes by their space, in the order they came."""
    found: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        found[change["spaceId"]].append(change)
    return found


def value(change: Change) -> dict[str, Any]:
    """What a change wrote."""
    written: dict[str, Any] = change["fields"]["value"]["value"]
    return written


@pytest.fixture(scope="module")
async def run(workspace: Path) -> dict[str, Any]:
    """Writers and readers at once on two workers, and what the readers saw."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    with Server(workspace / "ordering", workers=2) as server:
        async with Device(server, "owner") as owner:
            names = {f"writer-{n}": "writer" for n in range(WRITERS)}
            for space in ("one", "two"):
                await owner.create_space(space, **names, follower="reader")
        writers = [Device(server, name, f"{name}-device") for name in names]
        followers = [Device(server, "follower", f"pages-of-{limit}") for limit in (*PAGES, PAGES[-1])]
        readers = [Reader(device, limit) for device, limit in zip(followers, PAGES, strict=False)]
        fresh = Reader(followers[-1], PAGES[-1], history=False)
        following = [asyncio.create_task(reader.follow()) for reader in (*readers, fresh)]
        work = (write(device, device.user, seed + n) for n, device in enumerate(writers))
        pushed = [push for pushes in await asyncio.gather(*work) for push in pushes]
        for reader in (*readers, fresh):
            reader.done.set()
        await asyncio.gather(*following)
        late = Reader(followers[0], 1000)
        late.done.set()
        await late.follow()
        for device in (*writers, *followers):
            await device.close()
    return {"pushed": pushed, "readers": readers, "fresh": fresh, "late": late, "seed": seed}


def test_seqs_run_from_one_without_gap_or_repetition(run: dict[str, Any]) -> None:
    total: Counter[str] = Counter()
    for space, size in run["pushed"]:
        total[space] += size
    assert min(total.values()) > 0
    for reader in run["readers"]:
        seen = by_space(reader.stream)
        for space, count in total.items():
            assert [change["seq"] for change in seen[space]] == list(range(1, count + 1)), reader.limit


def test_every_page_size_yields_the_same_stream(run: dict[str, Any]) -> None:
    expected = by_space(run["late"].stream)
    for reader in run["readers"]:
        assert by_space(reader.stream) == expected, reader.limit


def test_no_page_splits_a_push(run: dict[str, Any]) -> None:
    for reader in (*run["readers"], run["late"], run["fresh"]):
        for page in reader.pages:
            whole: Counter[tuple[str, str]] = Counter()
            for change in page:
                whole[change["spaceId"], value(change)["push"]] += 1
            for change in page:
                assert whole[change["spaceId"], value(change)["push"]] == value(change)["size"], reader.limit


def test_what_one_push_wrote_in_a_feed_has_consecutive_seqs(run: dict[str, Any]) -> None:
    for changes in by_space(run["late"].stream).values():
        places: dict[str, list[int]] = defaultdict(list)
        for change in changes:
            places[value(change)["push"]].append(change["seq"])
        for seqs in places.values():
            assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


def test_a_limit_is_kept_but_for_the_push_that_crosses_it(run: dict[str, Any]) -> None:
    for reader in run["readers"]:
        for page in reader.pages:
            sizes = [value(change)["size"] for change in page]
            assert len(page) < reader.limit + max(sizes, default=0)


def test_a_device_that_began_with_the_state_meanwhile_has_every_record_once(run: dict[str, Any]) -> None:
    ids = [change["id"] for change in run["fresh"].stream]
    assert len(ids) == len(set(ids))
    assert set(ids) == {change["id"] for change in run["late"].stream}


def test_a_readers_cursors_never_go_back(run: dict[str, Any]) -> None:
    for reader in run["readers"]:
        instants = [cursor[:27] for cursor in reader.cursors]
        assert instants == sorted(instants)


def test_the_readers_read_while_the_writers_wrote(run: dict[str, Any]) -> None:
    assert all(len(reader.pages) > 10 for reader in run["readers"])
    for reader in run["readers"]:
        with_changes = [page for page in reader.pages if page]
        assert len(with_changes) > 5, reader.limit
