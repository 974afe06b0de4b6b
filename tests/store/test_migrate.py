"""Migrations: forward only, once, by several at a time, and never by an older server."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from syncd.postgres.database_checks import check_row_security
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.emit import emit
from syncd.postgres.migrate import migrate, pending
from syncd.postgres.schema_files import ChangedMigration, MigrationError, SchemaTooNew, read_schema, schema_directory
from tests.support import programs


def silent(text: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture
async def empty(database: EmbeddedPostgres) -> AsyncIterator[str]:
    """The name of an empty database."""
    conn = await asyncpg.connect(database.dsn("postgres", "postgres"))
    name = f"empty_{os.urandom(4).hex()}"
    await conn.execute(f"CREATE DATABASE {name}")
    yield name
    await conn.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await conn.close()


@pytest.fixture
def files(folder: Path) -> Path:
    """A folder of two migrations."""
    add(folder, 1, "CREATE TABLE syncd.one (x integer);")
    add(folder, 2, "CREATE TABLE two (x integer); INSERT INTO syncd.one VALUES (1);")
    return folder


def add(folder: Path, number: int, sql: str, name: str = "pre_step") -> Path:
    """Write a migration."""
    path = folder / "tables" / f"{number:04d}_{name}.sql"
    path.parent.mkdir(exist_ok=True)
    path.write_text(sql)
    return path


async def ask(dsn: str, query: str) -> object:
    """One value from a database."""
    conn = await asyncpg.connect(dsn)
    try:
        return await conn.fetchval(query)
    finally:
        await conn.close()


async def missing(dsn: str, files: Path | None = None) -> list[str]:
    """What a server would find missing."""
    conn = await asyncpg.connect(dsn)
    try:
        return await pending(conn, directory=files)
    finally:
        await conn.close()


async def test_they_are_applied_once_and_belong_to_the_owner(
    database: EmbeddedPostgres, empty: str, files: Path
) -> None:
    dsn = database.dsn("postgres", empty)
    said: list[str] = []
    assert await missing(dsn, files) == ["0001_pre_step", "0002_pre_step"]
    assert await migrate(dsn, say=said.append, directory=files) == ["0001_pre_step", "0002_pre_step"]
    assert said == ["applied 0001_pre_step", "applied 0002_pre_step"]
    assert await migrate(dsn, say=said.append, directory=files) == []
    assert await missing(database.dsn("syncd_runtime", empty), files) == []
    owners = "SELECT array_agg(DISTINCT tableowner::text) FROM pg_tables WHERE schemaname = 'syncd'"
    assert await ask(dsn, owners) == ["syncd_owner"]
    add(files, 3, "CREATE TABLE three ();")
    assert await missing(dsn, files) == ["0003_pre_step"]
    assert await migrate(dsn, say=silent, directory=files) == ["0003_pre_step"]


async def test_eight_at_once_apply_each_once(database: EmbeddedPostgres, empty: str, files: Path) -> None:
    add(files, 3, "SELECT pg_sleep(0.2); CREATE TABLE three ();")
    dsn = database.dsn("postgres", empty)
    applied = await asyncio.gather(*(migrate(dsn, say=silent, directory=files) for _ in range(8)))
    assert sorted(name for names in applied for name in names) == ["0001_pre_step", "0002_pre_step", "0003_pre_step"]
    assert await missing(dsn, files) == []


async def test_a_failing_file_leaves_nothing_of_itself_and_names_the_line(
    database: EmbeddedPostgres, empty: str, files: Path
) -> None:
    add(files, 3, "CREATE TABLE three ();\n\nSELECT nothing_like_it;")
    dsn = database.dsn("postgres", empty)
    with pytest.raises(MigrationError, match=r"0003_pre_step.sql, line 3, failed.*Nothing of this file"):
        await migrate(dsn, say=silent, directory=files)
    assert await ask(dsn, "SELECT to_regclass('syncd.three')") is None
    assert await missing(dsn, files) == ["0003_pre_step"]


async def test_a_database_that_lost_its_record_of_what_was_applied_is_told_what_to_do(
    database: EmbeddedPostgres, empty: str, files: Path
) -> None:
    add(files, 3, "CREATE TABLE three ();")
    dsn = database.dsn("postgres", empty)
    await migrate(dsn, say=silent, directory=files)
    await ask(dsn, "DELETE FROM syncd.sync_migrations WHERE number = 3")
    with pytest.raises(MigrationError, match=r"0003_pre_step.*already exists.*syncd.sync_migrations from a backup"):
        await migrate(dsn, say=silent, directory=files)


async def test_a_table_that_is_missing_is_no_case_for_row_security(database: EmbeddedPostgres, empty: str) -> None:
    dsn = database.dsn("postgres", empty)
    await migrate(dsn, say=silent)
    await ask(dsn, "ALTER TABLE syncd.sync_feeds RENAME TO elsewhere")
    conn = await asyncpg.connect(dsn)
    try:
        finding = await check_row_security(conn)
    finally:
        await conn.close()
    assert (finding.detail, finding.remedy) == ("the table sync_feeds is missing", "restore the database from a backup")


async def test_a_file_that_was_changed_afterwards_is_refused(
    database: EmbeddedPostgres, empty: str, files: Path
) -> None:
    dsn = database.dsn("postgres", empty)
    await migrate(dsn, say=silent, directory=files)
    add(files, 1, "CREATE TABLE syncd.one (x bigint);")
    for attempt in (migrate(dsn, say=silent, directory=files), missing(dsn, files)):
        with pytest.raises(ChangedMigration, match=r"0001_pre_step.sql is not the file.*in a new migration"):
            await attempt


async def test_an_older_server_refuses_a_newer_schema(database: EmbeddedPostgres, empty: str, files: Path) -> None:
    dsn = database.dsn("postgres", empty)
    await migrate(dsn, say=silent, directory=files)
    (files / "tables" / "0002_pre_step.sql").unlink()
    for attempt in (
        migrate(dsn, say=silent, directory=files),
        missing(database.dsn("syncd_runtime", empty), files),
    ):
        with pytest.raises(SchemaTooNew, match=r"0002_pre_step, which this syncd does not know.*newer syncd"):
            await attempt


async def test_it_gives_way_to_traffic_and_then_gets_its_lock(
    database: EmbeddedPostgres, empty: str, files: Path
) -> None:
    dsn = database.dsn("postgres", empty)
    await migrate(dsn, say=silent, directory=files)
    add(files, 3, "ALTER TABLE syncd.one ADD COLUMN y integer;")
    reader = await asyncpg.connect(dsn)
    transaction = reader.transaction()
    await transaction.start()
    await reader.fetch("SELECT * FROM syncd.one")
    running = asyncio.create_task(migrate(dsn, say=silent, directory=files, lock_timeout_ms=50))
    # While it tries, another reader waits for no longer than one attempt.
    await asyncio.sleep(0.3)
    assert not running.done()
    assert await asyncio.wait_for(ask(dsn, "SELECT count(*) FROM syncd.one"), 60) == 1
    await transaction.rollback()
    assert await running == ["0003_pre_step"]
    await reader.close()


async def test_one_of_two_that_wait_for_each_other_is_tried_again(
    database: EmbeddedPostgres, empty: str, files: Path
) -> None:
    dsn = database.dsn("postgres", empty)
    await migrate(dsn, say=silent, directory=files)
    add(files, 3, "LOCK TABLE syncd.one; SELECT pg_catalog.pg_advisory_xact_lock(7);")
    reader = await asyncpg.connect(dsn)
    transaction = reader.transaction()
    await transaction.start()
    await reader.execute("SET LOCAL deadlock_timeout = '60s'; SELECT pg_catalog.pg_advisory_xact_lock(7)")
    running = asyncio.create_task(migrate(dsn, say=silent, directory=files))
    await asyncio.sleep(0.3)
    # The migration has been waiting for the reader when the reader begins to wait for it.
    assert await asyncio.wait_for(reader.fetchval("SELECT count(*) FROM syncd.one"), 60) == 1
    await transaction.rollback()
    assert await running == ["0003_pre_step"]
    await reader.close()


async def test_the_emitted_files_applied_by_psql_are_all_that_is_needed(
    database: EmbeddedPostgres, empty: str, folder: Path
) -> None:
    written = emit(folder / "out")
    assert [path.name for path in written] == [
        "0_preamble.sql",
        "1_0014_pre_baseline.sql",
        "1_0016_pre_held.sql",
        "1_0018_pre_starts.sql",
        "1_0020_pre_devices.sql",
        "1_0022_pre_compactor.sql",
        "1_0024_pre_memberships.sql",
        "1_0025_pre_invitations.sql",
        "1_0027_pre_names.sql",
        "1_0029_pre_cursors.sql",
        "1_0031_pre_quotas.sql",
        "1_0033_pre_audit.sql",
        "1_0035_pre_devices_used.sql",
        "1_0037_pre_context_key.sql",
        "1_0038_pre_written_change.sql",
        "1_0043_pre_consumers.sql",
        "1_0045_pre_told_change.sql",
        "1_0046_pre_webhooks.sql",
        "1_0048_pre_service_tokens.sql",
        "1_0049_pre_schemas.sql",
        "1_0050_pre_reports.sql",
        "1_0051_pre_projections.sql",
        "1_0053_pre_erasures.sql",
        "1_0055_pre_erasing.sql",
        "1_0057_pre_held_service.sql",
        "1_0060_pre_erased_incarnations.sql",
        "1_0062_pre_writable_by.sql",
        "1_0064_pre_invitation_links.sql",
        "1_0065_pre_roles.sql",
        "1_0069_pre_last_erasure.sql",
        "2_functions.sql",
        "3_0015_post_baseline.sql",
        "3_0017_post_held.sql",
        "3_0019_post_starts.sql",
        "3_0021_post_devices.sql",
        "3_0023_post_compactor.sql",
        "3_0026_post_invitations.sql",
        "3_0028_post_names.sql",
        "3_0030_post_cursors.sql",
        "3_0032_post_quotas.sql",
        "3_0034_post_audit.sql",
        "3_0036_post_devices_used.sql",
        "3_0039_post_small_feeds.sql",
        "3_0040_post_push_groups.sql",
        "3_0041_post_import_folded.sql",
        "3_0042_post_push_single.sql",
        "3_0044_post_consumers.sql",
        "3_0047_post_webhooks.sql",
        "3_0052_post_projections.sql",
        "3_0054_post_erasures.sql",
        "3_0056_post_erasing.sql",
        "3_0058_post_held_service.sql",
        "3_0059_post_erase_begun.sql",
        "3_0061_post_erase_apart.sql",
        "3_0063_post_writable_by.sql",
        "3_0066_post_roles.sql",
        "3_0067_post_consume_outline.sql",
        "3_0068_post_consume_extent.sql",
        "3_0070_post_letter_parts.sql",
    ]
    for path in sorted((folder / "out").glob("*.sql")):
        psql(database, empty, path)
    assert await missing(database.dsn("syncd_runtime", empty)) == []
    columns = (
        "SELECT array_agg(concat_ws(' ', table_name, column_name, data_type) ORDER BY table_name, column_name)"
        " FROM information_schema.columns WHERE table_schema = 'syncd'"
    )
    assert await ask(database.dsn("postgres", empty), columns) == await ask(database.owner_dsn, columns)


async def test_an_emitted_file_cannot_be_applied_twice(
    database: EmbeddedPostgres, empty: str, files: Path, folder: Path
) -> None:
    written = emit(folder / "out", directory=files)
    for path in written:
        psql(database, empty, path)
    # The preamble may run again, a migration may not.
    psql(database, empty, written[0])
    with pytest.raises(subprocess.CalledProcessError) as caught:
        psql(database, empty, written[2])
    assert "sync_migrations_pkey" in caught.value.stderr
    assert await ask(database.dsn("postgres", empty), "SELECT count(*) FROM syncd.one") == 1


def psql(database: EmbeddedPostgres, name: str, path: Path) -> None:
    """Apply a file as a host's own tooling would."""
    programs.psql("-v", "ON_ERROR_STOP=1", "-f", path, database.dsn("postgres", name))


