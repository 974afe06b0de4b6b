"""G24: the role that serves reads the schemas in force, and changes and sees nothing else of them."""

from __future__ import annotations

import asyncpg
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.direct import run
from tests.support.wire import unique

PUT = "SELECT syncd.sync_schema_put('{}', 'pages', '{}')"


async def test_it_reads_what_is_in_force_by_functions(database: EmbeddedPostgres) -> None:
    app = unique("app")
    await run(database.owner_dsn, PUT.format(app, '{"maxProperties": 2}'), PUT.format(app, '{"maxProperties": 3}'))
    rows = await run(database.runtime_dsn, "SELECT * FROM syncd.sync_schemas_in_force()")
    assert [row for row in rows if row[0] == app] == [(app, "pages", 2, '{"maxProperties": 3}')]
    [before] = await run(database.runtime_dsn, "SELECT syncd.sync_schemas_mark()")
    assert await run(database.owner_dsn, PUT.format(app, '{"maxProperties": 3}')) == [(None,)]
    assert [before] == await run(database.runtime_dsn, "SELECT syncd.sync_schemas_mark()")
    await run(database.owner_dsn, f"SELECT syncd.sync_schema_put('{app}', 'pages', NULL)")
    assert [before] != await run(database.runtime_dsn, "SELECT syncd.sync_schemas_mark()")
    rows = await run(database.runtime_dsn, "SELECT * FROM syncd.sync_schemas_in_force()")
    assert [row for row in rows if row[0] == app] == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM syncd.sync_table_schemas",
        "INSERT INTO syncd.sync_table_schemas (app, table_name, version) VALUES ('a', 'b', 1)",
        "UPDATE syncd.sync_table_schemas SET body = '{}'",
        "DELETE FROM syncd.sync_table_schemas",
        "SELECT syncd.sync_schema_put('a', 'b', '{}')",
    ],
)
@pytest.mark.parametrize("role", ["syncd_runtime", "syncd_compactor"])
async def test_it_writes_and_reads_none_itself(database: EmbeddedPostgres, statement: str, role: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await run(database.dsn(role), statement)


async def test_row_security_is_forced(database: EmbeddedPostgres) -> None:
    forced = "SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = 'syncd.sync_table_schemas'::regclass"
    assert await run(database.owner_dsn, forced) == [(True, True)]
