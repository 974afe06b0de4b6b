"""The functions in a database: put in where they differ, never by an older syncd, and known again when altered."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from syncd.cli.doctor import examine
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.emit import emit
from syncd.postgres.findings import Finding
from syncd.postgres.migrate import migrate, pending
from syncd.postgres.schema_files import MigrationError, SchemaTooNew, read_schema, schema_directory
from syncd.settings import Settings
from tests.support import programs
from tests.support.harness import Server
from tests.support.migrated import copied_database, migrated_database, silent
from tests.support.wire import Device, edit

CATALOG = """
SELECT p.oid, p.oid::regprocedure::text, pg_get_functiondef(p.oid), p.proacl::text, p.proowner::regrole::text
FROM pg_proc p WHERE p.pronamespace = 'syncd'::regnamespace ORDER BY 2
"""
NEW = "\n\nCREATE OR REPLACE FUNCTION syncd.sync_{name}() RETURNS integer LANGUAGE sql STABLE RETURN {value};\n"


@pytest.fixture(scope="module")
async def migrated(database: EmbeddedPostgres) -> AsyncIterator[str]:
    """The name of a migrated database, of which each test has a copy."""
    async with migrated_database(database) as name:
        yield name


@pytest.fixture
async def own(database: EmbeddedPostgres, migrated: str) -> AsyncIterator[str]:
    """The name of a migrated database of the test's own."""
    async with copied_database(database, migrated) as name:
        yield name


@pytest.fixture
def newer(folder: Path) -> Path:
    """The schema as a later commit has it: one more function, and another text of one."""
    shutil.copytree(schema_directory(), folder / "newer")
    path = folder / "newer" / "functions" / "base.sql"
    path.write_text(path.read_text() + NEW.format(name="later", value=1))
    return folder / "newer"


async def run(dsn: str, *statements: str) -> list[Any]:
    """What the last of some statements answers."""
    conn = await asyncpg.connect(dsn)
    try:
        rows: list[Any] = []
        for statement in statements:
            rows = [tuple(row) for row in await conn.fetch(statement)]
        return rows
    finally:
        await conn.close()


async def lacking(dsn: str, directory: Path | None = None) -> list[str]:
    conn = await asyncpg.connect(dsn)
    try:
        return await pending(conn, directory=directory)
    finally:
        await conn.close()


async def test_putting_all_in_again_changes_nothing(database: EmbeddedPostgres, own: str) -> None:
    dsn = database.dsn("postgres", own)
    before = await run(dsn, CATALOG)
    await run(dsn, "UPDATE syncd.sync_functions SET sha256 = 'another'")
    assert await migrate(dsn, say=silent) == ["functions"]
    assert await run(dsn, CATALOG) == before
    assert await run(dsn, "SELECT count(DISTINCT fingerprints) FROM syncd.sync_functions") == [(1,)]


async def test_changed_files_are_pending_and_are_put_in(database: EmbeddedPostgres, own: str, newer: Path) -> None:
    dsn, runtime = database.dsn("postgres", own), database.dsn("syncd_runtime", own)
    assert await lacking(runtime, newer) == ["functions"]
    findings = await examine(Settings(database_url=runtime), directory=newer)
    assert finding(findings, "migrations") == ("FAIL", "the database lacks functions")
    assert not [f for f in findings if f.check == "functions"]
    assert await migrate(dsn, say=silent, directory=newer) == ["functions"]
    assert await run(dsn, "SELECT syncd.sync_later()") == [(1,)]
    # It is in no list of grants.
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await run(runtime, "SELECT syncd.sync_later()")
    assert await lacking(runtime, newer) == []


async def test_an_older_syncd_does_not_put_its_own_back(database: EmbeddedPostgres, own: str, newer: Path) -> None:
    dsn, runtime = database.dsn("postgres", own), database.dsn("syncd_runtime", own)
    await migrate(dsn, say=silent, directory=newer)
    before = await run(dsn, CATALOG)
    for attempt in (migrate(dsn, say=silent), lacking(runtime)):
        with pytest.raises(SchemaTooNew, match=r"functions of a newer syncd.*migrate --older-functions"):
            await attempt
    assert await run(dsn, CATALOG) == before
    said = finding(await examine(Settings(database_url=runtime)), "migrations")
    assert said[0] == "FAIL"
    assert "functions of a newer syncd" in said[1]
    # On purpose it does, and then the newer one is the one that has to say so.
    assert await migrate(dsn, say=silent, older_functions=True) == ["functions"]
    assert await lacking(runtime) == []
    with pytest.raises(SchemaTooNew):
        await lacking(runtime, newer)
    assert await migrate(dsn, say=silent, directory=newer, older_functions=True) == ["functions"]
    assert await run(dsn, CATALOG) == before


