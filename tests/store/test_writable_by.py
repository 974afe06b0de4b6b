"""G10: row security itself decides who may write a table, or a field of one: direct SQL as the role that serves, which
asks nobody, and as the owner while a group of pushes is written."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import asyncpg
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.schema_files import schema_directory
from tests.support.direct import pushed, run
from tests.support.wire import unique

STAMP = "2026-01-02T00:00:00.000000Z"
APPEND = """
    INSERT INTO syncd.sync_changes (seq, push_end, created_at, event_id, space_no, app_no, table_no, user_no, client_no,
                                    op, record_id, change_id, fields, lost)
    VALUES (99, 99, now(), gen_random_uuid(), {space}, {app}, {t}, {user}, {device}, 2, 'r', 'new', {fields}, {lost})"""
ADD = """
    INSERT INTO syncd.sync_records (seq, latest, event_id, space_no, app_no, table_no, client_no, deleted, record_id,
                                    registers)
    VALUES (99, 1, gen_random_uuid(), {space}, {app}, {t}, {device}, false, 'new', {fields})"""
MERGE = """
    UPDATE syncd.sync_records SET registers = registers || {fields}
    WHERE space_no = {space} AND app_no = {app} AND table_no = {t} AND record_id = 'r'"""
REPLACE = """
    UPDATE syncd.sync_records SET registers = {fields}
    WHERE space_no = {space} AND app_no = {app} AND table_no = {t} AND record_id = 'r'"""
REKEY = """
    UPDATE syncd.sync_records SET {column} = {to}
    WHERE space_no = {space} AND app_no = {app} AND table_no = {t} AND record_id = 'r'"""
AS_A_PUSH = [
    f"SET LOCAL {one}"
    for one in (
        "plan_cache_mode = force_generic_plan",
        "enable_seqscan = off",
        "enable_bitmapscan = off",
        "enable_sort = off",
    )
]
GROUP = (
    "SELECT set_config(syncd.sync_acting_in(), concat_ws(',', '0', '', '', '', '{user}', '{device}', '{space}'), true)"
)


class Place(NamedTuple):
    """A space that ann owns and bob writes in, with a record `r` that has x: the numbers of names, and connections."""

    dsns: tuple[str, str]
    app: str
    users: dict[str, str]
    number: dict[str, int]

    async def says(self, body: Any) -> None:
        text = "NULL" if body is None else f"'{json.dumps(body)}'"
        await run(self.dsns[1], f"SELECT syncd.sync_schema_put('{self.app}', 't', {text})")

    def filled(self, statement: str, user: str, fields: Any = None, lost: Any = None) -> str:
        texts = {"fields": fields, "lost": lost}
        quoted = {name: "NULL" if one is None else f"'{json.dumps(one)}'" for name, one in texts.items()}
        return statement.format(user=self.number[user], **self.number, **quoted)

    async def may(self, user: str, statement: str, fields: Any = None, lost: Any = None) -> bool:
        """Whether row security lets the role that serves do it as this user; it is undone."""
        act = f"SELECT syncd.sync_act_as('{self.users[user]}')"
        return await self._tried(self.dsns[0], act, *AS_A_PUSH, self.filled(statement, user, fields, lost))

    async def may_in_a_group(self, user: str, statement: str, fields: Any = None) -> bool:
        said = (self.filled(GROUP, user), self.filled(statement, user, fields))
        return await self._tried(self.dsns[1], "SET LOCAL ROLE syncd_owner", *said)

    async def cost(self, user: str, statement: str, fields: Any) -> float:
        """Seconds that the database's own functions take for it, as may() does it."""
        begun = time.perf_counter()
        assert await self.may(user, statement, fields)
        return time.perf_counter() - begun

    async def _tried(self, dsn: str, *statements: str) -> bool:
        conn = await asyncpg.connect(dsn)
        transaction = conn.transaction()
        await transaction.start()
        try:
            for statement in statements:
                done = await conn.execute(statement)
        except asyncpg.InsufficientPrivilegeError as why:
            return "row-level security" not in str(why)
        finally:
            await transaction.rollback()
            await conn.close()
        return done.split()[-1] == "1"