@pytest.mark.parametrize("name", ["plain_owner", "Plain-Owner"])
async def test_a_plain_owner_is_enough_where_the_runtime_role_exists(
    database: EmbeddedPostgres, empty: str, files: Path, name: str
) -> None:
    async with role(database, f'"{name}"'):
        await run(database, f'ALTER DATABASE {empty} OWNER TO "{name}"')
        await migrate(database.dsn(name, empty), say=silent, directory=files)
        owners = "SELECT array_agg(DISTINCT tableowner::text) FROM pg_tables WHERE schemaname = 'syncd'"
        assert await ask(database.dsn("postgres", empty), owners) == [name]
        assert await missing(database.dsn("syncd_runtime", empty), files) == []
        add(files, 3, "CREATE TABLE three ();")
        await migrate(database.dsn(name, empty), say=silent, directory=files)
        assert await missing(database.dsn("syncd_runtime", empty), files) == []
        await run(database, f"ALTER DATABASE {empty} OWNER TO postgres")
        await run(database, f'DROP OWNED BY "{name}" CASCADE', empty)


async def test_who_may_not_make_the_schema_is_told_the_command(
    database: EmbeddedPostgres, empty: str, files: Path
) -> None:
    async with role(database, "stranger"):
        with pytest.raises(MigrationError, match=f"GRANT CREATE ON DATABASE {empty} TO stranger;"):
            await migrate(database.dsn("stranger", empty), say=silent, directory=files)
        await migrate(database.dsn("postgres", empty), say=silent, directory=files)
        add(files, 3, "CREATE TABLE three ();")
        with pytest.raises(MigrationError, match="GRANT syncd_owner TO stranger;"):
            await migrate(database.dsn("stranger", empty), say=silent, directory=files)