@pytest.mark.parametrize(("release", "older"), [("{99,0,0,3,0}", True), ("{0,1,0,3,1}", True), ("{0,0,9,3,0}", False)])
async def test_a_release_decides_where_the_functions_were_never_seen(
    database: EmbeddedPostgres, own: str, release: str, older: bool
) -> None:
    """A database that a newer release made has never had the functions of an older one."""
    dsn = database.dsn("postgres", own)
    await run(dsn, f"UPDATE syncd.sync_functions SET sha256 = 'other', release = '{release}'")
    if not older:
        assert await migrate(dsn, say=silent) == ["functions"]
        return
    with pytest.raises(SchemaTooNew, match=rf"release {release[1:-5].replace(',', '.')}\)"):
        await migrate(dsn, say=silent)


async def test_a_newer_release_may_go_back_to_an_older_text(database: EmbeddedPostgres, own: str) -> None:
    dsn = database.dsn("postgres", own)
    await run(
        dsn,
        "UPDATE syncd.sync_functions SET release = '{0,0,1,3,0}'",
        "INSERT INTO syncd.sync_functions (sha256, release, server, fingerprints)"
        " VALUES ('x', '{0,0,2,3,0}', 18, '{}')",
    )
    assert await lacking(dsn) == ["functions"]
    assert await migrate(dsn, say=silent) == ["functions"]


async def test_the_same_functions_of_a_newer_release_are_recorded_as_its(database: EmbeddedPostgres, own: str) -> None:
    dsn = database.dsn("postgres", own)
    await run(dsn, "UPDATE syncd.sync_functions SET release = '{0,0,1,3,0}'")
    assert await lacking(dsn) == []
    assert await migrate(dsn, say=silent) == ["functions"]
    assert await run(dsn, "SELECT count(DISTINCT sha256), max(release) > '{0,0,1,3,0}' FROM syncd.sync_functions") == [
        (1, True)
    ]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (
            "CREATE OR REPLACE FUNCTION syncd.sync_micros(p_at timestamptz) RETURNS bigint"
            " LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN 7::bigint",
            "sync_micros(p_at timestamp with time zone)",
        ),
        (
            "ALTER FUNCTION syncd.sync_adopt RESET search_path",
            "sync_adopt(p_list jsonb, p_as_of timestamp with time zone)",
        ),
        ("ALTER FUNCTION syncd.sync_role_in SECURITY INVOKER", "sync_role_in(p_space text, p_lock boolean, OUT"),
        ("GRANT EXECUTE ON FUNCTION syncd.sync_import_settle TO syncd_runtime", "sync_import_settle()"),
        ("GRANT EXECUTE ON FUNCTION syncd.sync_user TO PUBLIC", "sync_user()"),
        ("REVOKE EXECUTE ON FUNCTION syncd.sync_pull FROM syncd_runtime", "sync_pull(p_pulls jsonb)"),
        ("DROP FUNCTION syncd.sync_import_settle", "sync_import_settle()"),
        ("CREATE FUNCTION syncd.sync_user(x integer) RETURNS integer RETURN 1", "sync_user(x integer)"),
    ],
)
async def test_one_that_was_altered_is_named_and_put_back(
    database: EmbeddedPostgres, own: str, change: str, names: str
) -> None:
    dsn, settings = database.dsn("postgres", own), Settings(database_url=database.dsn("syncd_runtime", own))
    assert finding(await examine(settings), "functions")[0] == "ok"
    before = await run(dsn, CATALOG)
    await run(dsn, change)
    said = finding(await examine(settings), "functions")
    assert said[0] == "FAIL"
    assert said[1].startswith(f"not as syncd put them in: {names}")
    if "x integer" in names:
        await run(dsn, "DROP FUNCTION syncd.sync_user(integer)")
    else:
        assert await migrate(dsn, say=silent) == ["functions"]
    assert [row[1:] for row in await run(dsn, CATALOG)] == [row[1:] for row in before]
    assert finding(await examine(settings), "functions")[0] == "ok"


