"""What an application's backend writes in its own transaction: there with it or not at all, once, heard, in order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

import syncd
from syncd.bus.hints import Hint, decode, key
from syncd.bus.postgres import CHANNEL
from syncd.core.errors import Busy, Malformed
from tests.support.backend import Backend, backend_of
from tests.support.consuming import eventually
from tests.support.direct import run, somebody_waits
from tests.support.harness import Server
from tests.support.socket_device import socket_on
from tests.support.wire import Device, ahead, edit, unique, values

Make = Callable[..., Device]
SEQS = """
SELECT c.seq FROM syncd.sync_changes c JOIN syncd.sync_spaces s ON s.space_no = c.space_no
WHERE s.space_id = '{}' ORDER BY c.seq"""


WAITING = "SELECT array_agg(locktype ORDER BY locktype) FROM pg_locks WHERE NOT granted"
FEED = "SELECT FROM syncd.sync_feeds f JOIN syncd.sync_spaces s USING (space_no) WHERE s.space_id = $1 FOR UPDATE OF f"


@pytest.fixture
async def backend(server: Server) -> AsyncIterator[Backend]:
    async with backend_of(server) as made:
        yield made


@pytest.fixture
async def connection(backend: Backend) -> AsyncIterator[asyncpg.Connection]:
    async with backend.connection() as made:
        yield made


def put(record: str, space: str | None = None, **fields: Any) -> dict[str, Any]:
    """A change that sets fields."""
    return {"table": "t", "id": record, "fields": fields, **({"spaceId": space} if space else {})}


async def order(connection: asyncpg.Connection, backend: Backend, number: str) -> None:
    """A row of the application's own."""
    await connection.execute(f"INSERT INTO {backend.orders} VALUES ($1, 'new')", number)


async def test_a_record_and_the_row_beside_it_are_there_together(
    connection: asyncpg.Connection, backend: Backend, device: Make
) -> None:
    ada = device(unique("ada"))
    async with connection.transaction():
        await order(connection, backend, "1")
        [done] = await syncd.write(connection, user=ada.user, app="app", changes=[put("o1", state="new", n=1)])
        assert ada.drain()[0] == []
    assert (done.status, done.seq, done.space) == ("applied", 1, f"_personal:{ada.user}")
    [change] = ada.drain()[0]
    assert (change["id"], change["table"], change["seq"], change["eventId"]) == ("o1", "t", 1, done.event_id)
    assert values([change]) == {"o1": {"state": "new", "n": 1, "deletedAt": None}}
    assert change["fields"]["state"]["clientId"] == "_server:backend"
    assert await backend.ordered() == ["1"]


async def test_a_transaction_that_is_rolled_back_leaves_nothing_and_burns_no_place(
    connection: asyncpg.Connection, backend: Backend, device: Make, server: Server
) -> None:
    ada = device(unique("ada"))
    space = ada.create(unique("shop"))
    for way in ("raise", "savepoint"):
        transaction = connection.transaction()
        await transaction.start()
        await order(connection, backend, way)
        if way == "savepoint":
            inner = connection.transaction()
            await inner.start()
            await syncd.write(connection, user=ada.user, app="app", changes=[put("no", space, x=1)])
            await inner.rollback()
            await syncd.write(connection, user=ada.user, app="app", changes=[put("yes", space, x=1)])
            await transaction.commit()
        else:
            await syncd.write(connection, user=ada.user, app="app", changes=[put("no", space, x=1)])
            await transaction.rollback()
    ada.write({**edit("after", ahead(0), x=2), "spaceId": space})
    assert await run(server.owner_dsn, SEQS.format(space)) == [(1,), (2,)]
    assert values(ada.drain()[0]).keys() == {"yes", "after"}
    assert await backend.ordered() == ["savepoint"]


