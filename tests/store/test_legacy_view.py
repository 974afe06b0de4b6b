"""`syncd migrate --legacy-view`: the first generation's table, as SQL users know it, over the log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

from syncd.postgres.legacy_view import make_view
from syncd.postgres.schema_files import MigrationError
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.wire import Device, at, edit, unique, values
from tests.system.transfer.test_operator_backup import syncd

Make = Callable[..., Device]
COLUMNS = [
    "id", "app_id", "table_name", "record_id", "user_id", "space_id", "op", "data", "field_meta", "client_id",
    "created_at", "schema_version", "actor", "origin",
]  # fmt: skip
INSERT = """
INSERT INTO public.sync_changes (app_id, table_name, record_id, op, data, field_meta, client_id, space_id)
VALUES ('app', 't', $1, $2, $3::text::jsonb, $4::text::jsonb, 'script', $5) RETURNING id::text, space_id"""


class Sql:
    """A user of SQL who may use the view and nothing else."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def as_user(self, user: str) -> None:
        """Says for whom it works from here on."""
        await self.connection.execute("SELECT set_config('app.current_user_id', $1, false)", user)

    async def rows(self, what: str = "record_id, op", more: str = "") -> list[Any]:
        """What the view has, in the log's order."""
        return list(
            await self.connection.fetch(f"SELECT {what} FROM public.sync_changes {more} ORDER BY created_at, id")
        )

    async def insert(self, record: str, op: str, data: Any, times: Any = None, space: str | None = None) -> Any:
        """A row; its id and space."""
        return await self.connection.fetchrow(INSERT, record, op, json.dumps(data), json.dumps(times), space)


@pytest.fixture
async def sql(server: Server) -> AsyncIterator[Sql]:
    await make_view(server.owner_dsn, say=lambda _: None)
    connection = await asyncpg.connect(server.owner_dsn)
    name = unique("reader").replace("-", "_")
    await connection.execute(f"CREATE ROLE {name} NOLOGIN; GRANT syncd_sql TO {name}; SET ROLE {name}")
    try:
        yield Sql(connection)
    finally:
        await connection.execute(f"RESET ROLE; DROP ROLE {name}")
        await connection.close()


async def test_it_has_the_old_columns_and_what_a_user_may_read(sql: Sql, device: Make) -> None:
    ada, bob = device(unique("ada")), device(unique("bob"))
    space = ada.create(unique("garden"))
    ada.member(space, bob.user, "reader")
    ada.write({"table": "t", "id": "r", "op": "insert", "changeId": "1", "data": {"x": 1, "updatedAt": at(1)},
               "actor": {"by": "me"}, "origin": "agent", "schemaVersion": 3})  # fmt: skip
    ada.write({**edit("s", 2, x=2), "spaceId": space})
    ada.write({"table": "t", "id": "r", "op": "delete", "changeId": "2", "deletedAt": at(3)})
    assert await sql.rows() == []
    await sql.as_user(unique("stranger"))
    assert await sql.rows() == []
    await sql.as_user(ada.user)
    first, second, third = await sql.rows("*")
    assert list(first.keys()) == COLUMNS
    assert [(row["op"], row["record_id"], row["space_id"], row["user_id"]) for row in (first, second, third)] == [
        ("insert", "r", f"_personal:{ada.user}", ada.user),
        ("update", "s", space, ada.user),
        ("delete", "r", f"_personal:{ada.user}", ada.user),
    ]
    assert json.loads(first["data"]) == {"x": 1, "updatedAt": at(1), "deletedAt": None}
    assert json.loads(first["field_meta"])["x"] == "2026-01-01T00:00:00.000Z"  # in milliseconds, as devices are sent it
    gone = {key: json.loads(third[key])["deletedAt"] for key in ("data", "field_meta")}
    assert gone == dict.fromkeys(gone, "2026-01-01T00:00:00.000Z")
    assert (json.loads(first["actor"]), first["origin"], first["schema_version"]) == ({"by": "me"}, "agent", 3)
    await sql.as_user(bob.user)
    assert [row["record_id"] for row in await sql.rows()] == ["s"]


