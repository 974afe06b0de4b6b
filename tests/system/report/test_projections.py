"""A copy with indexes for reports has what the state has: filled behind pushes, through kills and erasures."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from syncd.cli.doctor import examine
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.settings import Settings
from tests.support.consuming import eventually
from tests.support.direct import run, somebody_waits
from tests.support.harness import Server
from tests.support.reports import columns, done, login, schema, syncd
from tests.support.wire import Device, Json, edit, unique

INDEXED: Json = {"type": "string", "x-index": True}
SCHEMA: Json = {
    "properties": {
        "state": INDEXED,
        "size": {"type": "integer"},
        "due": {"type": "string", "format": "date", "x-index": True},
    }
}
FILL = "SELECT syncd.sync_projections_fill(NULL, 1000)"
WAITS = "SELECT coalesce(sum(changes), 0)::integer FROM syncd.sync_projection_lags() WHERE name = '{}'"


class Table:
    """A table of an app of its own, with a user, a space, and a login that reads it."""

    def __init__(self, server: Server, http: httpx.Client) -> None:
        self.server, self.app = server, unique("app").replace("-", "")
        self.view = f"{self.app}_t"
        self.ada = Device(http, server, unique("ada"), app=self.app)
        self.space = self.ada.create(unique("s"))

    def write(self, record: str, when: int | str = 1, **fields: Any) -> None:
        self.ada.write({**edit(record, when, **fields), "spaceId": self.space})

    def delete(self, record: str) -> None:
        self.ada.write({"table": "t", "id": record, "op": "delete", "spaceId": self.space, "changeId": unique("c")})

    async def apply(self, body: Json = SCHEMA) -> str:
        await schema(self.server, self.app, t=body)
        return await done(self.server, "views", "apply")

    async def filled(self) -> None:
        """Waits until the projection lacks nothing."""
        await eventually(lambda: run(self.server.owner_dsn, WAITS.format(self.view)), lambda rows: rows == [(0,)])

    async def read(self, dsn: str, *, asked: str = "*") -> tuple[list[Any], list[Any]]:
        """What is in the view, and in the one with indexes."""
        both = [
            await run(dsn, f"SELECT {asked} FROM syncd_app.{view} ORDER BY id")
            for view in (self.view, f"{self.view}_indexed")
        ]
        return both[0], both[1]

    async def where(self, record: str) -> str:
        """The condition for one record of the state."""
        number = f"SELECT space_no FROM syncd.sync_spaces WHERE space_id = '{self.space}'"
        [(space,)] = await run(self.server.owner_dsn, number)
        return f"space_no = {space} AND record_id = '{record}'"

    async def erasing(self, record: str) -> str:
        """What empties a field of a record where it stands."""
        emptied = "UPDATE syncd.sync_records SET registers = jsonb_set(registers, '{state,value}', 'null')"
        return f"{emptied} WHERE {await self.where(record)}"

    async def projection(self) -> str:
        [(number,)] = await run(
            self.server.owner_dsn, f"SELECT projection_id FROM syncd.sync_report_views WHERE app = '{self.app}'"
        )
        return f"syncd.sync_projection_{number}"


@pytest.fixture(scope="module")
def served(workspace: Path) -> Any:
    """A server, which fills, and its connections."""
    with Server(workspace / "projections") as server, httpx.Client(base_url=server.url, timeout=60) as http:
        asyncio.run(Table(server, http).apply())  # the first of a database makes policies, and waits for who writes
        yield server, http


@pytest.fixture
async def table(served: tuple[Server, httpx.Client]) -> AsyncIterator[Table]:
    made = await asyncio.to_thread(Table, *served)
    yield made
    await run(served[0].owner_dsn, f"SELECT syncd.sync_schema_put('{made.app}', 't', NULL)")


async def test_it_has_what_there_is_and_what_comes(table: Table) -> None:
    table.write("a", state="open", size=1, due="2026-02-01")
    said = await table.apply()
    assert f"{table.app}/t: made syncd_app.{table.view}_indexed, with indexes on state, due" in said
    async with login(table.server, "--user", table.ada.user) as dsn:
        assert (await table.read(dsn, asked="state, size, due::text"))[1] == [("open", 1, "2026-02-01")]
        table.write("b", state="done", size=2)
        table.write("a", 2, state="packed")
        table.delete("b")
        await table.filled()
        exact, copy = await table.read(dsn)
        assert exact == copy
        assert [row[-1] for row in copy] == [False, True]
        assert [row[-2] for row in copy] == [table.ada.user] * 2
    assert await columns(table.server, table.view) == await columns(table.server, f"{table.view}_indexed")
    assert f"syncd_app.{table.view}" in await done(table.server, "views", "list")


async def test_each_sees_its_own_in_it(table: Table, served: tuple[Server, httpx.Client]) -> None:
    table.write("a", state="open")
    await table.apply()
    other = Device(served[1], served[0], unique("eve"), app=table.app)
    other.write({**edit("b", state="open"), "table": "t"})
    await table.filled()
    for user, seen in ((table.ada.user, ["a"]), (other.user, ["b"]), (unique("nobody"), [])):
        async with login(table.server, "--user", user) as dsn:
            found = await run(dsn, f"SELECT id FROM syncd_app.{table.view}_indexed WHERE state = 'open'")
            assert [row[0] for row in found] == seen
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await run(dsn, f"SELECT * FROM {await table.projection()}")
    found = await run(table.server.owner_dsn, "SET ROLE syncd_views", f"SELECT * FROM {await table.projection()}")
    assert found == []
    forced = "SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = '{}'::regclass"
    assert await run(table.server.owner_dsn, forced.format(await table.projection())) == [(True, True)]


async def test_an_index_is_used_under_row_security(table: Table) -> None:
    for some in range(0, 2500, 500):
        changes = (edit(f"r{n}", state=f"s{n % 500}", due="2026-03-01") for n in range(some, some + 500))
        table.ada.write(*({**change, "spaceId": table.space} for change in changes))
    await table.apply()
    await table.filled()
    async with login(table.server, "--user", table.ada.user) as dsn:
        assert await run(dsn, f"SELECT count(*) FROM syncd_app.{table.view}_indexed") == [(2500,)]
        for condition in ("state = 's7'", "state >= 's7' AND state < 's8'", "due = '2026-03-02'"):
            plan = await run(dsn, f"EXPLAIN SELECT id FROM syncd_app.{table.view}_indexed WHERE {condition}")
            text = "\n".join(row[0] for row in plan)
            assert re.search(r"Index Cond: .*space_no = ANY.*(state|due|c\d)", text), text


async def test_a_text_that_no_index_takes_is_null_there_and_holds_nothing_up(table: Table) -> None:
    await table.apply()
    drawn = random.Random(1)
    table.write("a", state="".join(chr(drawn.randrange(0x4E00, 0x9FFF)) for _ in range(4000)), size=1)
    table.write("b", state="x" * 2000, size=2)
    await table.filled()
    async with login(table.server, "--user", table.ada.user) as dsn:
        exact, copy = await table.read(dsn, asked="length(state), size")
        assert exact == [(4000, 1), (2000, 2)]
        assert copy == [(None, 1), (2000, 2)]


async def test_a_record_that_is_changed_where_it_stands_is_so_in_it_at_once(table: Table) -> None:
    """As compaction and erasures change it: the log has no place of it."""
    table.write("a", state="canary", size=1)
    table.write("b", state="canary", size=2)
    await table.apply()
    async with login(table.server, "--user", table.ada.user) as dsn:
        await run(table.server.owner_dsn, "SET ROLE syncd_compactor", await table.erasing("a"))
        assert (await table.read(dsn, asked="state, size, updated_by"))[1] == [
            (None, 1, table.ada.user),
            ("canary", 2, table.ada.user),
        ]
        gone = f"DELETE FROM syncd.sync_records WHERE {await table.where('a')}"
        await run(table.server.owner_dsn, "SET ROLE syncd_compactor", gone)
        assert (await table.read(dsn, asked="id"))[1] == [("b",)]


async def test_while_a_record_is_changed_where_it_stands_its_feed_is_not_filled(table: Table) -> None:
    await table.apply()
    table.write("a", state="canary")
    await table.filled()
    conn = await asyncpg.connect(table.server.owner_dsn)
    transaction = conn.transaction()
    await transaction.start()
    await conn.execute(f"SET LOCAL ROLE syncd_compactor; {await table.erasing('a')}")
    table.write("b", state="new")
    for _ in range(3):
        await run(table.server.owner_dsn, FILL)
    assert await run(table.server.owner_dsn, WAITS.format(table.view)) != [(0,)]
    await transaction.commit()
    await conn.close()
    await table.filled()
    async with login(table.server, "--user", table.ada.user) as dsn:
        assert (await table.read(dsn, asked="state"))[1] == [(None,), ("new",)]


async def test_one_that_is_made_meanwhile_is_filled_when_that_has_ended(table: Table) -> None:
    """What was at work before there was a projection does not change it, so it is waited for."""
    table.write("a", state="canary")
    conn = await asyncpg.connect(table.server.owner_dsn)
    transaction = conn.transaction()
    await transaction.start()
    await conn.execute(f"SET LOCAL ROLE syncd_compactor; {await table.erasing('a')}")
    applying = asyncio.create_task(table.apply())
    made = f"SELECT count(*) FROM syncd.sync_projections WHERE app = '{table.app}'"
    await eventually(lambda: run(table.server.owner_dsn, made), lambda rows: rows == [(1,)])
    for _ in range(3):
        await run(table.server.owner_dsn, FILL)
    assert await run(table.server.owner_dsn, WAITS.format(table.view)) == [(1,)]
    await transaction.commit()
    await conn.close()
    await applying
    async with login(table.server, "--user", table.ada.user) as dsn:
        assert (await table.read(dsn, asked="state"))[1] == [(None,)]


async def test_a_step_is_whole_or_not_at_all_and_no_step_waits_for_another(table: Table) -> None:
    await table.apply()
    conn = await asyncpg.connect(table.server.owner_dsn)
    counted = f"SELECT count(*) FROM {await table.projection()}"
    await conn.execute("BEGIN")
    # As a step does which finds that all of before has ended.
    await conn.execute(f"UPDATE syncd.sync_projections SET fills_from = '1' WHERE app = '{table.app}'")
    table.write("a", state="open")
    await conn.execute(FILL)
    within = await conn.fetchval(counted)
    # Another filler passes the feed by.
    await asyncio.wait_for(run(table.server.owner_dsn, FILL), 20)
    pid = conn.get_server_pid()
    await run(table.server.owner_dsn, f"SELECT pg_terminate_backend({pid}, 10000)")
    assert within in (0, 1)  # the server's own step may have been the first
    await table.filled()
    assert await run(table.server.owner_dsn, counted) == [(1,)]


async def test_a_feed_whose_place_is_being_made_holds_up_no_other(table: Table) -> None:
    """As by an erasure in a feed that no step has come to yet, which takes long."""
    await table.apply()
    new, name = await asyncio.to_thread(table.ada.create, unique("s")), await table.projection()
    table.write("a", state="first")
    await table.filled()
    feed = f"""SELECT syncd.sync_projection_key({name.rsplit("_", 1)[1]}, s.space_no, a.name_no)
               FROM syncd.sync_spaces s, syncd.sync_names a WHERE s.space_id = '{new}' AND a.name = '{table.app}'"""
    [(key,)] = await run(table.server.owner_dsn, feed)
    conn = await asyncpg.connect(table.server.owner_dsn)
    transaction = conn.transaction()
    await transaction.start()
    await conn.execute(f"SELECT pg_advisory_xact_lock({key})")
    table.ada.write({**edit("b", state="held"), "spaceId": new})
    table.write("c", state="second")
    await asyncio.wait_for(run(table.server.owner_dsn, FILL), 20)
    counted = f"SELECT count(*) FROM {name}"
    await eventually(lambda: run(table.server.owner_dsn, counted), lambda rows: rows == [(2,)])
    assert await run(table.server.owner_dsn, WAITS.format(table.view)) == [(1,)]
    await transaction.commit()
    await conn.close()
    await table.filled()
    assert await run(table.server.owner_dsn, counted) == [(3,)]


async def test_a_value_that_is_refused_holds_up_its_own_feed_alone(table: Table) -> None:
    await table.apply()
    name = await table.projection()
    await run(table.server.owner_dsn, f"ALTER TABLE {name} ADD CONSTRAINT no CHECK (c4 <> 13)")
    table.write("a", state="bad", size=13)
    other = table.ada.create(unique("s"))
    table.ada.write({**edit("b", state="good", size=1), "spaceId": other})
    counted = f"SELECT count(*) FROM {name}"
    await eventually(lambda: run(table.server.owner_dsn, counted), lambda rows: rows == [(1,)])
    assert await run(table.server.owner_dsn, WAITS.format(table.view)) == [(1,)]
    await run(table.server.owner_dsn, f"ALTER TABLE {name} DROP CONSTRAINT no")
    await table.filled()
    assert await run(table.server.owner_dsn, counted) == [(2,)]


async def test_another_schema_is_filled_beside_and_then_read(table: Table) -> None:
    table.write("a", state="open", size=1)
    await table.apply()
    before = await table.projection()
    async with login(table.server, "--user", table.ada.user) as dsn:
        await table.apply({"properties": {**SCHEMA["properties"], "more": {"type": "boolean", "x-index": True}}})
        after = await table.projection()
        assert after != before
        assert await run(table.server.owner_dsn, f"SELECT to_regclass('{before}')") == [(None,)]
        assert (await table.read(dsn, asked="state, more"))[1] == [("open", None)]
        await table.apply({"properties": {"state": {"type": "string"}}})
        assert await run(table.server.owner_dsn, f"SELECT to_regclass('{after}')") == [(None,)]
        with pytest.raises(asyncpg.UndefinedTableError):
            await table.read(dsn)
    assert "as it was" in await done(table.server, "views", "apply")
    await done(table.server, "views", "drop", f"{table.app}/t")


@pytest.mark.parametrize("part", [{"type": "array"}, {"type": ["string", "integer"]}])
async def test_what_no_index_is_made_of_is_told(table: Table, part: Json) -> None:
    await schema(table.server, table.app, t={"properties": {"x": {**part, "x-index": True}}})
    refused = await syncd(table.server, "views", "apply")
    assert refused.returncode == 1
    assert "x: an index is made of a text, a number" in refused.stderr


async def test_how_far_it_is_behind_is_in_the_metrics(table: Table, served: tuple[Server, httpx.Client]) -> None:
    table.write("a", state="open")
    await table.apply()

    async def shown() -> str:
        return served[1].get("/metrics").text

    line = f'syncd_projection_lag_changes{{view="{table.view}"}} 0.0'
    await eventually(shown, lambda text: line in text)


async def test_who_drops_one_waits_for_who_fills_it(table: Table) -> None:
    await table.apply()
    table.write("a", state="open")
    await table.filled()
    conn = await asyncpg.connect(table.server.owner_dsn)
    transaction = conn.transaction()
    await transaction.start()
    number = (await table.projection()).rsplit("_", 1)[1]
    feed = f"SELECT h.space_no, h.app_no FROM syncd.sync_feeds h WHERE {(await table.where('a')).split(' AND')[0]}"
    [(space_no, app_no)] = await run(table.server.owner_dsn, feed)
    await conn.fetchval("SELECT syncd.sync_projection_advance($1, $2, $3, 10)", int(number), space_no, app_no)
    dropping = asyncio.create_task(done(table.server, "views", "drop", f"{table.app}/t"))
    await somebody_waits(conn)
    await transaction.commit()
    await conn.close()
    await dropping


@pytest.mark.waits
async def test_through_kills_it_has_what_the_state_has(workspace: Path) -> None:
    """Server and database killed at random under pushes: nothing is lost, nothing doubled."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    drawn = random.Random(seed)
    with Server(workspace / "killed", workers=2) as server:
        with httpx.Client(base_url=server.url, timeout=60) as http:
            table = Table(server, http)
            await table.apply()
            spaces = [table.space, *(table.ada.create(unique("s")) for _ in range(3))]
            for round_ in range(4):
                for n in range(60):
                    record, space = f"r{drawn.randrange(40)}", drawn.choice(spaces)
                    change = edit(record, round_ * 100 + n + 1, state=f"s{n}", size=n)
                    if drawn.random() < 0.1:
                        change = {"table": "t", "id": record, "op": "delete", "changeId": unique("c")}
                    table.ada.write({**change, "spaceId": space})
                if drawn.random() < 0.7:
                    killed = (
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%projections_fill%'"
                    )
                    await run(server.owner_dsn, killed + " AND pid <> pg_backend_pid()")
                server.kill()
                server.start()
        await table.filled()
        async with login(server, "--user", table.ada.user) as dsn:
            exact, copy = [sorted(map(repr, rows)) for rows in await table.read(dsn)]
            assert exact == copy
            assert len(exact) > 50