async def test_a_listener_hears_of_it_at_commit_and_not_before(
    connection: asyncpg.Connection, server: Server, device: Make
) -> None:
    ada, bob = device(unique("ada")), device(unique("bob"))
    space = ada.create(unique("shop"))
    ada.member(space, bob.user, "reader")
    told: list[str] = []
    listener = await asyncpg.connect(server.owner_dsn)
    await listener.add_listener(CHANNEL, lambda *said: told.append(said[3]))
    async with socket_on(server, 0, bob.user, "phone") as socket:
        await socket.subscribe("app")
        async with connection.transaction():
            await syncd.write(connection, user=ada.user, app="app", changes=[put("o1", space, state="paid")])
            await socket.fence()
            assert "o1" not in {change["id"] for change in socket.changes("app")}
        await socket.brings("o1", app="app")
    await listener.close()
    hints = [hint for payload in told if not payload.startswith("!") for hint in decode(payload)[0]]
    assert Hint("f", key(space), key("app"), 1) in hints


async def test_the_same_call_again_writes_nothing_more(connection: asyncpg.Connection, device: Make) -> None:
    ada = device(unique("ada"))
    changes = [{**put("o1", state="new"), "changeId": "order-1"}, {**put("o2", x=None), "changeId": "order-2"}]
    first = await syncd.write(connection, user=ada.user, app="app", changes=changes)
    again = await syncd.write(connection, user=ada.user, app="app", changes=changes)
    assert [one.status for one in first] == ["applied", "applied"]
    assert [(one.status, one.seq, one.event_id) for one in again] == [("duplicate", o.seq, o.event_id) for o in first]
    with pytest.raises(syncd.WriteRefused) as refused:
        await syncd.write(
            connection, user=ada.user, app="app", changes=[{**put("o1", state="x"), "changeId": "order-1"}]
        )
    assert (refused.value.code, refused.value.field, refused.value.place) == ("change_id_reused", "changeId", 0)
    [done] = await syncd.write(connection, user=ada.user, app="app", changes=changes[:1], client="mailer")
    assert done.status == "applied"  # another part of the backend, whose ids are its own
    assert sorted(change["seq"] for change in ada.drain()[0]) == [2, 3]


async def test_two_calls_at_once_with_one_id_are_one(backend: Backend, device: Make, server: Server) -> None:
    ada = device(unique("ada"))
    space = ada.create(unique("shop"))
    change = {**put("o1", space, state="new"), "changeId": "once"}

    async def write() -> str:
        async with backend.connection() as connection, connection.transaction():
            [done] = await syncd.write(connection, user=ada.user, app="app", changes=[change])
            return done.status

    assert sorted(await asyncio.gather(*(write() for _ in range(5)))) == ["applied", *["duplicate"] * 4]
    assert await run(server.owner_dsn, SEQS.format(space)) == [(1,)]


async def test_it_comes_after_all_that_the_record_has_also_where_a_clock_was_ahead(
    connection: asyncpg.Connection, device: Make
) -> None:
    ada = device(unique("ada"))
    ada.write(edit("o1", ahead(50), state="of a device whose clock is ahead", kept=1))
    await syncd.write(connection, user=ada.user, app="app", changes=[put("o1", state="sent"), put("o1", state="paid")])
    assert values(ada.drain()[0])["o1"] | {"deletedAt": None} == {"state": "paid", "kept": 1, "deletedAt": None}


async def test_an_update_does_not_bring_back_what_was_deleted_and_an_insert_does(
    connection: asyncpg.Connection, device: Make
) -> None:
    ada = device(unique("ada"))
    write = {"user": ada.user, "app": "app"}
    await syncd.write(connection, **write, changes=[put("o1", x=1)])
    await syncd.write(connection, **write, changes=[{"table": "t", "id": "o1", "op": "delete"}])
    await syncd.write(connection, **write, changes=[put("o1", x=2)])
    assert values(ada.drain()[0]) == {}
    await syncd.write(connection, **write, changes=[{**put("o1", x=3), "op": "insert"}])
    assert values(ada.drain()[0])["o1"]["x"] == 3