async def test_nobody_is_taken_for_a_service(sql: Sql, device: Make) -> None:
    ada = device(unique("ada"))
    await sql.as_user(ada.user)
    for record, said in (("r", {"by": 1, "service": "x", "said": [None]}), ("s", {"by": 1})):
        await sql.connection.execute(
            """INSERT INTO public.sync_changes (app_id, table_name, record_id, op, data, actor)
               VALUES ('app', 't', $1, 'insert', '{"x": 1}', $2)""", record, json.dumps(said),
        )  # fmt: skip
    kept = [json.loads(row["actor"]) for row in await sql.rows("*")]
    assert kept == [{"by": 1, "said": {"said": [None], "service": "x"}}, {"by": 1}]


@pytest.mark.parametrize("op", ["insert", "update", "delete"])
async def test_a_row_with_an_id_of_its_own_that_comes_again_is_no_change(sql: Sql, device: Make, op: str) -> None:
    ada = device(unique("ada"))
    await sql.as_user(ada.user)
    same = (uuid.uuid4(), op, '{"title": "x"}')
    query = """INSERT INTO public.sync_changes (id, app_id, table_name, record_id, op, data)
               VALUES ($1, 'app', 't', 'r', $2, $3)"""
    for _ in range(2):
        await sql.connection.execute(query, *same)
    assert len(await sql.rows()) == 1
    with pytest.raises(asyncpg.UniqueViolationError):
        await sql.connection.execute(query, same[0], "update", '{"title": "y"}')


@pytest.mark.parametrize("time", ["", None, "yesterday", {"at": ""}, True])
async def test_a_time_that_is_none_is_when_the_row_was_made(sql: Sql, device: Make, time: Any) -> None:
    ada = device(unique("ada"))
    await sql.as_user(ada.user)
    await sql.connection.execute(
        """INSERT INTO public.sync_changes (app_id, table_name, record_id, op, data, field_meta, created_at)
           VALUES ('app', 't', 'r', 'insert', $1, $2, $3::text::timestamptz)""",
        json.dumps({"title": "x", "note": "n", "createdAt": at(1)}), json.dumps({"title": time}), at(5),
    )  # fmt: skip
    fields = ada.drain()[0][0]["fields"]
    assert (fields["title"]["at"], fields["note"]["at"]) == (at(5), at(1))


@pytest.mark.parametrize("op", ["insert", "update"])
@pytest.mark.parametrize("nothing", ["", False, 0, None])
async def test_a_deletion_that_is_none_deletes_nothing(sql: Sql, device: Make, op: str, nothing: Any) -> None:
    ada = device(unique("ada"))
    await sql.as_user(ada.user)
    await sql.insert("r", op, {"x": 1, "deletedAt": nothing})
    assert ada.drain()[0][0]["fields"]["x"]["value"] == 1
    assert not ada.drain()[0][0].get("deletedAt")


async def test_an_insert_is_a_push_of_that_user(sql: Sql, device: Make) -> None:
    ada = device(unique("ada"))
    space = ada.create(unique("garden"))
    await sql.as_user(ada.user)
    row = await sql.insert("r", "insert", {"title": "first", "createdAt": at(10)})
    assert row["space_id"] == f"_personal:{ada.user}"
    await sql.insert("r", "update", {"title": "second"}, {"title": at(20)})
    await sql.insert("r", "update", {"title": "late", "n": 1}, {"title": {"at": at(15)}, "n": 1767225600000})
    await sql.insert("s", "insert", {"title": "shared"}, None, space)
    changes = ada.drain()[0]
    assert {c["id"]: c["spaceId"] for c in changes} == {"r": f"_personal:{ada.user}", "s": space}
    fields = next(c for c in changes if c["id"] == "r")["fields"]
    assert (fields["title"]["value"], fields["title"]["at"], fields["n"]["at"]) == ("second", at(20), at(0))
    assert fields["title"]["clientId"] == "script"
    assert row["id"] in {str(one["id"]) for one in await sql.rows("id")}
    await sql.insert("r", "delete", None)
    assert values(ada.drain()[0]).keys() == {"s"}
    await sql.insert("r", "update", {})
    assert len(await sql.rows()) == 5


