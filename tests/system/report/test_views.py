"""G10: a view for reports shows a login what its user may read, and nothing makes it show more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from syncd.cli.doctor import examine
from syncd.settings import Settings
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.reports import columns, done, ids, login, schema, syncd
from tests.support.roles import ROLES, House, furnished
from tests.support.wire import Device, Json, edit, unique

TABLE: Json = {"properties": {"secret": {"type": "string"}, "size": {"type": "integer"}}}
VIEW = "app_t"


@pytest.fixture(scope="module")
async def house(workspace: Path) -> AsyncIterator[tuple[Server, House]]:
    """A server with a space, a user of each kind, and the view of its table."""
    with Server(workspace / "reports") as server, httpx.Client(base_url=server.url, timeout=60) as http:
        made = await asyncio.to_thread(furnished, lambda user, client: Device(http, server, user, client))
        await schema(server, "app", t=TABLE)
        assert "made syncd_app.app_t" in await done(server, "views", "apply")
        yield server, made


@pytest.fixture(scope="module")
async def reader(house: tuple[Server, House]) -> AsyncIterator[str]:
    """The DSN of a login of the space's reader."""
    async with login(house[0], "--user", house[1].callers["reader"].user) as dsn:
        yield dsn


async def rows(dsn: str, asked: str = "space_id, id, secret") -> list[Any]:
    return sorted(await run(dsn, f"SELECT {asked} FROM syncd_app.{VIEW}"))


def owned(house: House) -> list[tuple[str, str, str]]:
    return [(house.space, "r", house.canary)]


@pytest.mark.parametrize("role", ROLES)
async def test_a_login_sees_what_its_user_may_read(house: tuple[Server, House], role: str) -> None:
    server, made = house
    async with login(server, "--user", made.callers[role].user) as dsn:
        expected = {"stranger": [(made.other, "r", "other")]}.get(
            role, owned(made) if role in ("owner", "writer", "reader") else []
        )
        assert await rows(dsn) == expected


async def test_a_login_sees_the_spaces_that_it_was_given(house: tuple[Server, House]) -> None:
    server, made = house
    async with login(server, "--space", made.space) as dsn:
        assert await rows(dsn) == owned(made)
    async with login(server, "--space", made.space, "--space", made.other) as dsn:
        assert len(await rows(dsn)) == 2


@pytest.mark.parametrize("role", ["syncd_runtime", "syncd_compactor", "syncd_writer", "syncd_consumer", "syncd_owner"])
async def test_other_roles_of_syncd_s_read_no_view(house: tuple[Server, House], role: str) -> None:
    server, _ = house
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await run(server.owner_dsn, f"SET ROLE {role}", f"SELECT * FROM syncd_app.{VIEW}")


async def test_nobody_s_login_and_a_superuser_see_nothing_in_it(house: tuple[Server, House]) -> None:
    server, _ = house
    async with login(server) as dsn:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await rows(dsn)
        who = (await run(dsn, "SELECT current_user"))[0][0]
        await run(server.owner_dsn, f"GRANT syncd_reports TO {who}")
        assert await rows(dsn) == []
    assert await rows(server.owner_dsn) == []
    for role in ("syncd_reports", "syncd_views"):
        assert await run(server.owner_dsn, f"SET ROLE {role}", f"SELECT * FROM syncd_app.{VIEW}") == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM syncd.sync_records",
        "SELECT * FROM syncd.sync_changes",
        "SELECT * FROM syncd.sync_names",
        "SELECT * FROM syncd.sync_spaces",
        "SELECT * FROM syncd.sync_memberships",
        "SELECT * FROM syncd.sync_report_roles",
        "SELECT * FROM syncd.sync_report_views",
        "UPDATE syncd.sync_report_roles SET user_id = 'x'",
        "SELECT syncd.sync_report_grant(current_user, 'x', NULL)",
        "SELECT syncd.sync_act_as('x', true)",
        "SELECT syncd.sync_consume_act('{0}', '{0}')",
        "SET backtrace_functions = '1'",
        "SET ROLE syncd_views",
        "SET ROLE syncd_runtime",
        "SET ROLE syncd_owner",
        "SET SESSION AUTHORIZATION postgres",
        "INSERT INTO syncd_app.app_t (id) VALUES ('x')",
        "UPDATE syncd_app.app_t SET secret = 'x'",
        "DELETE FROM syncd_app.app_t",
        "CREATE VIEW syncd_app.mine AS SELECT 1",
        "CREATE OR REPLACE VIEW syncd_app.app_t AS SELECT 1",
        "CREATE TEMPORARY TABLE t (x integer)",
    ],
)
async def test_a_login_reads_the_views_and_does_nothing_else(reader: str, statement: str) -> None:
    refused = asyncpg.ObjectNotInPrerequisiteStateError, asyncpg.FeatureNotSupportedError
    with pytest.raises((asyncpg.InsufficientPrivilegeError, *refused)):
        await run(reader, statement)


