"""A backend writes by the driver that it has: psycopg, awaited and not, Django's cursor, plain SQL and triggers."""

from __future__ import annotations

import asyncio
import datetime
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

import syncd
from syncd.core.errors import Busy, NotFound
from tests.support.backend import Backend, backend_of
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.wire import Device, ahead, edit, unique, values
from tests.system.sync.test_backend_writes import SEQS, put

Make = Callable[..., Device]


@pytest.fixture
async def backend(server: Server) -> AsyncIterator[Backend]:
    async with backend_of(server) as made:
        yield made


async def test_by_psycopg_that_is_not_awaited(backend: Backend, device: Make) -> None:
    ada = device(unique("ada"))

    def work() -> None:
        with psycopg.connect(backend.dsn, row_factory=dict_row) as connection:
            connection.execute(f"INSERT INTO {backend.orders} VALUES ('1', 'new')")
            [done] = syncd.write(connection, user=ada.user, app="app", changes=[put("o1", x=1)])
            assert done.status == "applied"
            changes = [put("o2", x=1), put("o2", unique("no"), x=1)]
            with pytest.raises(syncd.WriteRefused) as refused, connection.transaction():
                syncd.write(connection, user=ada.user, app="app", changes=changes)
            assert (refused.value.code, refused.value.place, refused.value.field) == ("space_not_found", 1, "spaceId")
            assert isinstance(refused.value.__cause__, psycopg.Error)
            found = syncd.read(connection, user=ada.user, app="app", table="t", id="o1")
            assert found is not None
            assert found.fields == {"x": 1}
            assert syncd.read(connection, user=ada.user, app="app", table="t", id="none") is None

    await asyncio.to_thread(work)
    assert values(ada.drain()[0]).keys() == {"o1"}
    assert await backend.ordered() == ["1"]


async def test_by_psycopg_that_is_awaited(backend: Backend, device: Make) -> None:
    ada = device(unique("ada"))
    async with await psycopg.AsyncConnection.connect(backend.dsn) as connection:
        await connection.execute(f"INSERT INTO {backend.orders} VALUES ('1', 'new')")
        [done] = await syncd.write(connection, user=ada.user, app="app", changes=[put("o1", x=1)])
        assert done.status == "applied"
        assert (await syncd.read(connection, user=ada.user, app="app")).records[0].fields == {"x": 1}
        await connection.rollback()
        with pytest.raises(NotFound):
            await syncd.read(connection, user=ada.user, app="app", space=unique("nowhere"))
    assert ada.drain()[0] == []
    assert await backend.ordered() == []


DJANGO = """
import django
from django.conf import settings
settings.configure(DATABASES={{"default": {{"ENGINE": "django.db.backends.postgresql", **{database}}}}})
django.setup()
import syncd
from django.db import connection, transaction

with transaction.atomic():
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO {orders} VALUES ('1', 'new')")
    change = {{"table": "t", "id": "o1", "fields": {{"x": 1}}}}
    [done] = syncd.write(connection, user="{user}", app="app", changes=[change])
    assert done.status == "applied"
    try:
        with transaction.atomic():
            syncd.write(connection, user="{user}", app="app", changes=[{{**change, "id": ""}}])
    except syncd.WriteRefused as refused:
        assert refused.field == "id", refused
    else:
        raise AssertionError("it was not refused")
assert syncd.read(connection, user="{user}", app="app", table="t", id="o1").fields == {{"x": 1}}
print("done")
"""


async def test_by_django(backend: Backend, device: Make) -> None:
    pytest.importorskip("django")
    ada = device(unique("ada"))
    parts = psycopg.conninfo.conninfo_to_dict(backend.dsn)
    names = {"dbname": "NAME", "user": "USER", "host": "HOST", "port": "PORT", "password": "PASSWORD"}
    database = {names[name]: value for name, value in parts.items() if name in names}
    script = DJANGO.format(database=database, orders=backend.orders, user=ada.user)
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "done\n", done.stderr
    assert values(ada.drain()[0]).keys() == {"o1"}
    assert await backend.ordered() == ["1"]