async def test_a_time_ahead_of_the_clock_is_brought_down_to_it(sql: Sql, device: Make) -> None:
    ada = device(unique("ada"))
    await sql.as_user(ada.user)
    await sql.insert("r", "update", {"x": 1}, {"x": "2999-01-01T00:00:00Z"})
    register = ada.drain()[0][0]["fields"]["x"]
    assert (register["at"] < "2900", register["sent"]) == (True, "2999-01-01T00:00:00.000000Z")


async def test_a_record_moves_with_its_writer(sql: Sql, device: Make) -> None:
    ada = device(unique("ada"))
    space = ada.create(unique("garden"))
    await sql.as_user(ada.user)
    await sql.insert("r", "insert", {"title": "one", "createdAt": at(1)})
    await sql.insert("r", "update", {"title": "two"}, {"title": at(2)}, space)
    await sql.insert("r", "update", {"note": "n"}, {"note": at(3)})
    (record,) = (c for c in ada.drain()[0] if c["op"] != "delete")
    assert record["spaceId"] == space
    assert {name: record["fields"][name]["value"] for name in ("title", "note")} == {"title": "two", "note": "n"}


async def test_the_same_row_twice_is_one_change(sql: Sql, device: Make) -> None:
    ada = device(unique("ada"))
    await sql.as_user(ada.user)
    row = await sql.insert("r", "insert", {"x": 1, "createdAt": at(1)})
    again = "INSERT INTO sync_changes (id, app_id, table_name, record_id, op, data, created_at)"
    mine = "0190b3c4-0000-7000-8000-" + unique("")[1:].zfill(12)[:12]
    for value, record in ((2, "q"), (2, "q")):
        await sql.connection.execute(
            f"{again} VALUES ($1, 'app', 't', $2, 'update', $3, '2026-01-01')", mine, record, f'{{"x": {value}}}'
        )
    assert len(await sql.rows()) == 2
    assert row["id"] != mine
    with pytest.raises(asyncpg.UniqueViolationError):
        await sql.connection.execute(
            f"{again} VALUES ($1, 'app', 't', 'other', 'update', '{{}}'::jsonb || '{{\"x\": 1}}', now())", mine
        )


BAD: list[tuple[str, tuple[Any, ...], type[Exception]]] = [
    ("no op", ("r", "merge", {"x": 1}), asyncpg.InvalidParameterValueError),
    ("no object", ("r", "update", [1]), asyncpg.InvalidParameterValueError),
    ("no id", ("", "update", {"x": 1}), asyncpg.InvalidParameterValueError),
    ("control character", ("r", "update", {"x\n": 1}), asyncpg.InvalidParameterValueError),
    ("nobody's space", ("r", "update", {"x": 1}, None, "nowhere"), asyncpg.InsufficientPrivilegeError),
    ("somebody's space", ("r", "update", {"x": 1}, None, "_personal:bob"), asyncpg.InsufficientPrivilegeError),
]