@pytest.fixture
async def place(database: EmbeddedPostgres) -> AsyncIterator[Place]:
    app, users = unique("app"), {"ann": unique("ann"), "bob": unique("bob")}
    space = f"{app}-s"
    push = pushed(users["ann"], space, "r").replace('"app": "app"', f'"app": "{app}"')
    act = f"PERFORM syncd.sync_act_as('{users['ann']}', true)"
    await run(
        database.owner_dsn,
        f"DO $$ BEGIN {act}, syncd.sync_space_create('{space}', 'x'), "
        f"syncd.sync_member_put('{space}', '{users['bob']}', 'writer'); END $$",
        push,
    )
    names = {**users, "app": app, "t": "t", "device": "c1"}
    number = {key: (await run(database.owner_dsn, f"SELECT name_no FROM syncd.sync_names WHERE name = '{name}'"))[0][0]
              for key, name in names.items()}  # fmt: skip
    [(number["space"],)] = await run(
        database.owner_dsn, f"SELECT space_no FROM syncd.sync_spaces WHERE space_id = '{space}'"
    )
    made = Place((database.runtime_dsn, database.owner_dsn), app, users, number)
    yield made
    await made.says(None)


def register(value: Any = 2, client: str | None = None) -> dict[str, Any]:
    return {"value": value, "at": STAMP} | ({} if client is None else {"clientId": client})


OTHER, OURS = {"y": register()}, {"x": register()}
STORED = {name: {**register(), "clientId": "c1"} for name in "xy"}


async def test_of_a_table(place: Place) -> None:
    ways = [
        (APPEND, OTHER),
        (APPEND, {"deletedAt": register()}),
        (ADD, {"y": STORED["y"]}),
        (MERGE, {"y": STORED["y"]}),
    ]
    for statement, fields in ways:
        assert await place.may("bob", statement, fields), statement
    await place.says({"x-writable-by": "owner"})
    for statement, fields in ways:
        assert not await place.may("bob", statement, fields), statement
        assert await place.may("ann", statement, fields), statement
    await place.says({"x-writable-by": "writer"})
    assert await place.may("bob", APPEND, OTHER)


async def test_of_a_field_in_the_log(place: Place) -> None:
    await place.says({"properties": {"x": {"x-writable-by": "owner"}}})
    held = (
        await run(place.dsns[1], f"SELECT registers::text FROM syncd.sync_records WHERE app_no = {place.number['app']}")
    )[0][0]
    kept = json.loads(held)["x"]
    assert await place.may("bob", APPEND, OTHER)
    assert await place.may("bob", APPEND, {**OTHER, "x": kept}), "another's, kept beside a change to a deleted record"
    for fields, lost in ((OURS, None), (None, OURS), ({"x": register(client="c1")}, None), ({"x.a": register()}, None)):
        assert not await place.may("bob", APPEND, fields, lost), (fields, lost)
        assert await place.may("ann", APPEND, fields, lost), (fields, lost)


async def test_of_a_field_in_the_state(place: Place) -> None:
    await place.says({"properties": {"x": {"x-writable-by": "owner"}}})
    cases = [(ADD, {"y": STORED["y"]}, True), (ADD, {"x": STORED["x"]}, False), (MERGE, {"y": STORED["y"]}, True),
             (MERGE, {"x": STORED["x"]}, False), (REPLACE, {"y": STORED["y"]}, False)]  # fmt: skip
    for statement, fields, may in cases:
        assert await place.may("bob", statement, fields) == may, (statement, fields)
        assert await place.may("ann", statement, fields), (statement, fields)


@pytest.mark.parametrize("words", ["x", "f1 x.y", "many"])
async def test_a_writer_s_edit_of_a_record_of_many_fields_costs_about_what_the_owner_s_does(
    place: Place, words: str
) -> None:
    many = {f"f{i}": {**STORED["y"], "value": hashlib.sha256(b"%d" % i).hexdigest()} for i in range(6000)}
    said = [f"w{i}.a" for i in range(1400)] if words == "many" else words.split()
    await run(place.dsns[1], place.filled(REPLACE, "ann", STORED | many))
    await place.says({"properties": {name: {"x-writable-by": "owner"} for name in said}})
    for statement, fields in ((MERGE, {"y": register(3)}), (REPLACE, {**STORED, **many, "y.z": STORED["y"]}),
                              (APPEND, {**OTHER, **many})):  # fmt: skip
        by_ann = min([await place.cost("ann", statement, fields) for _ in range(2)])
        by_bob = min([await place.cost("bob", statement, fields) for _ in range(2)])
        assert by_bob < 5 * by_ann + 1, (statement, by_bob, by_ann)
    if words == "f1 x.y":
        for statement in (MERGE, APPEND):
            for fields in ({**many, "f1": register(4)}, {**many, "x": register(4)}, {**many, "x.y.z": register(4)}):
                assert not await place.may("bob", statement, fields), statement


