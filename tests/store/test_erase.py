"""G25 in the database: each column has its decision, nobody but an operator erases, and texts keep their form."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import asyncpg
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.direct import pushed, run
from tests.support.wire import unique

READ = tomllib.loads(Path(__file__).with_name("erased_columns.toml").read_text())
DECIDED = {table: why for table, why in READ.items() if table.startswith("sync_")}
NUMBERED = """SELECT c.relname, a.attname FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'syncd'::regnamespace AND c.relkind IN ('r', 'p') AND a.attname ~ '(_no|_by|owners)$'
AND a.atttypid = ANY ('{int4,int8,_int4,_int8}'::regtype[])"""
COLUMNS = """SELECT c.relname, a.attname FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'syncd'::regnamespace AND c.relkind IN ('r', 'p')
AND c.relname !~ '^sync_projection_[0-9]+$'"""


async def test_each_column_is_erased_or_kept_for_a_reason(database: EmbeddedPostgres) -> None:
    there = {(table, column) for table, column in await run(database.owner_dsn, COLUMNS)}
    decided = [
        (table, column) for table, why in DECIDED.items() for columns in why.values() for column in columns.split()
    ]
    assert sorted(decided) == sorted(there)


async def test_each_column_of_users_is_pointed_at_the_new_number_or_known_not_to_be(database: EmbeddedPostgres) -> None:
    listed = {(table, column) for table, names in READ["numbers_of_users"].items() for column in names.split()}
    assert set(await run(database.owner_dsn, "SELECT * FROM syncd.sync_user_columns()")) == listed
    apart = {
        tuple(one.split("."))
        for names in READ["numbers of users that are not pointed at another"].values()
        for one in names.split()
    }
    others = set(READ["numbers of other things"]["columns"].split())
    numbered = {(table, column) for table, column in await run(database.owner_dsn, NUMBERED) if column not in others}
    assert numbered == listed | apart


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT syncd.sync_erase_record('s', 'app', 't', 'r')",
        "SELECT syncd.sync_erase_user('ada', false)",
        "SELECT syncd.sync_erase_bury(1)",
        "SELECT syncd.sync_erase_log(1, 1, 1, 0, 1, 1)",
        "SELECT syncd.sync_erase_user_log(1, 1, 1, true, '{}', 0, 1, 1)",
        "SELECT syncd.sync_erase_beside(1)",
        "SELECT syncd.sync_erase_end(1)",
        "SELECT syncd.sync_erase_again('[]')",
        "SELECT syncd.sync_erase_own(1)",
        "SELECT syncd.sync_erase_spaces(1)",
        "SELECT syncd.sync_erase_moved(1)",
        "SELECT syncd.sync_erase_apart(1, 1, 'x')",
        "SELECT syncd.sync_letters_clean()",
        "SELECT * FROM syncd.sync_erasures",
        "SELECT * FROM syncd.sync_erasure_feeds",
        "SELECT * FROM syncd.sync_erasure_key",
        "INSERT INTO syncd.sync_erasures (what, salt, digest) VALUES ('user', '', '')",
        "UPDATE syncd.sync_changes SET fields = NULL",
        "UPDATE syncd.sync_spaces SET erased_at = now()",
        "ALTER TABLE syncd.sync_records DISABLE TRIGGER erased_stays",
    ],
)
@pytest.mark.parametrize("role", ["syncd_runtime", "syncd_compactor"])
async def test_no_role_of_a_server_erases(database: EmbeddedPostgres, statement: str, role: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await run(database.dsn(role), statement)


async def test_a_member_cannot_bring_back_or_forge_an_erased_record_by_sql(database: EmbeddedPostgres) -> None:
    who, space = unique("ada"), unique("space")
    await run(
        database.runtime_dsn,
        f"DO $$ BEGIN PERFORM syncd.sync_act_as('{who}', true), syncd.sync_space_create('{space}', 'x'); END $$",
        pushed(who, space, "r"),
    )
    await run(database.owner_dsn, f"SELECT syncd.sync_erase_bury(syncd.sync_erase_record('{space}', 'app', 't', 'r'))")
    write = "UPDATE syncd.sync_records SET seq = seq + 1, registers = '{}' WHERE record_id = 'r'"
    conn = await asyncpg.connect(database.runtime_dsn)
    try:
        for statement in (write, pushed(who, space, "r")):
            await conn.execute("BEGIN")
            await conn.execute(f"SELECT syncd.sync_act_as('{who}')")
            with pytest.raises(asyncpg.PostgresError) as refused:
                await conn.execute(statement)
            assert refused.value.sqlstate == "SY004"
            await conn.execute("ROLLBACK")
    finally:
        await conn.close()


@pytest.mark.parametrize(
    ("register", "expect"),
    [
        ('{"value":"x","at":"t"}', '{"value":null,"at":"t","erased":true}'),
        ('{"value":{"a": [1]},"at":"t","sent":"u"}', '{"value":null,"at":"t","sent":"u","erased":true}'),
        ('{"value":1,"at":"t","base":"b"}', '{"value":null,"at":"t","erased":true,"base":"b"}'),
        ('{"value":",\\"base\\":null}","at":"t","base":null}', '{"value":null,"at":"t","erased":true,"base":null}'),
        ('{"at": "t", "value": "x"}', '{"at": "t", "value": null, "erased": true}'),
        ('{"at": "t", "sent": "u", "value": 1,"base":"b"}',
         '{"at": "t", "sent": "u", "value": null, "erased": true,"base":"b"}'),
        ('{"value":null,"at":"t","erased":true}', '{"value":null,"at":"t","erased":true}'),
    ],
)  # fmt: skip
async def test_a_register_keeps_its_form(database: EmbeddedPostgres, register: str, expect: str) -> None:
    conn = await asyncpg.connect(database.owner_dsn)
    try:
        assert await conn.fetchval("SELECT syncd.sync_erased_register($1::json)", register) == expect
    finally:
        await conn.close()


@pytest.mark.parametrize(
    ("fields", "keys", "expect"),
    [
        ('{"a":{"value":1,"at":"t"},"deletedAt":{"value":"2026-01-01T00:00:00.000000Z","at":"t"}}', None,
         '{"a":{"value":null,"at":"t","erased":true},"deletedAt":{"value":"2026-01-01T00:00:00.000000Z","at":"t"}}'),
        ('{"a":{"value":1,"at":"t"},"b":{"value":2,"at":"t"}}', ["b"],
         '{"a":{"value":1,"at":"t"},"b":{"value":null,"at":"t","erased":true}}'),
        ('{"a": {"at": "t", "value": 1, "clientId": "c"}, "b": {"at": "t", "value": 2}}', None,
         '{"a": {"at": "t", "value": null, "erased": true, "clientId": "c"}, '
         '"b": {"at": "t", "value": null, "erased": true}}'),
        ('{"deletedAt":{"value":"a name","at":"t"}}', None, '{"deletedAt":{"value":"t","at":"t"}}'),
        ('{"deletedAt":{"value":{"x":[1]},"at":"t"}}', ["deletedAt"], '{"deletedAt":{"value":"t","at":"t"}}'),
        ('{"deletedAt":{"value":"a name","at":"t"}}', ["a"], '{"deletedAt":{"value":"a name","at":"t"}}'),
        ('{"deletedAt": {"at": "t", "value": "a name", "clientId": "c"}}', None,
         '{"deletedAt": {"at": "t", "value": "t", "clientId": "c"}}'),
        ('{"deletedAt":{"value":null,"at":"t"}}', None, '{"deletedAt":{"value":null,"at":"t"}}'),
        ("{}", None, "{}"),
        (None, None, None),
        ('{"a":{"value":1,"at":"t"}}', [], '{"a":{"value":1,"at":"t"}}'),
    ],
)  # fmt: skip
async def test_a_change_keeps_its_form(
    database: EmbeddedPostgres, fields: str | None, keys: list[str] | None, expect: str | None
) -> None:
    conn = await asyncpg.connect(database.owner_dsn)
    try:
        found = await conn.fetchval("SELECT syncd.sync_erased_fields($1::json, $2::text[])", fields, keys)
    finally:
        await conn.close()
    assert found == expect
    assert found is None or json.loads(found) is not None
