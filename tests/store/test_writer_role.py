"""G24: the role of an application's backend writes and reads as the users that it names, and reaches nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

import syncd
from syncd.core.errors import Malformed, NotFound
from syncd.core.ids import fault_in_id, fault_in_user
from syncd.core.values import InvalidValue, check_value
from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.backend import Backend, backend_of
from tests.support.direct import pushed, run
from tests.support.wire import unique

CALLABLE = """
SELECT p.proname::text FROM pg_proc p
WHERE p.pronamespace = 'syncd'::regnamespace AND has_function_privilege('syncd_writer', p.oid, 'EXECUTE')"""
REACHABLE = """
SELECT c.relname::text FROM pg_class c
WHERE c.relnamespace = 'syncd'::regnamespace AND c.relkind IN ('r', 'v', 'S', 'p') AND CASE c.relkind
    WHEN 'S' THEN has_sequence_privilege('syncd_writer', c.oid, 'USAGE, SELECT, UPDATE')
    ELSE has_table_privilege('syncd_writer', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
         OR has_any_column_privilege('syncd_writer', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES') END"""


@pytest.fixture
async def backend(database: EmbeddedPostgres) -> AsyncIterator[Backend]:
    async with backend_of(database) as made:
        yield made


@pytest.fixture
async def connection(backend: Backend) -> AsyncIterator[asyncpg.Connection]:
    async with backend.connection() as made:
        yield made


@pytest.fixture
async def space(database: EmbeddedPostgres) -> str:
    """One with a record, whose owner is called as it is, without the ending."""
    who = f"u{os.urandom(4).hex()}"
    await run(
        database.runtime_dsn,
        f"DO $$ BEGIN PERFORM syncd.sync_act_as('{who}', true), syncd.sync_space_create('{who}-s', 'Space'); END $$",
        pushed(who, f"{who}-s", "r", "canary"),
    )
    return f"{who}-s"


def owner(space: str) -> str:
    return space.removesuffix("-s")


async def test_it_may_call_two_functions_and_reach_no_table(database: EmbeddedPostgres) -> None:
    assert sorted(row[0] for row in await run(database.owner_dsn, CALLABLE)) == ["read", "write"]
    assert await run(database.owner_dsn, REACHABLE) == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM syncd.sync_changes",
        "SELECT * FROM syncd.sync_records",
        "SELECT * FROM syncd.sync_context_key",
        "SELECT * FROM syncd.sync_server",
        "INSERT INTO syncd.sync_memberships SELECT * FROM syncd.sync_memberships",
        "UPDATE syncd.sync_feeds SET head = 0",
        "SELECT syncd.sync_act_as('ann', true)",
        "SELECT syncd.sync_advance(1, 1, 1)",
        "SELECT syncd.sync_write_push('{}', '[]')",
        "SELECT syncd.sync_write_single('app', 'ann', 'c', 's', '{}')",
        "SELECT * FROM syncd.sync_push('[]', '{}', '{}')",
        "SELECT syncd.sync_member_put('s', 'eve', 'owner')",
        "SET backtrace_functions = '1'",
        "SELECT set_config('backtrace_functions', ',owner', false)",
        "CREATE FUNCTION syncd.sync_user() RETURNS integer RETURN 1",
        "CREATE TEMPORARY TABLE sync_names (name text)",
        "SET ROLE syncd_owner",
        "SET ROLE syncd_runtime",
        "ALTER FUNCTION syncd.write RESET search_path",
        "LOCK TABLE syncd.sync_records IN ACCESS EXCLUSIVE MODE",
    ],
)
async def test_what_it_may_not(connection: asyncpg.Connection, space: str, statement: str) -> None:
    await syncd.write(connection, user=owner(space), app="app", changes=[{"table": "t", "id": "x", "fields": {"x": 1}}])
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with connection.transaction():
            await connection.execute(statement)