async def test_no_record_gets_another_key(place: Place) -> None:
    """Neither out of its table, its space or its app, nor from one id to another."""
    await place.says({"x-writable-by": "owner"})
    for column, to in (("table_no", "0"), ("app_no", "0"), ("space_no", "0"), ("record_id", "'q'")):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await run(place.dsns[0], "BEGIN", f"SELECT syncd.sync_act_as('{place.users['bob']}')",
                      place.filled(REKEY.replace("{column}", column).replace("{to}", to), "bob"))  # fmt: skip


async def test_while_a_group_is_written(place: Place) -> None:
    ways = [(APPEND, OTHER), (ADD, {"y": STORED["y"]}), (MERGE, {"y": STORED["y"]})]
    of_x = [(APPEND, OURS), (ADD, {"x": STORED["x"]}), (MERGE, {"x": STORED["x"]})]
    field = {"properties": {"x": {"x-writable-by": "owner"}}}
    for schema, may, may_x in ((None, True, True), ({"x-writable-by": "owner"}, False, False), (field, True, False)):
        await place.says(schema)
        for statement, fields in (*ways, *of_x):
            allowed = may if (statement, fields) in ways else may_x
            assert await place.may_in_a_group("bob", statement, fields) == allowed, (schema, statement, fields)
            assert await place.may_in_a_group("ann", statement, fields), (schema, statement)


def grouped(push: str, app: str) -> tuple[str, str]:
    """The head and the body of a push, as they are in a group's."""
    found = re.search(r"sync_push\('\[(.*)\]', ARRAY\[1\], ARRAY\['(.*)'\]::", push)
    assert found
    return json.dumps({**json.loads(found[1]), "app": app, "grouped": True}), found[2]


async def test_what_is_refused_does_not_undo_its_group(place: Place) -> None:
    """It gets a receipt of nulls, and comes alone."""
    await place.says({"properties": {"x": {"x-writable-by": "owner"}}})
    space = f"{place.app}-s"
    mine, other = (pushed(place.users[who], space, f"r-{who}", client=f"c-{who}") for who in ("ann", "bob"))
    fine = other.replace('"x"', '"y"').replace("r-bob", "r-y").replace("c-bob", "c1")
    pushes = [grouped(one, place.app) for one in (mine.replace("c-ann", "c1"), other.replace("c-bob", "c1"), fine)]
    heads, bodies = ",".join(head for head, _ in pushes), ",".join(f"'{body}'" for _, body in pushes)
    call = f"SELECT marks FROM syncd.sync_push('[{heads}]', ARRAY[1, 1, 1], ARRAY[{bodies}]::pg_catalog.json[])"
    assert await run(place.dsns[0], call) == [("a",), (None,), ("a",)]
    head, body = pushes[1]
    alone = f"'[{head}]'::jsonb #- '{{0,grouped}}', ARRAY[1], ARRAY['{body}']::pg_catalog.json[]"
    with pytest.raises(asyncpg.PostgresError, match="unwritable"):
        await run(place.dsns[0], f"SELECT marks FROM syncd.sync_push({alone})")


async def test_a_word_that_stood_in_a_schema_before_is_in_force_afterwards(place: Place) -> None:
    """The migration reads the schemas; those that say what cannot be are left as they were."""
    words = f"SELECT field FROM syncd.sync_writable_by WHERE app_no = {place.number['app']}"
    for k, (says, found) in enumerate((({"properties": {"x": {"x-writable-by": "owner"}}}, [("x",)]), (
            {"x-writable-by": "me"}, []), ({"properties": [{"x-writable-by": "owner"}]}, []))):  # fmt: skip
        await run(place.dsns[1], "DELETE FROM syncd.sync_writable_by")
        await run(place.dsns[1], "INSERT INTO syncd.sync_table_schemas (app, table_name, version, body) VALUES "
                  f"('{place.app}', 't', {k + 1}, '{json.dumps(says)}')")  # fmt: skip
        assert await run(place.dsns[1], words) == []
        await run(place.dsns[1], "SET ROLE syncd_owner", "SELECT syncd.sync_schemas_say()")
        assert await run(place.dsns[1], words) == found
    migration = (schema_directory() / "tables" / "0063_post_writable_by.sql").read_text()
    assert "SELECT syncd.sync_schemas_say();" in migration


async def test_the_role_that_serves_reads_it_and_writes_none(database: EmbeddedPostgres) -> None:
    await run(database.runtime_dsn, "SELECT * FROM syncd.sync_writable_by")
    for statement in (
        "INSERT INTO syncd.sync_writable_by VALUES (1, 1, '', 'owner')",
        "DELETE FROM syncd.sync_writable_by",
        "SELECT syncd.sync_writable_put('a', 't', NULL)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await run(database.runtime_dsn, statement)


async def test_another_role_is_none(place: Place) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await place.says({"x-writable-by": "reader"})