async def test_by_a_trigger_of_the_application_s(backend: Backend, device: Make, server: Server) -> None:
    ada = device(unique("ada"))
    function = f"public.{backend.role}_synced"
    await run(
        server.owner_dsn,
        f"""CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM syncd.write('app', '{ada.user}', jsonb_build_array(jsonb_build_object(
                'table', 'orders', 'id', NEW.id, 'fields', jsonb_build_object('state', NEW.state))));
            RETURN NULL;
        END $$""",
        f"CREATE TRIGGER synced AFTER INSERT OR UPDATE ON {backend.orders} FOR EACH ROW EXECUTE FUNCTION {function}()",
    )
    async with backend.connection() as connection:
        await connection.execute(f"INSERT INTO {backend.orders} VALUES ('1', 'new'), ('2', 'new')")
        await connection.execute(f"UPDATE {backend.orders} SET state = 'paid' WHERE id = '2'")
        with pytest.raises(asyncpg.PostgresError, match=r"invalid_change \(change 1, id\)"):
            await connection.execute(f"INSERT INTO {backend.orders} VALUES ('', 'new')")
    assert {name: one["state"] for name, one in values(ada.drain()[0]).items()} == {"1": "new", "2": "paid"}
    assert await backend.ordered() == ["1", "2"]
    await run(server.owner_dsn, f"DROP FUNCTION {function} CASCADE")


async def test_what_json_has_no_word_for_is_written_as_everybody_writes_it(backend: Backend, device: Make) -> None:
    ada = device(unique("ada"))
    when, which = datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC), uuid.uuid4()
    async with backend.connection() as connection:
        await syncd.write(connection, user=ada.user, app="app", changes=[put("r", at=when, day=when.date(), key=which)])
    assert values(ada.drain()[0])["r"] | {"deletedAt": None} == {
        "at": when.isoformat(), "day": "2026-01-02", "key": str(which), "deletedAt": None,
    }  # fmt: skip


async def test_a_space_is_read_in_pages_now_and_as_it_was(backend: Backend, device: Make) -> None:
    ada = device(unique("ada"))
    space = ada.create(unique("shop"))
    write = {"user": ada.user, "app": "app"}
    async with backend.connection() as connection:
        first = await syncd.write(connection, **write, changes=[put(f"r{n}", space, n=n) for n in range(5)])
        other = {"table": "u", "id": "z", "spaceId": space, "fields": {"n": 9}, "actor": {"by": "a job"}}
        await syncd.write(connection, **write, changes=[other, {**put("r0", space), "op": "delete"}])
        await syncd.write(connection, **write, changes=[put("r1", space, n="now")])
        place = {**write, "space": space}
        page = await syncd.read(connection, **place, limit=2)
        seen = [*page.records]
        while page.after is not None:
            await syncd.write(connection, **write, changes=[put("r4", space, n="meanwhile")])
            page = await syncd.read(connection, **place, limit=2, after=page.after)
            seen += page.records
        assert {r.id: r.fields["n"] for r in seen} == {"r1": "now", "r2": 2, "r3": 3, "r4": 4, "z": 9}
        only = await syncd.read(connection, **place, table="u")
        assert [(r.table, r.id) for r in only.records] == [("u", "z")]
        before = await syncd.read(connection, **place, seq=first[-1].seq)
        assert {r.id: r.fields["n"] for r in before.records} == {f"r{n}": n for n in range(5)}
        at = datetime.datetime.fromisoformat(str(await _written_at(connection, backend, space)))
        assert {r.id for r in (await syncd.read(connection, **place, at=at)).records} == {f"r{n}" for n in range(5)}
        record = await syncd.read(connection, **place, table="t", id="r1", seq=first[-1].seq)
        assert record is not None
        assert record.fields == {"n": 1}