async def test_a_write_leaves_nobody_acting(connection: asyncpg.Connection, space: str) -> None:
    change = {"table": "t", "id": "x", "fields": {"x": 1}, "spaceId": space}
    async with connection.transaction():
        await syncd.write(connection, user=owner(space), app="app", changes=[change, {**change, "id": "y"}])
        await syncd.read(connection, user=owner(space), app="app", space=space, table="t", id="x")
        assert await connection.fetchval("SHOW backtrace_functions") == ""
        for refused in ([{**change, "spaceId": "nowhere"}], [change, change | {"id": ""}]):
            with pytest.raises(syncd.WriteRefused):
                async with connection.transaction():
                    await syncd.write(connection, user=owner(space), app="app", changes=refused)
            assert await connection.fetchval("SHOW backtrace_functions") == ""
        with pytest.raises(NotFound):
            async with connection.transaction():
                await syncd.read(connection, user=owner(space), app="app", space="nowhere")
        assert await connection.fetchval("SHOW backtrace_functions") == ""


async def test_row_security_decides_each_change_and_each_look(connection: asyncpg.Connection, space: str) -> None:
    stranger = unique("eve")
    change = {"table": "t", "id": "r", "fields": {"x": "mine"}, "spaceId": space}
    [done] = await syncd.write(connection, user=stranger, app="app", changes=[change], on_refused="return")
    assert (done.status, done.code) == ("rejected", "space_not_found")
    for more in ({"table": "t", "id": "r"}, {}):
        with pytest.raises(NotFound):
            await syncd.read(connection, user=stranger, app="app", space=space, **more)
    found = await syncd.read(connection, user=owner(space), app="app", space=space, table="t", id="r")
    assert found is not None
    assert found.fields == {"x": "canary"}
    # Another app's records are not those of this one, and a canary is in no answer to somebody else.
    assert (await syncd.read(connection, user=owner(space), app="other", space=space)).records == []


async def test_shadows_in_its_own_schemas_are_not_asked(database: EmbeddedPostgres, space: str) -> None:
    """A role that may make objects puts them before ours in its path."""
    name = await run(database.owner_dsn, "SELECT current_database()")
    async with backend_of(database) as backend:
        await run(
            database.owner_dsn,
            f"GRANT TEMPORARY, CREATE ON DATABASE {name[0][0]} TO {backend.role}",
        )
        async with backend.connection(statement_cache_size=0) as connection:
            await connection.execute(f"""
                CREATE SCHEMA {backend.role}_evil;
                CREATE TEMPORARY TABLE sync_names (name_no integer, name text, leaving boolean);
                CREATE TEMPORARY TABLE sync_memberships (user_no integer, space_no integer, role text);
                CREATE FUNCTION {backend.role}_evil.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS $$
                BEGIN
                    RAISE 'called as %', current_user;
                END $$;
                CREATE FUNCTION {backend.role}_evil.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$
                BEGIN
                    RAISE 'called as %', current_user;
                END $$;
                SET search_path = {backend.role}_evil, pg_temp, pg_catalog""")
            change = json.dumps([{"table": "t", "id": "x", "spaceId": space, "fields": {"a": 1}}])
            two = json.dumps([*json.loads(change), {"table": "t", "id": "y", "spaceId": space, "fields": {"a": 1}}])
            for changes in (change, two):
                done = await connection.fetchval(
                    f"SELECT pg_catalog.jsonb_path_query_array(syncd.write('app', '{owner(space)}', '{changes}'),"
                    " '$[*].status')::pg_catalog.text"
                )
                assert set(json.loads(done)) == {"applied"}
            await connection.execute(f"DROP SCHEMA {backend.role}_evil CASCADE")


async def test_what_a_session_may_set_changes_nothing_of_who_acts(connection: asyncpg.Connection, space: str) -> None:
    await connection.execute(
        f"SET app.current_user_id = '{owner(space)}'; SET syncd.user_no = '1'; SET syncd.tells = 'yes';"
        "SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'SQL, DMY'; SET synchronous_commit = off"
    )
    change = {"table": "t", "id": "r", "fields": {"x": "mine"}, "spaceId": space}
    [done] = await syncd.write(connection, user=unique("eve"), app="app", changes=[change], on_refused="return")
    assert done.code == "space_not_found"
    async with connection.transaction():
        [done] = await syncd.write(connection, user=owner(space), app="app", changes=[change])
        # What listeners hear of must not be lost with the machine.
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
    assert done.at is not None
    assert done.at.endswith("Z")
    now = await connection.fetchval("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI')")
    assert now[:13] == done.at[:13]


