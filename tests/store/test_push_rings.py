"""Pushes that share a transaction never wait in a ring with one that comes alone: by real connections, in the order in
which they would."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import asyncpg
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from syncd.store.history import History
from syncd.store.log import PushCall, Receipt
from tests.store.test_push_groups import Recording, World, change, known
from tests.support.direct import run, somebody_waits

FEED = """
    SELECT FROM syncd.sync_feeds h JOIN syncd.sync_spaces s USING (space_no)
    WHERE s.space_id = $1 FOR UPDATE OF h"""


class Counting(Recording):
    """A pool that counts how often each statement was tried."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.tries: Counter[str] = Counter()

    async def fetch(self, name: str, *arguments: Any, **more: Any) -> list[Any]:
        heard = more.pop("took", lambda seconds: None)

        def took(seconds: float) -> None:
            self.tries[name] += 1
            heard(seconds)

        return await super().fetch(name, *arguments, took=took, **more)


@pytest.fixture(scope="module")
async def pool(database: EmbeddedPostgres) -> AsyncIterator[Counting]:
    found = Counting(database.runtime_dsn, size=6, max_names=10_000)
    await found.open()
    yield found
    await found.close()


@pytest.fixture
async def world(pool: Counting, database: EmbeddedPostgres) -> World:
    found = World(pool, database.owner_dsn)
    await found.make()
    await run(database.owner_dsn, "SELECT syncd.sync_numbers_make('name', 100)")
    pool.tries.clear()
    return found


async def one_after_the_other(
    world: World, first: Coroutine[Any, Any, Any], second: Coroutine[Any, Any, Any]
) -> list[Any]:
    """What two get that both come to the feed of space 0 while another has it. The first has it next."""
    another = await asyncpg.connect(world.owner_dsn)
    try:
        async with another.transaction():
            await another.fetch(FEED, f"{world.name}0")
            tasks = [asyncio.create_task(first)]
            await somebody_waits(another)
            tasks.append(asyncio.create_task(second))
            await somebody_waits(another, behind=True)
        return await asyncio.gather(*tasks)
    finally:
        await another.close()


def with_a_new_table(world: World, user: str, device: str, table: str) -> PushCall:
    return world.call({"user": user, "client": device, "space": 0}, change("r", table=table))


async def a_single_push(world: World, user: str, device: str, table: str) -> Receipt:
    [found] = await world.log._append([with_a_new_table(world, user, device, table)], "9s")
    assert found is not None
    return found


@pytest.mark.parametrize("together", [True, False], ids=["by statements for all", "one by one"])
@pytest.mark.parametrize("others", ["another user's", "the same user's"])
async def test_a_group_waits_for_no_name_while_it_has_feeds(
    world: World, pool: Counting, together: bool, others: str
) -> None:
    """The single push has made its name, or is the one of its user that may make some, and waits for the feed."""
    group = [
        world.call({"user": "ann", "client": f"ann-{n}", "space": 0}, change(f"p{n}"))
        for n in range(5 if together else 1)
    ]
    user, device, table = ("bob", "bob-0", "new") if others == "another user's" else ("ann", "ann-9", "newer")
    table = f"{world.name}{table}"
    own = with_a_new_table(world, "ann", "ann-0", table if user == "bob" else f"{world.name}own")
    await known(world, [*group, world.call({"user": user, "client": device, "space": 0}, change())])
    pool.tries.clear()
    append = world.log._append_together if together else world.log._append
    receipts, single = await one_after_the_other(
        world, append([*group, own], "9s"), a_single_push(world, user, device, table)
    )
    assert [receipt and receipt.marks for receipt in receipts] == [*["a"] * len(group), None]
    assert single.marks == "a"
    assert sum(pool.tries.values()) == 2


async def test_a_restore_waits_for_no_name_while_it_has_the_feed(world: World, pool: Counting) -> None:
    await known(world, [world.call({"user": "ann", "client": f"ann-{n}", "space": 0}, change()) for n in (0, 9)])
    call = {
        "user": f"{world.name}ann", "client": "ann-0", "app": "app", "space": f"{world.name}0", "seq": 0,
        "target": "seq=0", "event": ["0" * 16, 0], "most": 100, "bytes": 100000, "largest": 100000, "origin": "restore",
    }  # fmt: skip
    pool.tries.clear()
    restored, single = await one_after_the_other(
        world,
        History(pool).restore(json.dumps(call).encode()),
        a_single_push(world, "ann", "ann-9", f"{world.name}new"),
    )
    assert restored.seqs
    assert single.marks == "a"
    assert sum(pool.tries.values()) == 2


async def test_what_makes_names_is_written_once_beside_its_group(world: World) -> None:
    """Apart, and with the answer of one that was never pushed before."""
    calls = [world.call({"user": "ann", "client": f"ann-{n}", "space": 0}, change(f"p{n}", id_="c")) for n in range(9)]
    await known(world, calls[:5])
    receipts = await asyncio.gather(*(world.log.push(call) for call in calls))
    assert [receipt.marks for receipt in receipts] == ["a"] * 9


async def test_the_texts_of_a_group_are_read_once_however_many_pushes_are_not_plain(
    world: World, database: EmbeddedPostgres
) -> None:
    """Against the same pushes as sync_push takes them: with one reading for each it takes some thirty times as long."""
    count, padding = 250, "x" * 8000
    call = world.call({"user": "tom", "client": "tom-0", "space": "-nowhere"}, change())
    head = {**json.loads(call.head), "grouped": True, "padding": padding}
    heads, bodies = json.dumps([head] * count), json.dumps([{**json.loads(call.waves[0])[0]}] * count)
    group = "SELECT receipts FROM syncd.sync_push_group($1::json, $2::json, '{}', '{}', '9s')"
    each = (
        "SELECT * FROM syncd.sync_push($1::jsonb, array_fill(1, ARRAY[$3::integer]), ARRAY(SELECT json_build_array(b)"
    )
    each += " FROM json_array_elements($2::json) b), '9s')"
    conn = await asyncpg.connect(database.runtime_dsn)
    took = dict.fromkeys((group, each), 1e9)
    try:
        for _ in range(3):
            for query, arguments in ((group, (heads, bodies)), (each, (heads, bodies, count))):
                began = time.perf_counter()
                await conn.fetch(query, *arguments)
                took[query] = min(took[query], time.perf_counter() - began)
    finally:
        await conn.close()
    assert took[group] < 5 * took[each], took