async def test_what_an_operator_grants_to_a_role_of_theirs_stays(database: EmbeddedPostgres, own: str) -> None:
    dsn = database.dsn("postgres", own)
    role = f"watcher_{os.urandom(3).hex()}"
    await run(dsn, f"CREATE ROLE {role}", f"GRANT EXECUTE ON FUNCTION syncd.sync_heads TO {role}")
    try:
        assert finding(await examine(Settings(database_url=database.dsn("syncd_runtime", own))), "functions")[0] == "ok"
        await run(dsn, "UPDATE syncd.sync_functions SET sha256 = 'another'")
        await migrate(dsn, say=silent)
        may = f"SELECT has_function_privilege('{role}', 'syncd.sync_heads(integer[], text[])', 'EXECUTE')"
        assert await run(dsn, may) == [(True,)]
    finally:
        await run(dsn, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def test_how_a_database_prints_by_default_makes_no_difference(database: EmbeddedPostgres, own: str) -> None:
    dsn = database.dsn("postgres", own)
    defaults = {
        "quote_all_identifiers": "on",
        "intervalstyle": "iso_8601",
        "timezone": "Asia/Tokyo",
        "datestyle": "sql",
    }
    await run(dsn, *(f"ALTER DATABASE {own} SET {name} = '{value}'" for name, value in defaults.items()))
    settings = Settings(database_url=database.dsn("syncd_runtime", own))
    assert finding(await examine(settings), "functions")[0] == "ok"
    assert await migrate(dsn, say=silent) == []


async def test_functions_that_another_postgresql_printed_are_not_compared(database: EmbeddedPostgres, own: str) -> None:
    dsn, settings = database.dsn("postgres", own), Settings(database_url=database.dsn("syncd_runtime", own))
    await run(dsn, 'UPDATE syncd.sync_functions SET server = 14, fingerprints = \'{"sync_user()": "x"}\'')
    assert finding(await examine(settings), "functions")[0] == "warn"
    assert await migrate(dsn, say=silent) == ["functions"]
    assert finding(await examine(settings), "functions")[0] == "ok"


async def test_a_signature_that_cannot_be_replaced_says_what_to_do(
    database: EmbeddedPostgres, own: str, newer: Path
) -> None:
    dsn = database.dsn("postgres", own)
    await migrate(dsn, say=silent, directory=newer)
    before = await run(dsn, CATALOG)
    path = newer / "functions" / "base.sql"
    path.write_text(path.read_text().replace("sync_later() RETURNS integer", "sync_later() RETURNS bigint"))
    with pytest.raises(
        MigrationError, match=r"functions/base.sql failed: cannot change return type(?s:.*)see docs/internals/adr/0026"
    ):
        await migrate(dsn, say=silent, directory=newer)
    assert await run(dsn, CATALOG) == before
    later = label(1, "pre_later")
    (newer / "tables" / f"{later}.sql").write_text("DROP FUNCTION IF EXISTS syncd.sync_later();")
    assert await migrate(dsn, say=silent, directory=newer) == [later, "functions"]
    assert finding(await examine(Settings(database_url=dsn), directory=newer), "functions")[0] == "ok"


async def test_a_file_of_no_known_area_is_refused(database: EmbeddedPostgres, own: str, newer: Path) -> None:
    (newer / "functions" / "extra.sql").write_text("")
    with pytest.raises(MigrationError, match=r"extra.sql is of no area.*AREAS"):
        await migrate(database.dsn("postgres", own), say=silent, directory=newer)


async def test_the_emitted_functions_may_run_again_but_not_over_newer_ones(
    database: EmbeddedPostgres, own: str, newer: Path, folder: Path
) -> None:
    dsn = database.dsn("postgres", own)
    before = await run(dsn, CATALOG)
    old = next(path for path in emit(folder / "old") if path.name == "2_functions.sql")
    new = next(path for path in emit(folder / "new", directory=newer) if path.name == "2_functions.sql")
    for _ in range(2):
        programs.psql("-v", "ON_ERROR_STOP=1", "-f", old, dsn)
    assert await run(dsn, CATALOG) == before
    programs.psql("-v", "ON_ERROR_STOP=1", "-f", new, dsn)
    assert await lacking(dsn, newer) == []
    with pytest.raises(subprocess.CalledProcessError) as caught:
        programs.psql("-v", "ON_ERROR_STOP=1", "-f", old, dsn)
    assert "functions of a newer syncd" in caught.value.stderr
    assert await run(dsn, "SELECT syncd.sync_later()") == [(1,)]
    assert finding(await examine(Settings(database_url=dsn), directory=newer), "functions")[0] == "ok"


async def test_a_server_goes_on_when_a_newer_one_upgrades(
    database: EmbeddedPostgres, folder: Path, newer: Path
) -> None:
    with Server(folder / "server") as server, httpx.Client(base_url=server.url, timeout=60) as http:
        device = Device(http, server, "ann")
        device.write(edit("r", 1, x=1))
        pre, post = label(1, "pre_wider"), label(2, "post_wider")
        (newer / "tables" / f"{pre}.sql").write_text("ALTER TABLE syncd.sync_feeds ADD COLUMN wider text;")
        (newer / "tables" / f"{post}.sql").write_text("ALTER TABLE syncd.sync_feeds DROP COLUMN wider;")
        upgrade = asyncio.create_task(migrate(server.owner_dsn, say=silent, directory=newer))
        pushed = 0
        while not upgrade.done():
            await asyncio.to_thread(device.write, edit("r", 2 + pushed, x=pushed))
            pushed += 1
        assert await upgrade == [pre, "functions", post]
        for number in range(3):
            device.write(edit("r", 10_000 + number, x=number))
        assert [change["fields"]["x"]["value"] for change in device.drain()[0]] == [2]
        assert device.request("GET", "/readyz").status_code == 200
        server.stop()
        # Started again, it is told that it is too old.
        with pytest.raises(RuntimeError, match=rf"{pre}, which this syncd does not know"):
            server.start()


def label(ahead: int, name: str) -> str:
    """What a file is called that comes so many after the newest."""
    return f"{read_schema().migrations[-1].number + ahead:04d}_{name}"


def finding(findings: list[Finding], check: str) -> tuple[str, str]:
    """The one finding of a check."""
    found = [(f.status, f.detail) for f in findings if f.check == check]
    assert len(found) == 1, findings
    return found[0]