@pytest.mark.parametrize(
    "app",
    ["", "a\x1fb", "..", "x" * 256],
)
async def test_an_app_that_cannot_be_is_refused(connection: asyncpg.Connection, app: str) -> None:
    with pytest.raises(Malformed, match="app must"):
        await syncd.write(connection, user="ann", app=app, changes=[{"table": "t", "id": "x", "fields": {"x": 1}}])
    with pytest.raises(Malformed, match="app must"):
        await syncd.read(connection, user="ann", app=app)


IDS = ["a", "é", "", ".", "..", "...", "a b", " a", "a ", "\u3000a", "a\u200b", "\ufeffa", "a\u00a0b", "\x7f", "\x9f",
       "x" * 255, "x" * 256, "😀" * 255, "\U000e0041", "_personal:x", "'; DROP", "\u2800", "ａ"]  # fmt: skip


@pytest.mark.parametrize("text", IDS)
async def test_the_database_says_of_an_id_what_the_edge_says(database: EmbeddedPostgres, text: str) -> None:
    connection = await asyncpg.connect(database.owner_dsn)
    found = await connection.fetchrow("SELECT syncd.sync_fault_in_id($1), syncd.sync_fault_in_user($1)", text)
    await connection.close()
    assert tuple(found) == (fault_in_id(text), fault_in_user(text))


VALUES = ["1", "1e308", "-1.7e308", "1e309", "-1e400", "1e-323", "1e-400", "0", "0.0", '"x"', "null", "[1e999]",
          "[" * 64 + "]" * 64, "[" * 65 + "]" * 65, '{"a":' * 64 + "1" + "}" * 64, '{"a":' * 65 + "1" + "}" * 65,
          '{"a": [1, {"b": 1e309}]}', "123456789012345678901234567890"]  # fmt: skip


@pytest.mark.parametrize("text", VALUES)
async def test_the_database_takes_the_values_that_the_edge_takes(database: EmbeddedPostgres, text: str) -> None:
    connection = await asyncpg.connect(database.owner_dsn)
    found = await connection.fetchval("SELECT syncd.sync_fault_in_value($1::text::jsonb)", text)
    await connection.close()
    try:
        check_value(text.encode(), 64)
        wrong = False
    except InvalidValue:
        wrong = True
    assert (found is not None) == wrong, found


GOOD = {"table": "t", "id": "x", "fields": {"a": 1}}
CHANGES: list[Any] = [
    5, "x", [], {}, {"table": "t"}, {"id": "x"}, {**GOOD, "table": 5}, {**GOOD, "fields": []}, {**GOOD, "fields": {}},
    {**GOOD, "fields": {"": 1}}, {**GOOD, "fields": {"a\x01": 1}}, {**GOOD, "op": "upsert"}, {**GOOD, "at": 1},
    {**GOOD, "spaceId": ""}, {**GOOD, "spaceId": 1}, {**GOOD, "changeId": ""}, {**GOOD, "changeId": "\x01x"},
    {**GOOD, "schemaVersion": 1.5}, {**GOOD, "origin": 1}, {**GOOD, "fields": {"a": "x" * (1 << 20)}},
    {**GOOD, "fields": {"deletedAt": None}},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
async def test_what_is_no_change_is_refused_and_nothing_fails(connection: asyncpg.Connection, change: Any) -> None:
    user = unique("ann")
    for changes in ([change], [{"table": "t", "id": "good", "fields": {"x": 1}}, change]):
        text = "SELECT syncd.write('app', $1, $2::text::jsonb, 'backend', 'return')::text"
        done = json.loads(await connection.fetchval(text, user, json.dumps(changes)))
        assert done[-1]["status"] == "rejected"
        assert done[-1]["code"] in ("invalid_change", "empty_change", "change_too_large")
    assert [r.id for r in (await syncd.read(connection, user=user, app="app")).records] == ["good"]


@pytest.mark.parametrize("changes", ["{}", "[]", "null", "5", json.dumps([{}] * 1001)])
async def test_what_is_no_call_is_refused(connection: asyncpg.Connection, changes: str) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await connection.fetchval("SELECT syncd.write('app', 'ann', $1::text::jsonb)", changes)
