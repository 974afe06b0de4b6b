"""G19: what only the log finds, while it writes a push, is held as well; and the look for what may be written by now is
cheap, whatever is held."""

from __future__ import annotations

import json
from collections.abc import Callable

import asyncpg

from tests.support.compacting import ALL, compact_now
from tests.support.harness import Server
from tests.support.holding import change, held, outcomes, reasons
from tests.support.wire import Device, ahead, at, edit, unique

Make = Callable[..., Device]

CALLS = ("sync_held_due(NULL)", "sync_held_waiting(0, 20)", "sync_held_number()")
PAGES = "SELECT pg_relation_size('syncd.sync_held') / current_setting('block_size')::integer"


async def test_a_record_that_would_be_too_large_takes_no_more_and_what_is_too_much_is_held(
    server: Server, device: Make
) -> None:
    old = device(unique("old"), legacy=True)
    old.write(change("r", n=1))
    conn = await asyncpg.connect(server.owner_dsn)
    try:  # a device would need sixteen pushes for it
        await conn.execute(
            "UPDATE syncd.sync_records SET registers = jsonb_set(registers, '{n,value}', $2) "
            "WHERE space_no = (SELECT space_no FROM syncd.sync_spaces WHERE space_id = $1)",
            f"_personal:{old.user}",
            json.dumps("x" * 15_700_000),
        )
    finally:
        await conn.close()
    more = [change("r", when=9, **{f"g{n}": "x" * 1_000_000}) for n in range(2)]
    assert outcomes(old.push(*more, change("s", n=1))) == ["applied", "record_too_large", "applied"]
    assert outcomes(old.push(*more, change("s", n=1))) == ["duplicate", "record_too_large", "duplicate"]
    assert [row["change"] for row in held(old)] == more[1:]


def test_a_change_to_a_record_whose_deletion_is_forgotten_is_held(server: Server, device: Make) -> None:
    old = device(unique("old"), legacy=True)
    space = old.create(unique("space"))
    old.write(change("r", space, n=1))
    gone = {"table": "t", "id": "r", "op": "delete", "deletedAt": at(2), "spaceId": space}
    old.write(gone)
    compact_now(server.owner_dsn, space, tombstones=ALL)
    late = change("r", space, when=3, n=2)
    made = {"table": "t", "id": "s", "op": "insert", "data": {"n": 1, "createdAt": ahead(0)}, "spaceId": space}
    assert outcomes(old.push(late, made)) == ["record_forgotten", "applied"]
    assert outcomes(old.push(late, made)) == ["record_forgotten", "duplicate"]
    assert (reasons(old), held(old)[0]["change"]) == (["record_forgotten"], late)
    assert {row["id"] for row in old.drain()[0]} == {"s"}


def test_a_change_id_that_another_change_has_is_held(device: Make) -> None:
    old = device(unique("old"), legacy=True)
    first, second = edit("r", 1, change_id="c", n=1), edit("r", 2, change_id="c", n=2)
    old.write(first)
    assert outcomes(old.push(second, change("s", n=1))) == ["change_id_reused", "applied"]
    assert held(old)[0]["change"] == second


async def hold(conn: asyncpg.Connection, user: int, count: int) -> None:
    """Changes for three spaces that there are not, some 14 a page."""
    await conn.execute(
        "INSERT INTO syncd.sync_held (user_no, client_id, app, space_id, reason, received_at, size, change) "
        "SELECT $1, 'c', 'app', concat('nowhere', n % 3), 'space_not_found', now(), 1, repeat('x', 500) "
        "FROM generate_series(1, $2::integer) n",
        user,
        count,
    )


async def blocks(conn: asyncpg.Connection, call: str) -> int:
    """What a call reads, once the catalogs are known: the least of some."""
    found = []
    for _ in range(3):
        plan = json.loads(await conn.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM syncd.{call}"))
        found.append(plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"])
    return min(found)


async def test_the_look_for_what_may_be_written_reads_each_space_once(server: Server, device: Make) -> None:
    old, owner = device(unique("old"), legacy=True), device(unique("owner"))
    space = owner.create(unique("space"))
    old.write(change("r", n=1))
    conn = await asyncpg.connect(server.owner_dsn)
    transaction = conn.transaction()
    await transaction.start()
    try:
        user = await conn.fetchval("SELECT name_no FROM syncd.sync_names WHERE name = $1", old.user)
        await hold(conn, user, 5_000)
        await conn.execute("DELETE FROM syncd.sync_held WHERE user_no = $1", user)
        await hold(conn, user, 20)
        await conn.execute("ANALYZE syncd.sync_held")  # the statistics are of when many had been released
        await hold(conn, user, 5_000)
        first = [await blocks(conn, call) for call in CALLS]
        pages = await conn.fetchval(PAGES)
        await hold(conn, user, 15_000)
        pages = await conn.fetchval(PAGES) - pages
        for call, before in zip(CALLS, first, strict=True):
            more = await blocks(conn, call) - before
            assert more < pages / 4, f"{call} reads {more} blocks more where {pages} more are held"
        number = await conn.fetchval("SELECT syncd.sync_held_number()")
        assert number > 1000, "of many it is an estimate, but many"
        await conn.execute(
            "UPDATE syncd.sync_held SET space_id = $2 WHERE user_no = $1 AND space_id = 'nowhere1'", user, space
        )
        waits = "SELECT user_no, user_id FROM syncd.sync_held_waiting($1, $2)"
        assert [tuple(row) for row in await conn.fetch(waits, user - 1, 1)] == [(user, old.user)]
        assert user not in [row[0] for row in await conn.fetch(waits, user, 1000)]
        due = "SELECT user_id, client_id, app FROM syncd.sync_held_due($1)"
        assert await conn.fetch(due, [user]) == []
        join = "INSERT INTO syncd.sync_memberships (user_no, space_no, role) SELECT $1, space_no, 'writer' "
        await conn.execute(f"{join} FROM syncd.sync_spaces WHERE space_id = $2", user, space)
        for users in ([user], None):
            assert (old.user, "c", "app") in [tuple(row) for row in await conn.fetch(due, users)]
    finally:
        await transaction.rollback()
        await conn.close()


async def test_a_take_and_a_page_read_what_they_answer(server: Server, device: Make) -> None:
    """Not all that waits behind it, where what they answer is large."""
    old = device(unique("old"), legacy=True)
    space = old.create(unique("space"))
    conn = await asyncpg.connect(server.owner_dsn)
    transaction = conn.transaction()
    await transaction.start()
    try:
        user = await conn.fetchval("SELECT syncd.sync_act_as($1)", old.user)
        mine = f"'{old.user}', 'c', 'app'"
        calls = [f"sync_held_of_device({mine}, NULL, 20)", f"sync_held_list('{old.user}', 'app', 0, 20)"]
        moved = "UPDATE syncd.sync_held SET space_id = $2, size = 300000 WHERE user_no = $1"
        await hold(conn, user, 1_000)
        await conn.execute(moved, user, space)
        assert [len(await conn.fetch(f"SELECT * FROM syncd.{call}")) for call in calls] == [14, 14]
        first = [await blocks(conn, call) for call in calls]
        await hold(conn, user, 8_000)
        await conn.execute(moved, user, space)
        for call, before in zip(calls, first, strict=True):
            more = await blocks(conn, call) - before
            assert more < 100, f"{call} reads {more} blocks more where 8,000 more wait"
    finally:
        await transaction.rollback()
        await conn.close()