async def test_who_may_not_write_is_refused_and_what_else_there_is_can_go_through(
    connection: asyncpg.Connection, backend: Backend, device: Make
) -> None:
    ada, bob = device(unique("ada")), device(unique("bob"))
    space = ada.create(unique("shop"))
    ada.member(space, bob.user, "reader")
    changes = [
        put("r", unique("nowhere"), x=1),
        put("r", space, x=1),
        put("r", x=1),
        put("", x=1),
        put("r", deletedAt=1),
    ]
    with pytest.raises(syncd.WriteRefused, match="no member") as refused:
        await syncd.write(connection, user=bob.user, app="app", changes=changes[:3])
    assert (refused.value.code, refused.value.field) == ("space_not_found", "spaceId")
    async with connection.transaction():
        await order(connection, backend, "1")
        done = await syncd.write(connection, user=bob.user, app="app", changes=changes, on_refused="return")
    assert [(one.status, one.code, one.field) for one in done] == [
        ("rejected", "space_not_found", "spaceId"),
        ("rejected", "not_a_writer", "spaceId"),
        ("applied", None, None),
        ("rejected", "invalid_change", "id"),
        ("rejected", "invalid_change", "fields/deletedAt"),
    ]
    assert values(bob.drain()[0]).keys() == {"r"}
    assert await backend.ordered() == ["1"]


@pytest.mark.parametrize(
    "user",
    ["", " ada", "a\x01da", "a\u200bda", "..", "\x01" + "0" * 64 + "u" + "0" * 54 + "ada", "a" * 256, "_erased:ada"],
)
async def test_a_user_who_cannot_be_is_refused(connection: asyncpg.Connection, user: str) -> None:
    with pytest.raises(Malformed, match="user must"):
        await syncd.write(connection, user=user, app="app", changes=[put("r", x=1)])
    with pytest.raises(Malformed, match="user must"):
        await syncd.read(connection, user=user, app="app", table="t", id="r")


@pytest.mark.parametrize("client", ["_server:", "_server:c1", "_server:_server:c1"])
async def test_a_part_of_the_backend_has_no_id_of_the_servers(connection: asyncpg.Connection, client: str) -> None:
    """A revert is known by its client id."""
    run = {"actor": {"reverted": {"run": "1"}}}
    for changes in ([put("r", x=1)], [{**put("r", x=1), **run}]):
        with pytest.raises(Malformed, match="client must not begin with _server:"):
            await syncd.write(connection, user="ada", app="app", changes=changes, client=client)


