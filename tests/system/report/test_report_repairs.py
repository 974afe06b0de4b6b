"""What was changed of views behind syncd's back is told by doctor, and `views apply` makes it as it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from syncd.cli.doctor import examine
from syncd.settings import Settings
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.reports import done, ids, login, schema, syncd
from tests.support.wire import Device, edit, unique

TABLE = {"properties": {"state": {"type": "string", "x-index": True}}}
VIEWS = ("app_t", "app_t_indexed")


@pytest.fixture(scope="module")
async def house(workspace: Path) -> AsyncIterator[tuple[Server, Device]]:
    with Server(workspace / "repaired") as server, httpx.Client(base_url=server.url, timeout=60) as http:
        ada = Device(http, server, unique("ada"))
        await asyncio.to_thread(ada.write, edit("a", state="open"))
        await schema(server, "app", t=TABLE)
        await done(server, "views", "apply")
        yield server, ada


async def told(server: Server) -> str:
    findings = await examine(Settings(database_url=server.runtime_dsn))
    return "; ".join(one.detail for one in findings if one.check == "reports" and one.status == "FAIL")


async def test_a_view_that_has_another_owner_is_told_and_given_back(house: tuple[Server, Device]) -> None:
    """As `pg_restore --no-owner` leaves them: a superuser's, which no policy binds."""
    server, _ = house
    async with login(server, "--user", unique("nobody")) as dsn:
        assert await told(server) == ""
        for view in VIEWS:
            await run(server.owner_dsn, f"ALTER VIEW syncd_app.{view} OWNER TO postgres")
        assert await ids(dsn, VIEWS[0]) == {"a"}
        assert "app_t, app_t_indexed" in await told(server)
        await done(server, "views", "apply")
        assert [await ids(dsn, view) for view in VIEWS] == [set(), set()]
        assert await told(server) == ""


async def test_a_policy_that_was_altered_is_told_and_made_again(house: tuple[Server, Device]) -> None:
    server, _ = house
    async with login(server, "--user", unique("nobody")) as dsn:
        await run(server.owner_dsn, "ALTER POLICY reports_bound ON syncd.sync_records USING (CURRENT_USER IS NOT NULL)")
        assert await ids(dsn, VIEWS[0]) == {"a"}
        assert "sync_records" in await told(server)
        await done(server, "views", "apply")
        assert await ids(dsn, VIEWS[0]) == set()
        assert await told(server) == ""


async def test_policies_that_are_right_are_left_and_no_push_waits_for_them(house: tuple[Server, Device]) -> None:
    """A transaction that has the state open keeps nobody from making views, where there is nothing to make of it."""
    server, ada = house
    conn = await asyncpg.connect(server.owner_dsn)
    transaction = conn.transaction()
    await transaction.start()
    await conn.execute("LOCK TABLE syncd.sync_records IN ROW EXCLUSIVE MODE")
    async with login(server, "--user", ada.user) as dsn:
        assert await ids(dsn, VIEWS[0]) == {"a"}
    await run(server.owner_dsn, "ALTER POLICY reports_bound ON syncd.sync_changes USING (false)")
    locked = "LOCK TABLE syncd.sync_changes IN ROW EXCLUSIVE MODE"
    await conn.execute(locked)
    applying = asyncio.create_task(done(server, "views", "apply"))
    for n in range(20):
        # Each waits for a tenth of a second at most, where it would for five seconds.
        await asyncio.wait_for(asyncio.to_thread(ada.write, edit(f"p{n}", state="open")), 3)
    await transaction.commit()
    await conn.close()
    await applying
    assert await told(server) == ""


async def test_a_copy_with_statistics_is_told_and_made_again(house: tuple[Server, Device]) -> None:
    server, _ = house
    read = "SELECT projection_id FROM syncd.sync_report_views WHERE app = 'app'"
    [(before,)] = await run(server.owner_dsn, read)
    await run(server.owner_dsn, f"ALTER TABLE syncd.sync_projection_{before} ALTER COLUMN c3 SET STATISTICS -1")
    assert f"values of others in sync_projection_{before}" in await told(server)
    await done(server, "views", "apply")
    assert await run(server.owner_dsn, read) != [(before,)]
    assert await told(server) == ""


async def test_a_login_that_is_another_role_s_by_a_group_is_told(house: tuple[Server, Device]) -> None:
    server, ada = house
    async with login(server, "--user", ada.user) as dsn, login(server) as group:
        who, team = [(await run(one, "SELECT current_user"))[0][0] for one in (dsn, group)]
        await run(server.owner_dsn, f"REVOKE syncd_reports FROM {who}", f"GRANT syncd_reports TO {team}")
        await run(server.owner_dsn, f"GRANT {team} TO {who}", f"GRANT syncd_writer TO {who}")
        assert who in await told(server)


async def test_a_role_that_was_dropped_is_listed_as_gone(house: tuple[Server, Device]) -> None:
    server, ada = house
    name = unique("gone").replace("-", "_")
    await run(server.owner_dsn, f"CREATE ROLE {name} LOGIN")
    await done(server, "views", "grant", name, "--user", ada.user)
    await run(server.owner_dsn, f"DROP ROLE {name}")
    assert f"no such reader any more: `syncd views revoke {name}`" in await done(server, "views", "list")
    await done(server, "views", "revoke", name)
    assert name not in await done(server, "views", "list")


async def test_a_table_s_fault_ends_no_other_s_view(house: tuple[Server, Device]) -> None:
    server, _ = house
    await schema(server, "app", a={"properties": {}}, b={"properties": {}})
    await run(server.owner_dsn, "CREATE TABLE syncd_app.app_a (x integer)")
    refused = await syncd(server, "views", "apply")
    assert refused.returncode == 1
    assert "app/a: not made" in refused.stderr
    assert "app/b: made syncd_app.app_b" in refused.stderr
    await run(server.owner_dsn, "DROP TABLE syncd_app.app_a")
    await done(server, "views", "apply")


async def test_new_feeds_are_placed_together(house: tuple[Server, Device]) -> None:
    """In one step, which a place that another transaction is making does not hold up."""
    server, ada = house
    [(projection,)] = await run(
        server.owner_dsn, "SELECT projection_id FROM syncd.sync_report_views WHERE app = 'app' AND table_name = 't'"
    )
    conn = await asyncpg.connect(server.owner_dsn)
    transaction = conn.transaction()
    await transaction.start()
    # No process fills meanwhile: each of them asks this first.
    await conn.execute("LOCK TABLE syncd.sync_projections IN EXCLUSIVE MODE")
    for n in range(30):
        space = await asyncio.to_thread(ada.create, unique(f"s{n}"))
        await asyncio.to_thread(ada.write, {**edit("x", state="open"), "spaceId": space})
    assert await conn.fetchval("SELECT feeds FROM syncd.sync_projections_step($1, 1000)", projection) == 30
    await transaction.commit()
    await conn.close()


async def test_whoever_is_read_as_where_memberships_are_kept_outside_is_said(house: tuple[Server, Device]) -> None:
    server, ada = house
    kept = "UPDATE syncd.sync_server SET memberships = '{}'"
    async with login(server, "--user", ada.user) as dsn:
        who = (await run(dsn, "SELECT current_user"))[0][0]
        assert "from outside" not in await done(server, "views", "grant", who, "--user", ada.user)
        await run(server.owner_dsn, kept.format("external"))
        try:
            assert "memberships are taken over from outside" in await done(
                server, "views", "grant", who, "--user", ada.user
            )
        finally:
            await run(server.owner_dsn, kept.format("table"))