async def test_a_dump_has_views_and_copies_and_they_go_on_elsewhere(
    table: Table, workspace: Path, folder: Path
) -> None:
    """On a server that never had a view: the roles come with the schema."""
    table.write("a", state="open")
    await table.apply()
    await table.filled()
    dump = folder / "syncd.dump"
    pg_dump = EmbeddedPostgres(workspace / "elsewhere").bindir / "pg_dump"
    await asyncio.to_thread(subprocess.run, [pg_dump, "-Fc", "-d", table.server.owner_dsn, "-f", dump], check=True)
    with Server(workspace / "elsewhere") as other:
        called = [sys.executable, "-m", "syncd", "restore", str(dump), "--data-dir", str(other.data_dir)]
        restored = await asyncio.to_thread(subprocess.run, called, capture_output=True, text=True, timeout=120)
        assert restored.returncode == 0, restored.stderr
        other.restart()
        with httpx.Client(base_url=other.url, timeout=60) as http:
            ada = Device(http, other, table.ada.user, app=table.app)
            ada.write({**edit("b", 2, state="new"), "spaceId": table.space})
        waits = WAITS.format(table.view)
        await eventually(lambda: run(other.owner_dsn, waits), lambda rows: rows == [(0,)])
        async with login(other, "--user", table.ada.user) as dsn:
            for view in (table.view, f"{table.view}_indexed"):
                assert await run(dsn, f"SELECT id, state FROM syncd_app.{view} ORDER BY id") == [
                    ("a", "open"),
                    ("b", "new"),
                ]
        findings = await examine(Settings(database_url=other.runtime_dsn))
        assert [one.status for one in findings if one.check in ("reports", "row security")] == ["ok", "ok"]