async def test_a_manager_of_roles_makes_them(folder: Path, files: Path) -> None:
    with EmbeddedPostgres(folder / "data") as other:
        await run(other, "CREATE ROLE manager LOGIN CREATEROLE")
        await run(other, "CREATE DATABASE managed OWNER manager")
        await run(other, "DROP DATABASE syncd")
        await run(other, "DROP ROLE syncd_owner, syncd_runtime")
        await migrate(other.dsn("manager", "managed"), say=silent, directory=files)
        assert await ask(other.dsn("manager", "managed"), "SELECT set_config('role', 'syncd_compactor', false)")
        await run(other, "CREATE ROLE serving LOGIN IN ROLE syncd_runtime")
        assert await missing(other.dsn("serving", "managed"), files) == []
        assert not await ask(other.dsn("serving", "managed"), "SELECT has_table_privilege('syncd.one', 'SELECT')")


async def test_a_plain_owner_without_the_runtime_role_is_told_the_command(folder: Path, files: Path) -> None:
    with EmbeddedPostgres(folder / "data") as other:
        await run(other, "CREATE ROLE plain LOGIN")
        await run(other, "DROP DATABASE syncd")
        await run(other, "DROP ROLE syncd_owner, syncd_runtime")
        await run(other, "CREATE DATABASE plain OWNER plain")
        for missing_role in ("syncd_runtime", "syncd_compactor"):
            with pytest.raises(MigrationError, match=f"Have an administrator run: CREATE ROLE {missing_role} NOLOGIN;"):
                await migrate(other.dsn("plain", "plain"), say=silent, directory=files)
            await run(other, f"CREATE ROLE {missing_role} NOLOGIN")
        await migrate(other.dsn("plain", "plain"), say=silent, directory=files)


