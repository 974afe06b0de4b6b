"""G10 by direct SQL as the role that serves: every operation by every kind of caller."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from tests.support.harness import Server
from tests.support.roles import ROLES, House, furnished
from tests.support.wire import Device

Make = Callable[..., Device]
# Tables with row security, of which a transaction without a user sees nothing.
TABLES = ["sync_names", "sync_spaces", "sync_memberships", "sync_feeds", "sync_changes", "sync_records"]


@pytest.fixture
def house(device: Make) -> House:
    return furnished(device)


@pytest.fixture
async def runtime(server: Server) -> AsyncIterator[asyncpg.Connection]:
    """The server's database as the role that serves."""
    connection = await asyncpg.connect(server.runtime_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def owner_role(server: Server) -> AsyncIterator[asyncpg.Connection]:
    """The same database as the role that owns the tables; the superuser it is reached by would see everything."""
    connection = await asyncpg.connect(server.owner_dsn)
    await connection.execute("SET ROLE syncd_owner")
    yield connection
    await connection.close()


async def count(connection: asyncpg.Connection, table: str) -> int:
    return int(await connection.fetchval(f"SELECT count(*) FROM syncd.{table}"))


async def execute_as(connection: asyncpg.Connection, caller: Device, statement: str) -> None:
    async with connection.transaction():
        await connection.execute("SELECT syncd.sync_act_as($1)", caller.user)
        await connection.execute(statement)


@pytest.mark.parametrize("table", TABLES)
async def test_without_a_user_there_are_no_rows(runtime: asyncpg.Connection, house: House, table: str) -> None:
    assert await count(runtime, table) == 0
    async with runtime.transaction():
        await runtime.execute("SELECT syncd.sync_act_as($1)", house.callers["owner"].user)
        assert await count(runtime, table) > 0
    for context in ("", "0", "-1", "2147483647"):
        async with runtime.transaction():
            await runtime.execute("SELECT set_config('syncd.user_no', $1, true)", context)
            if table != "sync_names":
                assert await count(runtime, table) == 0


@pytest.mark.parametrize("role", ROLES)
async def test_a_user_s_context_shows_that_user_s_rows(runtime: asyncpg.Connection, house: House, role: str) -> None:
    inside = role in ("owner", "writer", "reader")
    async with runtime.transaction():
        await runtime.execute("SELECT syncd.sync_act_as($1)", house.callers[role].user)
        spaces = {row[0] for row in await runtime.fetch("SELECT space_id FROM syncd.sync_spaces")}
        assert (house.space in spaces) == inside
        assert (house.other in spaces) == (role == "stranger")
        for table in ("sync_changes", "sync_records"):
            found = {
                row[0]
                for row in await runtime.fetch(
                    f"SELECT fields #>> '{{secret,value}}' FROM (SELECT "
                    f"{'fields::jsonb' if table == 'sync_changes' else 'registers'} AS fields FROM syncd.{table}) x"
                )
            }
            assert (house.canary in found) == inside
        numbers = "SELECT count(*) FROM syncd.{0} WHERE space_no NOT IN (SELECT space_no FROM syncd.sync_memberships)"
        for table in ("sync_feeds", "sync_changes", "sync_records", "sync_spaces"):
            assert await runtime.fetchval(numbers.format(table)) == 0
        users = await runtime.fetch("SELECT DISTINCT user_no FROM syncd.sync_memberships")
        assert len(users) == (0 if role in ("former", "nobody") else 1)


async def test_the_context_ends_with_its_transaction(runtime: asyncpg.Connection, house: House) -> None:
    async with runtime.transaction():
        await runtime.execute("SELECT syncd.sync_act_as($1)", house.callers["owner"].user)
        assert await count(runtime, "sync_changes") > 0
    assert await count(runtime, "sync_changes") == 0
    await runtime.execute("SELECT syncd.sync_act_as($1)", house.callers["owner"].user)
    assert await count(runtime, "sync_changes") == 0
    with pytest.raises(asyncpg.DivisionByZeroError):
        await execute_as(runtime, house.callers["owner"], "SELECT 1/0")
    assert await count(runtime, "sync_changes") == 0


INSERT = """
INSERT INTO syncd.sync_changes (seq, push_end, created_at, event_id, space_no, app_no, table_no, user_no, client_no,
                                op, record_id, fields)
SELECT 1000 + $3, 1000 + $3, now(), gen_random_uuid(), c.space_no, c.app_no, c.table_no, $2, c.client_no, 2, 'x', '{}'
FROM (SELECT 1) one LEFT JOIN LATERAL (SELECT $1::int AS space_no, 1 AS app_no, 1 AS table_no, 1 AS client_no) c ON true
"""


@pytest.mark.parametrize("role", ROLES)
async def test_the_log_takes_rows_of_the_acting_user_in_writable_spaces_only(
    server: Server, runtime: asyncpg.Connection, house: House, role: str
) -> None:
    superuser = await asyncpg.connect(server.owner_dsn)
    space = await superuser.fetchval("SELECT space_no FROM syncd.sync_spaces WHERE space_id = $1", house.space)
    await superuser.close()
    for turn, as_whom in enumerate(("itself", "another")):
        transaction = runtime.transaction()
        await transaction.start()
        me = await runtime.fetchval("SELECT syncd.sync_act_as($1)", house.callers[role].user)
        allowed = role in ("owner", "writer") and as_whom == "itself"
        try:
            await runtime.execute(INSERT, space, me if as_whom == "itself" else me + 1, turn)
        except asyncpg.InsufficientPrivilegeError:
            assert not allowed
        else:
            assert allowed
        await transaction.rollback()


RECORD = """INSERT INTO syncd.sync_records (seq, latest, event_id, space_no, app_no, table_no, client_no, deleted, record_id, registers)
VALUES (9, 9, gen_random_uuid(), $1, 1, 1, 1, false, 'direct', '{}')"""  # noqa: E501
PRESENT = "INSERT INTO syncd.sync_presence VALUES ($1, coalesce(nullif({}, 0), -1), '{}', '{{}}', now())"
DIRECT = {
    "records added": (RECORD, 2),
    "records changed": ("UPDATE syncd.sync_records SET deleted = deleted WHERE space_no = $1", 2),
    "restores added": ("INSERT INTO syncd.sync_restores SELECT syncd.sync_user(), 1, 'x', $1, 1, 1, 'x', '', 1, 1", 2),
    "presence added": (PRESENT.format("syncd.sync_user()", "more"), 3),
    "presence added for another": (PRESENT.format("syncd.sync_user() + 1", "more"), 0),
    "presence changed": ("UPDATE syncd.sync_presence SET seen = seen WHERE space_no = $1", 3),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("statement", "allowed"), DIRECT.values(), ids=DIRECT)
async def test_who_writes_by_direct_sql(server: Server, house: House, role: str, statement: str, allowed: int) -> None:
    """Row by row, as the role that serves: the first `allowed` of ROLES write one, all others none."""
    connection = await asyncpg.connect(server.owner_dsn)
    transaction = connection.transaction()
    await transaction.start()
    space = await connection.fetchval("SELECT space_no FROM syncd.sync_spaces WHERE space_id = $1", house.space)
    for caller in house.callers.values():
        me = await connection.fetchval("SELECT name_no FROM syncd.sync_names WHERE name = $1", caller.user)
        await connection.execute(PRESENT.format(me or 0, "there"), space)
    await connection.execute("SET LOCAL ROLE syncd_runtime")
    await connection.execute("SELECT syncd.sync_act_as($1)", house.callers[role].user)
    try:
        written = int((await connection.execute(statement, space)).split()[-1])
    except asyncpg.InsufficientPrivilegeError:
        written = 0
    await transaction.rollback()
    await connection.close()
    assert written == (1 if role in ROLES[:allowed] else 0)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE syncd.sync_changes SET record_id = 'x'",
        "DELETE FROM syncd.sync_changes",
        "TRUNCATE syncd.sync_changes",
        "DELETE FROM syncd.sync_records",
        "DELETE FROM syncd.sync_feeds",
        "DELETE FROM syncd.sync_spaces",
        "DELETE FROM syncd.sync_memberships",
        "INSERT INTO syncd.sync_memberships (user_no, space_no, role) SELECT 1, 1, 'owner'",
        "INSERT INTO syncd.sync_spaces (space_id, quoted, name) VALUES ('x', 'x', 'x')",
        "UPDATE syncd.sync_memberships SET role = 'owner'",
        "UPDATE syncd.sync_memberships SET joined_at = now()",
        "UPDATE syncd.sync_spaces SET name = 'x'",
        "UPDATE syncd.sync_names SET name = 'x'",
        "SELECT * FROM syncd.sync_adoptions",
        """SELECT syncd.sync_adopt('[{"id": "anybody-s", "role": "owner"}]', now())""",
        "UPDATE syncd.sync_server SET memberships = 'external'",
        "UPDATE syncd.sync_restores SET target = 'x'",
        "DELETE FROM syncd.sync_restores",
        "INSERT INTO syncd.sync_restores SELECT -1, 1, 'x', s.space_no, 1, 1, 'x', '', 1, 1 FROM syncd.sync_spaces s",
        "INSERT INTO syncd.sync_restores SELECT syncd.sync_user(), 1, 'x', 2147483647, 1, 1, 'x', '', 1, 1",
        "UPDATE syncd.sync_server SET cursor_key = ''",
        "ALTER TABLE syncd.sync_changes DISABLE ROW LEVEL SECURITY",
        "DROP TABLE syncd.sync_changes",
        "CREATE TABLE syncd.mine (x int)",
        "CREATE TABLE public.mine (x int)",
        "SET ROLE syncd_owner",
        "COPY syncd.sync_changes TO PROGRAM 'cat'",
        "SELECT syncd.sync_keep_owner(1, 1)",
        "SET session_replication_role = replica",
    ],
)
async def test_the_runtime_role_may_not(runtime: asyncpg.Connection, house: House, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await execute_as(runtime, house.callers["owner"], statement)


async def test_the_owner_of_the_tables_can_rewrite_no_log_either(owner_role: asyncpg.Connection, house: House) -> None:
    for user in ("", house.callers["owner"].user):
        async with owner_role.transaction():
            if user:
                await owner_role.execute("SELECT syncd.sync_act_as($1)", user)
            assert await owner_role.execute("UPDATE syncd.sync_changes SET record_id = 'x'") == "UPDATE 0"
            for table in ("sync_changes", "sync_records"):
                assert await owner_role.execute(f"DELETE FROM syncd.{table}") == "DELETE 0"
                if not user:
                    assert await count(owner_role, table) == 0
    assert house.canary in house.callers["owner"].ask(history=1).text


async def test_row_security_is_forced_on_every_table_of_a_space(server: Server, runtime: asyncpg.Connection) -> None:
    rows = await runtime.fetch(
        "SELECT relname, relrowsecurity AND relforcerowsecurity FROM pg_class"
        " WHERE relnamespace = 'syncd'::regnamespace AND relkind IN ('r', 'p')"
    )
    assert {row[0] for row in rows if row[1]} >= {*TABLES, "sync_adoptions", "sync_restores"}
    assert {row[0] for row in rows if not row[1]} <= {"sync_server", "sync_migrations", "sync_functions", "sync_starts"}
    me = await runtime.fetchrow(
        "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication"
        " FROM pg_roles WHERE rolname = current_user"
    )
    assert not any(me)
    owned = "SELECT count(*) FROM pg_{0} WHERE {1}owner = current_user::regrole"
    for catalog, column in (("class", "rel"), ("proc", "pro"), ("namespace", "nsp"), ("type", "typ")):
        assert await runtime.fetchval(owned.format(catalog, column)) == 0
    assert await runtime.fetchval("SELECT count(*) FROM pg_auth_members WHERE member = current_user::regrole") == 0
