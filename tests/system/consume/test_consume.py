"""G26: a consumer is handed each change at least once, in the order of its feed, whoever writes and whoever dies."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta

import asyncpg
import pytest

from syncd.consumers import BatchLost, ConsumedChange, UnknownConsumer, consume
from syncd.consumers import consumer as consumer_module
from syncd.consumers import lines as lines_module
from syncd.consumers.consumer import Consumer, ConsumerOptions
from syncd.store.consumers import ConsumerOperator
from tests.support.compacting import compact
from tests.support.consuming import all_of, batches_of, eventually, first_of
from tests.support.direct import pushed, run
from tests.support.harness import Server
from tests.support.wire import Device, edit, unique

Make = Callable[..., Device]
WAITING = """
SELECT FROM pg_stat_activity WHERE application_name LIKE 'syncd consume %' AND query LIKE '%sync_consume_read%'
    AND wait_event_type = 'Lock'"""


def of(changes: list[ConsumedChange], *spaces: str) -> list[tuple[str, int]]:
    """The places of changes in these spaces, as they came."""
    return [(change.space_id, change.seq) for change in changes if change.space_id in spaces]


async def reset(server: Server, name: str, begins: str) -> None:
    connection = await asyncpg.connect(server.owner_dsn)
    assert await ConsumerOperator(connection).reset(name, begins)
    await connection.close()


def two_spaces(device: Make) -> tuple[Device, str, str]:
    ada = device(unique("ada"), app=unique("app"))
    return ada, ada.create(unique("one")), ada.create(unique("two"))


async def test_every_change_comes_once_and_in_order(server: Server, device: Make) -> None:
    ada, one, two = two_spaces(device)
    for n in range(30):
        ada.write({**edit(f"r{n % 7}", n + 1, x=n), "spaceId": (one, two)[n % 2]})
    name = unique("c")
    found = await all_of(name, server.owner_dsn, app=ada.app, start="beginning", batch=4)
    assert of(found, one) == [(one, seq) for seq in range(1, 16)]
    assert of(found, two) == [(two, seq) for seq in range(1, 16)]
    first = found[0]
    assert (first.user_id, first.client_id, first.app_id, first.table) == (ada.user, "c1", ada.app, "t")
    assert first.values == {"x": 0} or first.values == {"x": 1}
    assert first.created_at is not None
    assert await all_of(name, server.owner_dsn) == []
    ada.write({**edit("r9", 99, x=99), "spaceId": one})
    (last,) = await all_of(name, server.owner_dsn)
    assert (last.space_id, last.seq, last.values) == (one, 16, {"x": 99})


async def test_a_consumer_asks_once_whether_a_pooler_stands_between(
    server: Server, device: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, one, _ = two_spaces(device)
    ada.write({**edit("r", 1, x=1), "spaceId": one})
    asked = []
    real = lines_module.through_pooler

    async def counted(connection: asyncpg.Connection) -> bool:
        asked.append(await real(connection))
        return asked[-1]

    monkeypatch.setattr(lines_module, "through_pooler", counted)
    assert of(await all_of(unique("c"), server.owner_dsn, app=ada.app, start="beginning"), one) == [(one, 1)]
    assert asked == [False]


async def test_a_batch_is_of_whole_pushes(server: Server, device: Make) -> None:
    ada, one, _ = two_spaces(device)
    for push in range(5):
        ada.write(*({**edit(f"r{push}-{n}", n + 1, x=push), "spaceId": one} for n in range(7)))
    found = await batches_of(unique("c"), server.owner_dsn, app=ada.app, start="beginning", batch=3)
    assert [[change.values["x"] for change in batch.changes] for batch in found] == [[push] * 7 for push in range(5)]


@pytest.mark.parametrize("start", ["beginning", "state"])
async def test_each_change_has_its_own_names_however_many_a_feed_has(server: Server, device: Make, start: str) -> None:
    ada, one, _ = two_spaces(device)
    written = set[tuple[str, str, str]]()
    for n in range(5):
        other = device(unique("bob"), app=ada.app, client=unique("laptop"))
        ada.member(one, other.user)
        for table in (f"a{n}", f"b{n}"):
            other.write({**edit(f"r{n}", n + 1, x=n), "table": table, "spaceId": one})
            written.add((other.user, other.client, table))
    found = await all_of(unique("c"), server.owner_dsn, app=ada.app, start=start)
    assert len(found) == len(written) == 10
    assert {(change.user_id, change.client_id, change.table) for change in found} == written


@pytest.mark.parametrize("start", ["now", "state", "beginning"])
async def test_a_new_consumer_begins_where_it_says(server: Server, device: Make, start: str) -> None:
    ada, one, two = two_spaces(device)
    ada.write({**edit("r", 1, x=1), "spaceId": one})
    ada.write({**edit("r", 2, x=2, y=2), "spaceId": one})
    ada.write({**edit("gone", 3, x=3), "spaceId": one})
    ada.write({"table": "t", "id": "gone", "op": "delete", "spaceId": one, "deletedAt": "2026-01-02T00:00:00.000000Z"})
    name = unique("c")
    found = await all_of(name, server.owner_dsn, app=ada.app, start=start)
    told = [(change.seq, change.state, change.op, change.values) for change in found]
    assert told == {
        "now": [],
        "state": [(2, True, "insert", {"x": 2, "y": 2})],
        "beginning": [
            (1, False, "update", {"x": 1}), (2, False, "update", {"x": 2, "y": 2}), (3, False, "update", {"x": 3}),
            (4, False, "delete", {}),
        ],
    }[start]  # fmt: skip
    # A feed that is made later is read from its beginning, in any case.
    ada.write({**edit("r", 5, x=5), "spaceId": two})
    ada.write({**edit("r", 6, x=6), "spaceId": one})
    assert sorted(of(await all_of(name, server.owner_dsn), one, two)) == sorted([(one, 5), (two, 1)])


async def test_the_state_is_read_in_parts_while_it_changes(server: Server, device: Make) -> None:
    ada, one, _ = two_spaces(device)
    for n in range(40):
        ada.write({**edit(f"r{n}", n + 1, x=n), "spaceId": one})
    records, first = dict[str, object](), True
    async with aclosing(
        consume(unique("c"), database=server.owner_dsn, app=ada.app, start="state", batch=10, wait=False)
    ) as batches:
        async for batch in batches:
            for change in batch.changes:
                if change.op == "delete":
                    records.pop(change.id, None)
                else:
                    records[change.id] = change.values["x"]
            if first:  # some that were handed out already, and one that was not
                ada.write(*({**edit(f"r{n}", 100 + n, x=-n), "spaceId": one} for n in (3, 4, 39)))
                at = "2026-01-02T00:00:00.000000Z"
                ada.write({"table": "t", "id": "r5", "op": "delete", "spaceId": one, "deletedAt": at})
            first = False
            await batch.ack()
    assert records == {f"r{n}": -n if n in (3, 4, 39) else n for n in range(40) if n != 5}


async def test_the_next_batch_is_asked_for_before_this_one_is_worked_on(server: Server, device: Make) -> None:
    ada, one, _ = two_spaces(device)
    for n in range(6):
        ada.write({**edit(f"r{n}", n + 1, x=n), "spaceId": one})

    async def waiting() -> list[object]:
        return await run(server.owner_dsn, WAITING)

    locker = await asyncpg.connect(server.owner_dsn)
    options = ConsumerOptions([ada.app], None, "beginning", 1, 15.0)
    consumer = Consumer(unique("c"), server.owner_dsn, options)
    await consumer.open()
    first = await consumer.next()
    assert first is not None
    assert consumer._coming is not None
    await first.ack()
    await asyncio.wait([consumer._coming])
    async with locker.transaction():
        await locker.execute("LOCK TABLE syncd.sync_changes")
        batch = await consumer.next()
        # As work does that waits for nothing: this loop stands still meanwhile.
        reading = threading.Thread(target=asyncio.run, args=(eventually(waiting, bool, 20),), daemon=True)
        reading.start()
        reading.join()
        assert await waiting()
    assert batch is not None
    assert [change.seq for change in batch.changes] == [2]
    await consumer.close()
    await locker.close()


async def test_what_is_not_acknowledged_comes_again(server: Server, device: Make) -> None:
    ada, one, _ = two_spaces(device)
    ada.write(*({**edit(f"r{n}", n + 1, x=n), "spaceId": one} for n in range(5)))
    name = unique("c")
    async with aclosing(consume(name, database=server.owner_dsn, app=ada.app, start="beginning")) as batches:
        first = await first_of(batches)
        assert (first.attempt, len(first.changes)) == (1, 5)
        again = await first_of(batches)
        assert (again.attempt, of(again.changes, one)) == (2, of(first.changes, one))
    # Neither does it count when the process goes.
    assert len(await all_of(name, server.owner_dsn)) == 5


async def test_apps_and_tables_that_were_not_named_do_not_come(server: Server, device: Make) -> None:
    ada, one, _ = two_spaces(device)
    other = device(ada.user, app=unique("app"))
    for n, table in enumerate(("pages", "marks", "pages", "other")):
        ada.write({**edit(f"r{n}", n + 1, x=n), "table": table, "spaceId": one})
        other.write({**edit(f"r{n}", n + 1, x=n), "table": table, "spaceId": one})
    name = unique("c")
    found = await all_of(name, server.owner_dsn, app=ada.app, tables=["pages", "never"], start="beginning")
    assert [(change.app_id, change.table, change.seq) for change in found] == [
        (ada.app, "pages", 1),
        (ada.app, "pages", 3),
    ]
    with pytest.raises(ValueError, match="is registered for other apps"):
        await all_of(name, server.owner_dsn, app=other.app)
    # What was passed over was acknowledged too.
    lags = await run(server.owner_dsn, f"SELECT changes FROM syncd.sync_consumer_lags() WHERE name = '{name}'")
    assert lags == [(0,)]


async def test_a_handler_s_table_may_be_altered_meanwhile(server: Server, device: Make) -> None:
    """A statement that was kept prepared fails once in a transaction, and that would end the consumer."""
    ada, one, _ = two_spaces(device)
    for n in range(4):
        ada.write({**edit(f"r{n}", n + 1, x=n), "spaceId": one})
    table = f"public.{unique('altered')}".replace("-", "_")
    await run(server.owner_dsn, f"CREATE TABLE {table} (id text PRIMARY KEY)")
    name, rounds = unique("c"), 0
    async with aclosing(
        consume(name, database=server.owner_dsn, app=ada.app, start="beginning", batch=1, wait=False)
    ) as batches:
        async for batch in batches:
            async with batch.transaction() as connection:
                assert await connection.fetch(f"SELECT * FROM {table} WHERE id = $1", "x") == []
            rounds += 1
            await run(server.owner_dsn, f"ALTER TABLE {table} ADD COLUMN c{rounds} text")
    assert rounds == 4


async def test_a_push_that_commits_late_is_not_missed(server: Server, device: Make) -> None:
    """Others were numbered and read meanwhile, and its feed had no head then."""
    ada, one, two = two_spaces(device)
    app = "app"
    ada = device(ada.user, app=app)
    ada.write({**edit("r", 1, x=1), "spaceId": two})
    name = unique("c")
    late = await asyncpg.connect(server.runtime_dsn)
    transaction = late.transaction()
    await transaction.start()
    await late.execute(pushed(ada.user, one, "late"))
    ada.write({**edit("r", 2, x=2), "spaceId": two})
    async with aclosing(consume(name, database=server.owner_dsn, app=app, start="beginning")) as batches:
        ada.write({**edit("r", 3, x=3), "spaceId": two})
        found = list[tuple[str, int]]()
        while (two, 3) not in found:
            batch = await first_of(batches)
            found += of(batch.changes, one, two)
            await batch.ack()
        assert found == [(two, 1), (two, 2), (two, 3)]
        await transaction.commit()
        await late.close()
        while (one, 1) not in found:
            batch = await first_of(batches)
            found += of(batch.changes, one, two)
            await batch.ack()
    assert found == [(two, 1), (two, 2), (two, 3), (one, 1)]


async def test_an_idle_consumer_hears_of_a_push(server: Server, device: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, one, _ = two_spaces(device)
    name = unique("c")
    assert await all_of(name, server.owner_dsn, app=ada.app) == []
    monkeypatch.setattr(consumer_module, "LOOK_EVERY", 1000.0)  # not by looking
    async with aclosing(consume(name, database=server.owner_dsn)) as batches:
        coming = asyncio.ensure_future(first_of(batches))
        for n in (1, 2):  # the first is of a feed that it has never heard of
            ada.write({**edit("r", n, x=n), "spaceId": one})
            batch = await coming
            assert of(batch.changes, one) == [(one, n)]
            await batch.ack()
            coming = asyncio.ensure_future(first_of(batches))
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def test_processes_share_the_feeds(server: Server, device: Make) -> None:
    ada = device(unique("ada"), app=unique("app"))
    spaces = [ada.create(unique("s")) for _ in range(12)]
    name, found = unique("c"), defaultdict[str, list[tuple[str, int]]](list)
    done = asyncio.Event()

    async def work(who: str) -> None:
        async with aclosing(consume(name, database=server.owner_dsn, app=ada.app, start="beginning", lease=1.5)) as own:
            async for batch in own:
                found[who] += of(batch.changes, *spaces)
                await batch.ack()
                if len(found["a"]) + len(found["b"]) >= 120:
                    done.set()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work("a")), group.create_task(work("b"))]
        for n in range(10):
            for space in spaces:
                await asyncio.to_thread(ada.write, {**edit("r", n + 1, x=n), "spaceId": space})
        await asyncio.wait_for(done.wait(), 60)
        for task in tasks:
            task.cancel()
    for who in "ab":
        for space in spaces:
            seqs = [seq for found_space, seq in found[who] if found_space == space]
            assert seqs == sorted(set(seqs))
    assert sorted(found["a"] + found["b"]) == sorted((space, seq) for space in spaces for seq in range(1, 11))
    assert found["a"]
    assert found["b"]


async def test_who_lost_the_lease_cannot_acknowledge(server: Server, device: Make) -> None:
    """Its feeds were given to another process, which is handed the same; or the consumer begins again."""
    ada, one, _ = two_spaces(device)
    ada.write(*({**edit(f"r{n}", n + 1, x=n), "spaceId": one} for n in range(5)))
    name = unique("c")
    frozen = consume(name, database=server.owner_dsn, app=ada.app, start="beginning", lease=1.5)
    batch = await first_of(frozen)
    # Nobody has heard of it for long.
    await run(server.owner_dsn, "UPDATE syncd.sync_consumer_holders SET expires_at = '-infinity'")
    assert len(await all_of(name, server.owner_dsn)) == 5
    with pytest.raises(BatchLost):
        async with batch.transaction():
            raise AssertionError("it began")
    with pytest.raises(RuntimeError):
        await batch.ack()
    await frozen.aclose()
    ada.write({**edit("r", 9, x=9), "spaceId": one})
    async with aclosing(consume(name, database=server.owner_dsn)) as batches:
        batch = await first_of(batches)
        await reset(server, name, "beginning")
        with pytest.raises(BatchLost):
            await batch.ack()
        assert of((await first_of(batches)).changes, one) == [(one, seq) for seq in range(1, 7)]


async def test_behind_what_was_folded_the_state_comes_and_is_told(server: Server, device: Make) -> None:
    ada, one, two = two_spaces(device)
    name = unique("c")
    ada.write({**edit("a", 1, x=1), "spaceId": one})
    ada.write({**edit("b", 1, x=1), "spaceId": one})
    assert len(await all_of(name, server.owner_dsn, app=ada.app, start="beginning")) == 2
    for n in range(2, 6):
        ada.write({**edit("a", n, x=n), "spaceId": one})
        ada.write({**edit("c", n, x=n), "spaceId": two})
    await compact(server.owner_dsn, one)
    ada.write({**edit("a", 9, y=9), "spaceId": one})
    (batch,) = await batches_of(name, server.owner_dsn)
    assert [(reset.space_id, reset.app_id, reset.whole) for reset in batch.reset] == [(one, ada.app, False)]
    told = [(change.seq, change.state, change.values) for change in batch.changes if change.space_id == one]
    assert told == [(7, True, {"x": 5, "y": 9})]
    assert of(batch.changes, two) == [(two, seq) for seq in range(1, 5)]
    ada.write({**edit("a", 10, x=10), "spaceId": one})
    (batch,) = await batches_of(name, server.owner_dsn)
    assert (batch.reset, [change.state for change in batch.changes]) == ([], [False])


async def test_behind_a_deletion_that_was_forgotten_all_comes_again(server: Server, device: Make) -> None:
    ada, one, _ = two_spaces(device)
    name = unique("c")
    ada.write({**edit("a", 1, x=1), "spaceId": one}, {**edit("b", 1, x=1), "spaceId": one})
    assert len(await all_of(name, server.owner_dsn, app=ada.app, start="beginning")) == 2
    ada.write({"table": "t", "id": "a", "op": "delete", "spaceId": one, "deletedAt": "2026-01-02T00:00:00.000000Z"})
    await compact(server.owner_dsn, one, tombstones=timedelta(seconds=-2))
    (batch,) = await batches_of(name, server.owner_dsn)
    assert [reset.whole for reset in batch.reset] == [True]
    assert [(change.id, change.state) for change in batch.changes] == [("b", True)]
    assert b'{"reset":true,"spaceId":' in batch.ndjson()


async def test_a_restart_of_the_database_is_outlived(workspace: object, folder: object) -> None:
    with Server(folder / "restarted") as server:  # type: ignore[operator]
        import httpx

        with httpx.Client(base_url=server.url, timeout=60) as http:
            ada = Device(http, server, "ada")
            ada.write(edit("r", 1, x=1))
            async with aclosing(consume("c", database=server.owner_dsn, start="beginning", lease=60)) as batches:
                first = await first_of(batches)
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
                await first.ack()
                coming = asyncio.ensure_future(first_of(batches))
                await asyncio.to_thread(ada.write, edit("r", 2, x=2))
                assert [change.seq for change in (await coming).changes] == [2]


async def test_only_an_operator_registers(server: Server) -> None:
    role = unique("login").replace("-", "_")
    await run(server.owner_dsn, f"CREATE ROLE {role} LOGIN IN ROLE syncd_consumer")
    with pytest.raises(UnknownConsumer, match="syncd consumers add"):
        await all_of(unique("c"), server.dsn(role))
    await run(server.owner_dsn, f"DROP ROLE {role}")