@pytest.mark.parametrize(
    "setting",
    [
        "SELECT set_config('syncd.user_no', n::text, false) FROM generate_series(1, 1) n",
        "SELECT set_config('app.current_user_id', 'owner', false)",
        "SET ROLE syncd_reports",
        "SET search_path = pg_temp",
        "SET row_security = on",
    ],
)
async def test_nothing_that_a_login_sets_makes_it_another(house: tuple[Server, House], setting: str) -> None:
    server, made = house
    async with login(server, "--user", made.callers["stranger"].user) as dsn:
        found = await run(dsn, setting, f"SELECT secret FROM syncd_app.{VIEW}")
        assert found in ([("other",)], [])
    async with login(server, "--user", made.callers["stranger"].user) as dsn:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await run(dsn, "SET row_security = off", f"SELECT * FROM syncd_app.{VIEW}")


async def test_where_who_acts_may_be_set_by_anybody_a_view_does_not_ask_that(house: tuple[Server, House]) -> None:
    """As in a database whose owner was not granted the parameter: other policies ask `syncd.user_no` there."""
    server, made = house
    victim = await run(
        server.owner_dsn, f"SELECT name_no FROM syncd.sync_names WHERE name = '{made.callers['owner'].user}'"
    )
    conn = await asyncpg.connect(server.owner_dsn)
    before = await conn.fetchval("SELECT pg_get_functiondef('syncd.sync_user()'::regprocedure)")
    await conn.execute("""
        CREATE OR REPLACE FUNCTION syncd.sync_user() RETURNS integer LANGUAGE sql STABLE PARALLEL SAFE
        RETURN nullif(current_setting('syncd.user_no', true), '')::integer;
        GRANT EXECUTE ON FUNCTION syncd.sync_user() TO PUBLIC""")
    try:
        async with login(server, "--user", made.callers["stranger"].user) as dsn:
            set_ = f"SET syncd.user_no = '{victim[0][0]}'"
            assert await run(dsn, set_, f"SELECT secret FROM syncd_app.{VIEW}") == [("other",)]
    finally:
        await conn.execute(before)
        await conn.execute("REVOKE EXECUTE ON FUNCTION syncd.sync_user() FROM PUBLIC")
        await conn.close()


async def test_a_removal_counts_from_the_next_statement_on(house: tuple[Server, House]) -> None:
    server, made = house
    owner, guest = made.callers["owner"], unique("guest")
    async with login(server, "--user", guest) as dsn:
        conn = await asyncpg.connect(dsn)
        shown = f"SELECT count(*) FROM syncd_app.{VIEW}"
        assert await conn.fetchval(shown) == 0
        await asyncio.to_thread(owner.member, made.space, guest, "reader")
        assert await conn.fetchval(shown) == 1
        await asyncio.to_thread(owner.remove, made.space, guest)
        assert await conn.fetchval(shown) == 0
        await conn.close()


async def test_a_space_that_is_made_again_is_another_one(house: tuple[Server, House]) -> None:
    server, made = house
    owner = made.callers["owner"]
    space = await asyncio.to_thread(owner.create, unique("space"))
    await asyncio.to_thread(owner.write, {**edit("old", secret="old"), "spaceId": space})
    async with login(server, "--space", space) as dsn:
        assert await ids(dsn, VIEW) == {"old"}
        assert (await asyncio.to_thread(owner.request, "DELETE", f"/spaces/{space}")).status_code < 300
        assert await ids(dsn, VIEW) == set()
        await asyncio.to_thread(owner.create, space)
        await asyncio.to_thread(owner.write, {**edit("new", secret="new"), "spaceId": space})
        assert await ids(dsn, VIEW) == set()


async def test_a_reader_s_function_is_called_for_its_own_rows_alone(house: tuple[Server, House]) -> None:
    server, made = house
    await run(
        server.owner_dsn,
        "CREATE SCHEMA IF NOT EXISTS cheap",
        "GRANT USAGE ON SCHEMA cheap TO PUBLIC",
        "CREATE OR REPLACE FUNCTION cheap.told(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS"
        " $$ BEGIN PERFORM set_config('cheap.told', current_setting('cheap.told', true) || $1, false);"
        " RETURN true; END $$",
    )
    async with login(server, "--user", made.callers["stranger"].user) as dsn:
        for column in ("secret", "updated_by", "space_id", "id"):
            told = await run(
                dsn,
                # So that each table is gone through by itself.
                "SET enable_nestloop = off",
                "SET enable_indexscan = off",
                "SET enable_bitmapscan = off",
                "SELECT set_config('cheap.told', '', false)",
                f"SELECT * FROM syncd_app.{VIEW} WHERE cheap.told({column})",
                "SELECT current_setting('cheap.told')",
            )
            expected = {
                "secret": "other", "updated_by": made.callers["stranger"].user, "space_id": made.other, "id": "r",
            }  # fmt: skip
            assert told == [(expected[column],)]
    await run(server.owner_dsn, "DROP SCHEMA cheap CASCADE")