@pytest.mark.parametrize(("arguments", "refusal"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
async def test_what_cannot_be_is_refused(sql: Sql, arguments: tuple[Any, ...], refusal: type[Exception]) -> None:
    await sql.as_user(unique("ada"))
    with pytest.raises(refusal):
        await sql.insert(*arguments)
    assert await sql.rows() == []


@pytest.mark.parametrize(
    ("client", "user"), [("_server:c1", None), ("_server:_server:c1", None), ("script", "_erased:ada")]
)
async def test_a_name_of_the_servers_is_refused(sql: Sql, client: str, user: str | None) -> None:
    """A revert is known by its client id."""
    await sql.as_user(user or unique("ada"))
    with pytest.raises(asyncpg.InvalidParameterValueError, match=r"_server:|_erased:"):
        await sql.connection.execute(INSERT.replace("'script'", "$6"), "r", "update", '{"x": 1}', "null", None, client)
    assert await sql.rows() == []


async def test_what_a_user_s_role_may_not_write_is_refused(sql: Sql, server: Server, device: Make) -> None:
    ada, bob, table = device(unique("ada")), device(unique("bob")), unique("prices")
    space = ada.create(unique("garden"))
    ada.member(space, bob.user)
    body = '{"x-writable-by": "owner"}'
    await run(server.owner_dsn, f"SELECT syncd.sync_schema_put('app', '{table}', '{body}')")
    insert = INSERT.replace("'t'", f"'{table}'")
    arguments = ("r", "insert", '{"x": 1}', "null", space)
    await sql.as_user(bob.user)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only an owner"):
        await sql.connection.fetchrow(insert, *arguments)
    await sql.as_user(ada.user)
    assert (await sql.connection.fetchrow(insert, *arguments))["space_id"] == space
    await run(server.owner_dsn, f"SELECT syncd.sync_schema_put('app', '{table}', NULL)")


async def test_nobody_writes_as_another_or_without_saying_who(sql: Sql) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="in app"):
        await sql.insert("r", "update", {"x": 1})
    await sql.as_user(unique("ada"))
    row = """INSERT INTO sync_changes (app_id, table_name, record_id, user_id, op, data)
             VALUES ('app', 't', 'r', 'eve', 'update', '{"x": 1}')"""
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="in app"):
        await sql.connection.execute(row)
    for query in ("SELECT FROM syncd.sync_changes", "SELECT syncd.sync_act_as('ada')", "SELECT syncd.sync_user()"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await sql.connection.execute(query)


@pytest.mark.parametrize("query", ["UPDATE sync_changes SET origin = 'x'", "DELETE FROM sync_changes"])
async def test_the_log_is_not_changed(sql: Sql, query: str) -> None:
    await sql.as_user(unique("ada"))
    await sql.insert("r", "update", {"x": 1})
    with pytest.raises(asyncpg.FeatureNotSupportedError, match="insert a change"):
        await sql.connection.execute(query)


async def test_its_queries_are_answered_by_an_index(sql: Sql, server: Server, device: Make) -> None:
    ada, bob = device(unique("ada")), device(unique("bob"))
    for writer in (ada, bob):
        for start in range(0, 3000, 1000):
            writer.push(*(edit(f"r{start + n}", n + 1, x=n) for n in range(1000)))
    owner = await asyncpg.connect(server.owner_dsn)
    await owner.execute("ANALYZE syncd.sync_changes, syncd.sync_names, syncd.sync_spaces, syncd.sync_memberships")
    await owner.close()
    await sql.as_user(ada.user)
    for index, where in (
        (
            "sync_changes_by_author",
            f"user_id = '{ada.user}' AND app_id = 'app' AND created_at > now() - interval '1 second'",
        ),
        ("sync_changes_by_record", "table_name = 't' AND record_id = 'r7'"),
    ):
        query = f"EXPLAIN SELECT * FROM public.sync_changes WHERE {where}"
        plan = "\n".join(row[0] for row in await sql.connection.fetch(query))
        assert index in plan, plan
        assert "Seq Scan on sync_changes" not in plan, plan


def doctor(env: dict[str, str]) -> str:
    """What `syncd doctor` says as the role that serves."""
    command = [sys.executable, "-m", "syncd", "doctor"]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, check=False).stdout


async def test_the_command_makes_it_and_may_run_again(server: Server) -> None:
    for _ in range(2):
        syncd("migrate", "--database-url", server.owner_dsn, "--legacy-view")
    env = {"SYNCD_DATABASE_URL": server.runtime_dsn, "SYNCD_JWT_SECRET": "x" * 64}
    said = doctor(env)
    assert "all are as syncd put them in" in said
    assert "row security: enabled and forced" in said
    owner = await asyncpg.connect(server.owner_dsn)
    made = "SELECT count(*) FROM pg_index i WHERE i.indisvalid AND i.indexrelid::regclass::text ~ 'sync_changes_by_'"
    assert await owner.fetchval(made) == 2
    assert await owner.fetchval("SELECT to_regclass('public.sync_changes')::text") in (
        "sync_changes",
        "public.sync_changes",
    )
    await owner.close()


async def test_a_table_of_that_name_is_not_touched(database: Any) -> None:
    connection = await asyncpg.connect(database.dsn("postgres", "postgres"))
    await connection.execute("CREATE DATABASE old_table")
    await connection.close()
    dsn = database.dsn("postgres", "old_table")
    syncd("migrate", "--database-url", dsn)
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE public.sync_changes (id integer)")
    await connection.close()
    with pytest.raises(MigrationError, match="is a table"):
        await make_view(dsn, say=lambda _: None)