async def test_a_backend_that_is_killed_between_write_and_commit_has_written_nothing(
    backend: Backend, device: Make, server: Server
) -> None:
    ada = device(unique("ada"))
    space = ada.create(unique("shop"))
    script = (
        "import asyncio, asyncpg, sys, syncd\n"
        "async def main():\n"
        f"    connection = await asyncpg.connect({backend.dsn!r})\n"
        "    await connection.transaction().start()\n"
        f"    await connection.execute(\"INSERT INTO {backend.orders} VALUES ('1', 'new')\")\n"
        f"    change = {put('o1', space, x=1)!r}\n"
        f"    await syncd.write(connection, user={ada.user!r}, app='app', changes=[change])\n"
        "    print('written', flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"written\n"
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    ada.write({**edit("next", ahead(0), x=1), "spaceId": space})  # the feed is free again, and no place is missing
    assert await run(server.owner_dsn, SEQS.format(space)) == [(1,)]
    assert values(ada.drain()[0]).keys() == {"next"}
    assert await backend.ordered() == []


async def test_a_feed_that_another_holds_is_waited_for_within_a_bound(backend: Backend, device: Make) -> None:
    ada = device(unique("ada"))
    space = ada.create(unique("shop"))
    call = {"user": ada.user, "app": "app"}
    async with backend.connection() as first, backend.connection() as second:
        transaction = first.transaction()
        await transaction.start()
        await syncd.write(first, **call, changes=[put("r1", space, x=1)])
        await second.execute("SET lock_timeout = '100ms'")
        with pytest.raises(Busy):
            await syncd.write(second, **call, changes=[put("r2", space, x=1)])
        await second.execute("SET lock_timeout = 0")
        waiting = asyncio.create_task(_write(second, call, put("r2", space, x=1)))
        await somebody_waits(first)
        await transaction.commit()
        assert (await waiting)[0].seq == 2
        assert await second.fetchval("SHOW lock_timeout") == "0"


async def _write(connection: asyncpg.Connection, call: dict[str, Any], change: Any) -> list[syncd.Written]:
    return await syncd.write(connection, **call, changes=[change])


async def test_what_cannot_be_stored_is_refused_before_it_is_sent(connection: asyncpg.Connection, device: Make) -> None:
    ada = device(unique("ada"))
    async with connection.transaction():
        for value in (float("nan"), float("inf"), "\x00", "\ud800", object()):
            with pytest.raises(Malformed):
                await syncd.write(connection, user=ada.user, app="app", changes=[put("r", x=value)])
        await syncd.write(connection, user=ada.user, app="app", changes=[put("r", x=1)])
    assert json.dumps(values(ada.drain()[0])["r"]["x"]) == "1"


async def test_what_the_log_refuses_of_a_call_is_told_of_that_change_alone(
    connection: asyncpg.Connection, device: Make, server: Server
) -> None:
    ada = device(unique("ada"))
    space = ada.create(unique("shop"))
    write = {"user": ada.user, "app": "app"}
    large = "x" * 1_000_000
    for n in range(16):
        [done] = await syncd.write(connection, **write, changes=[put("large", space, **{f"f{n}": large})])
        assert done.status == "applied"
    await run(
        server.owner_dsn,
        "UPDATE syncd.sync_feeds f SET forgotten = 1, forgotten_us = 1 FROM syncd.sync_spaces s"
        f" WHERE s.space_no = f.space_no AND s.space_id = '{space}'",
    )
    forgotten = {**put("gone", space, x=1), "op": "update"}
    for changes, codes in (
        ([put("large", space, more=large)], ["record_too_large"]),
        ([forgotten], ["record_forgotten"]),
        ([put("a", space, x=1), put("large", space, more=large), forgotten, put("b", space, x=1)],
         [None, "record_too_large", "record_forgotten", None]),
    ):  # fmt: skip
        done = await syncd.write(connection, **write, changes=changes, on_refused="return")
        assert [one.code for one in done] == codes
        with pytest.raises(syncd.WriteRefused) as refused:
            await syncd.write(connection, **write, changes=changes)
        assert refused.value.code == next(code for code in codes if code)
    found = await syncd.read(connection, **write, space=space)
    assert {record.id for record in found.records} == {"large", "a", "b"}
    assert len(await run(server.owner_dsn, SEQS.format(space))) == 18


async def test_names_are_made_before_feeds_are_locked_as_by_a_push(
    connection: asyncpg.Connection, backend: Backend, server: Server, device: Make
) -> None:
    """Whoever comes first to a new table of a busy feed: neither waits for what the other has, in a ring."""
    ada = device(unique("ada"))
    space, table = ada.create(unique("shop")), unique("new")
    ada.write({**edit("r", 1, x=1), "spaceId": space})
    await syncd.write(connection, user=ada.user, app="app", changes=[put("w", space, x=1)])
    holder = await asyncpg.connect(server.owner_dsn)
    try:
        async with holder.transaction():
            await holder.execute(FEED, space)
            change = {**put("by-the-backend", space, x=1), "table": table}
            written = asyncio.create_task(syncd.write(connection, user=ada.user, app="app", changes=[change]))
            await somebody_waits(holder)
            push = {**edit("by-a-device", 2, x=1), "spaceId": space, "table": table}
            pushed = asyncio.create_task(asyncio.to_thread(ada.write, push))
            # The device for the name that the backend makes, and not both for the feed.
            await eventually(lambda: holder.fetchval(WAITING), lambda kinds: kinds == ["transactionid"] * 2, 20)
        assert (await written)[0].status == "applied"
        await pushed
    finally:
        await holder.close()