async def test_who_may_create_roles_and_acts_as_the_owner_makes_them_too(workspace: Path) -> None:
    """The role that owns the views is lent for as long as a view is made, and is nobody's afterwards."""
    with Server(workspace / "operator") as server:
        roles = "DROP ROLE syncd_views", "DROP ROLE syncd_reports"
        await run(
            server.owner_dsn, *roles, "CREATE ROLE op LOGIN CREATEROLE IN ROLE syncd_owner", "CREATE ROLE bi LOGIN"
        )
        await run(server.owner_dsn, "GRANT bi TO op WITH ADMIN OPTION")
        await schema(server, "app", t=SCHEMA)
        with httpx.Client(base_url=server.url, timeout=60) as http:
            ada = Device(http, server, "ada")
            ada.write({**edit("a", state="open"), "table": "t"})
        for words in (["apply"], ["apply"], ["grant", "bi", "--user", "ada"], ["list"]):
            called = [sys.executable, "-m", "syncd", "views", *words, "--database-url", server.dsn("op")]
            finished = await asyncio.to_thread(subprocess.run, called, capture_output=True, text=True, timeout=120)
            assert finished.returncode == 0, finished.stderr
        assert await run(server.dsn("bi"), "SELECT state FROM syncd_app.app_t_indexed") == [("open",)]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await run(server.dsn("op"), "SET ROLE syncd_views")
        findings = await examine(Settings(database_url=server.runtime_dsn))
        assert [(one.status, one.detail) for one in findings if one.check == "reports" and one.status != "ok"] == []