async def test_who_is_a_member_of_the_role_that_serves_reads_nothing_and_doctor_says_so(
    house: tuple[Server, House],
) -> None:
    server, made = house
    async with login(server, "--user", made.callers["owner"].user) as dsn:
        who = (await run(dsn, "SELECT current_user"))[0][0]
        assert await found_by_doctor(server) == [("ok", "the views show each login what is its own")]
        await run(server.owner_dsn, f"GRANT syncd_runtime TO {who}")
        assert await rows(dsn) == []
        [(status, said)] = await found_by_doctor(server)
        assert status == "FAIL"
        assert who in said
        again = await syncd(server, "views", "grant", who, "--user", "x")
        assert again.returncode == 1
        assert "can become syncd_runtime" in again.stderr


async def found_by_doctor(server: Server) -> list[tuple[str, str]]:
    findings = await examine(Settings(database_url=server.runtime_dsn))
    assert [one.detail for one in findings if one.check == "row security" and one.status != "ok"] == []
    return [(one.status, one.detail) for one in findings if one.check == "reports"]


@pytest.mark.parametrize(
    ("fault", "mend", "said"),
    [
        (
            "DROP POLICY reports_bound ON syncd.sync_records",
            "SELECT syncd.sync_report_bind('sync_records')",
            "rows of every space in sync_records",
        ),
        ("ALTER VIEW syncd_app.app_t RESET (security_barrier)", "", "rows of others in app_t"),
        ("ALTER ROLE syncd_views BYPASSRLS", "ALTER ROLE syncd_views NOBYPASSRLS", "not bound by row security"),
        ("GRANT syncd_views TO syncd_writer", "REVOKE syncd_views FROM syncd_writer", "syncd_writer can act as"),
    ],
)
async def test_doctor_says_what_was_changed(house: tuple[Server, House], fault: str, mend: str, said: str) -> None:
    server, _ = house
    await run(server.owner_dsn, fault)
    try:
        assert any(status == "FAIL" and said in text for status, text in await found_by_doctor(server))
    finally:
        if mend:
            await run(server.owner_dsn, "SET ROLE syncd_owner" if "sync_report" in mend else "RESET ROLE", mend)
        await done(server, "views", "apply")
    assert [status for status, _ in await found_by_doctor(server)] == ["ok"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nobody_there", "--user", "x"), "there is no role nobody_there"),
        (("postgres", "--user", "x"), "row security does not bind postgres"),
        (("syncd_reports", "--user", "x"), "a role of syncd's own"),
        (("{login}", "--space", "no-such-space"), "there is no space no-such-space"),
        (("{login}",), "say what it reads"),
        (("{login}", "--user", "x", "--space", "y"), "say what it reads"),
    ],
)
async def test_what_cannot_be_granted(house: tuple[Server, House], words: tuple[str, ...], said: str) -> None:
    server, _ = house
    async with login(server) as dsn:
        who = (await run(dsn, "SELECT current_user"))[0][0]
        refused = await syncd(server, "views", "grant", *(word.format(login=who) for word in words))
        assert refused.returncode != 0
        assert said in refused.stderr
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await rows(dsn)


async def test_what_was_revoked_is_read_no_more(house: tuple[Server, House]) -> None:
    server, made = house
    async with login(server, "--user", made.callers["owner"].user) as dsn:
        who = (await run(dsn, "SELECT current_user"))[0][0]
        listed = await done(server, "views", "list")
        assert f"what the user {made.callers['owner'].user} may" in listed
        await done(server, "views", "revoke", who)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await rows(dsn)
        await run(server.owner_dsn, f"GRANT syncd_reports TO {who}")
        assert await rows(dsn) == []


async def test_it_has_what_every_record_has(house: tuple[Server, House]) -> None:
    server, made = house
    device, space = made.callers["owner"], await asyncio.to_thread(made.callers["owner"].create, unique("s"))
    made_at, later = "2026-02-01T00:00:00.000000Z", "2026-02-02T00:00:00.000000Z"
    insert = {**edit("x", made_at, secret="a", size=1), "op": "insert", "spaceId": space}
    await asyncio.to_thread(device.write, insert)
    await asyncio.to_thread(device.write, {**edit("x", later, secret="b", size=2), "spaceId": space})
    async with login(server, "--space", space) as dsn:
        asked = "SELECT created_at::text, updated_at::text, updated_by, deleted, size FROM syncd_app.app_t"
        zone = "SET TimeZone = 'UTC'"
        shown = ("2026-02-01 00:00:00+00", "2026-02-02 00:00:00+00", device.user, False, 2)
        assert await run(dsn, zone, asked) == [shown]
        gone = {"table": "t", "id": "x", "op": "delete", "spaceId": space, "changeId": unique("c")}
        await asyncio.to_thread(device.write, gone)
        [(_, _, by, deleted, _)] = await run(dsn, asked)
        assert (by, deleted) == (device.user, True)
    assert await columns(server, VIEW) == {
        "space_id": "text", "id": "text", "secret": "text", "size": "bigint", "created_at": "timestamp with time zone",
        "updated_at": "timestamp with time zone", "updated_by": "text", "deleted": "boolean",
    }  # fmt: skip