async def test_files_that_are_not_numbered_one_two_three_are_refused(folder: Path) -> None:
    add(folder, 1, "")
    add(folder, 3, "")
    with pytest.raises(MigrationError, match="without gap or repetition"):
        read_schema(folder)
    add(folder, 2, "", "pre_two")
    add(folder, 2, "", "post_too")
    with pytest.raises(MigrationError, match="without gap or repetition"):
        read_schema(folder)


def test_the_schema_of_the_package_is_found() -> None:
    assert [m.label for m in read_schema().migrations][:2] == ["0014_pre_baseline", "0015_post_baseline"]
    assert schema_directory().is_dir()


class role:
    """A login role for one test."""

    def __init__(self, database: EmbeddedPostgres, name: str) -> None:
        self.database = database
        self.name = name

    async def __aenter__(self) -> None:
        await run(self.database, f"CREATE ROLE {self.name} LOGIN")

    async def __aexit__(self, *problem: object) -> None:
        await run(self.database, f"DROP ROLE {self.name}")


async def run(database: EmbeddedPostgres, statement: str, name: str = "postgres") -> None:
    """One statement as the superuser."""
    conn = await asyncpg.connect(database.dsn("postgres", name))
    try:
        await conn.execute(statement)
    finally:
        await conn.close()