async def _written_at(connection: asyncpg.Connection, backend: Backend, space: str) -> Any:
    """When the first call was written, by the log."""
    found = await run(
        backend._of.owner_dsn,
        "SELECT c.created_at FROM syncd.sync_changes c JOIN syncd.sync_spaces s ON s.space_no = c.space_no"
        f" WHERE s.space_id = '{space}' AND c.seq = 5",
    )
    return found[0][0].isoformat()


async def test_two_who_write_to_the_same_feeds_in_another_order_do_not_wait_in_a_ring(
    backend: Backend, device: Make, server: Server
) -> None:
    """One call locks feeds in one order, as pushes do. Of two calls in a transaction the order is the application's."""
    ada = device(unique("ada"))
    spaces = [ada.create(unique(name)) for name in "abc"]

    async def write(order: list[str], times: int) -> None:
        async with backend.connection() as connection:
            for n in range(times):
                async with connection.transaction():
                    changes = [put(f"r{n}", space, n=n) for space in order]
                    await syncd.write(connection, user=ada.user, app="app", changes=changes)

    async def push(times: int) -> None:
        for n in range(times):
            changes = [{**edit(f"p{n}", n + 1, n=n), "spaceId": space} for space in reversed(spaces)]
            await asyncio.to_thread(ada.write, *changes)

    await asyncio.gather(write(spaces, 10), write(spaces[::-1], 10), push(5))
    for space in spaces:
        assert await run(server.owner_dsn, SEQS.format(space)) == [(n,) for n in range(1, 26)]


async def test_a_ring_that_an_application_made_ends_with_busy(backend: Backend, device: Make) -> None:
    ada = device(unique("ada"))
    spaces = [ada.create(unique(name)) for name in "ab"]
    both = asyncio.Barrier(2)

    async def write(order: list[str]) -> str:
        async with backend.connection() as connection:
            try:
                async with connection.transaction():
                    await syncd.write(connection, user=ada.user, app="app", changes=[put("r", order[0], x=1)])
                    await both.wait()
                    await syncd.write(connection, user=ada.user, app="app", changes=[put("r", order[1], x=1)])
            except Busy:
                return "busy"
            return "written"

    assert sorted(await asyncio.gather(write(spaces), write(spaces[::-1]))) in (["busy", "written"], ["busy", "busy"])


async def test_what_others_wrote_since_its_snapshot_ends_a_repeatable_read_with_busy(
    backend: Backend, device: Make
) -> None:
    ada = device(unique("ada"))
    space = ada.create(unique("shop"))
    write = {"user": ada.user, "app": "app"}
    async with backend.connection() as connection:
        await syncd.write(connection, **write, changes=[put("r", space, x=1)])
        old = connection.transaction(isolation="repeatable_read")
        await old.start()
        await connection.fetchval("SELECT 1")
        await asyncio.to_thread(ada.write, {**edit("s", ahead(0), x=1), "spaceId": space})
        with pytest.raises(Busy):
            await syncd.write(connection, **write, changes=[put("r", space, x=2)])
        await old.rollback()
        async with connection.transaction(isolation="serializable"):
            [done] = await syncd.write(connection, **write, changes=[put("r", space, x=2)])
    assert done.seq == 3


async def test_with_signed_contexts_a_backend_needs_no_key(folder: Path) -> None:
    settings = {"context_key": "k" * 48}
    with Server(folder / "signed", settings=settings) as signed, httpx.Client(base_url=signed.url, timeout=60) as http:
        ada = Device(http, signed, "ada")
        space = ada.create("shop")
        assert await run(signed.owner_dsn, "SELECT syncd.sync_context_kind()") == [("signed",)]
        async with backend_of(signed) as backend, backend.connection() as connection:
            for user, code in (("ada", None), ("eve", "space_not_found")):
                write = {"user": user, "app": "app"}
                for changes in ([put("r", space, x=1), put("s", space, x=1)], [put("t", space, x=1)]):
                    done = await syncd.write(connection, **write, changes=changes, on_refused="return")
                    assert {one.code for one in done} == {code}
            found = await syncd.read(connection, user="ada", app="app", space=space)
        assert {record.id for record in found.records} == {"r", "s", "t"} == values(ada.drain()[0]).keys()
