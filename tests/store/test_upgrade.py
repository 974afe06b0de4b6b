"""A database of the thirteen migrations that were before the baseline, made and filled by the code of then, upgraded.

fixtures/thirteen holds it as `pg_dump --inserts` wrote it, and all that its server answered (tests/support/asked.py):
pushes of several devices with conflicts, a deletion, a return, a repetition and restores, memberships by token, a
deleted space, digests that were folded, and a space that was compacted twice.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.migrate import migrate, pending
from syncd.postgres.schema_files import (
    ChangedMigration,
    MigrationError,
    SchemaTooOld,
    read_schema,
    schema_directory,
)
from tests.support import past
from tests.support.asked import answers
from tests.support.harness import Server
from tests.support.legacy_devices import in_milliseconds
from tests.support.old_worker import OldWorker
from tests.support.wire import Device, Json, edit

FIXTURE = Path(__file__).parent / "fixtures" / "thirteen"
STEPS = [
    "0014_pre_baseline",
    "0016_pre_held",
    "0018_pre_starts",
    "0020_pre_devices",
    "0022_pre_compactor",
    "0024_pre_memberships",
    "0025_pre_invitations",
    "0027_pre_names",
    "0029_pre_cursors",
    "0031_pre_quotas",
    "0033_pre_audit",
    "0035_pre_devices_used",
    "0037_pre_context_key",
    "0038_pre_written_change",
    "0043_pre_consumers",
    "0045_pre_told_change",
    "0046_pre_webhooks",
    "0048_pre_service_tokens",
    "0049_pre_schemas",
    "0050_pre_reports",
    "0051_pre_projections",
    "0053_pre_erasures",
    "0055_pre_erasing",
    "0057_pre_held_service",
    "0060_pre_erased_incarnations",
    "0062_pre_writable_by",
    "0064_pre_invitation_links",
    "0065_pre_roles",
    "0069_pre_last_erasure",
    "functions",
    "0015_post_baseline",
    "0017_post_held",
    "0019_post_starts",
    "0021_post_devices",
    "0023_post_compactor",
    "0026_post_invitations",
    "0028_post_names",
    "0030_post_cursors",
    "0032_post_quotas",
    "0034_post_audit",
    "0036_post_devices_used",
    "0039_post_small_feeds",
    "0040_post_push_groups",
    "0041_post_import_folded",
    "0042_post_push_single",
    "0044_post_consumers",
    "0047_post_webhooks",
    "0052_post_projections",
    "0054_post_erasures",
    "0056_post_erasing",
    "0058_post_held_service",
    "0059_post_erase_begun",
    "0061_post_erase_apart",
    "0063_post_writable_by",
    "0066_post_roles",
    "0067_post_consume_outline",
    "0068_post_consume_extent",
    "0070_post_letter_parts",
]
# How it was said before who acts.
SAYS_IN_A_SETTING = """\
CREATE OR REPLACE FUNCTION syncd.sync_user() RETURNS integer LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(pg_catalog.current_setting('syncd.user_no', true), '')::integer"""
# Called by other functions only, before it was `sync_feeds_together`.
SMALL_FEEDS = """\
CREATE FUNCTION syncd.sync_small_feeds(integer, integer[], bigint[], bigint[], integer[], integer[], boolean, integer, integer[], bigint)
RETURNS text[] LANGUAGE sql STABLE RETURN NULL::text[];
ALTER FUNCTION syncd.sync_small_feeds OWNER TO syncd_owner"""  # noqa: E501
# Others that have another name, with as many parameters more.
ONE_APP = """\
CREATE FUNCTION syncd.sync_touched(integer, integer[], integer[], bigint[], bigint, json[])
RETURNS text[] LANGUAGE sql STABLE RETURN NULL::text[];
ALTER FUNCTION syncd.sync_touched OWNER TO syncd_owner"""


def silent(text: str) -> None:
    """Progress that nobody reads."""


def unpacked(name: str) -> str:
    return gzip.decompress((FIXTURE / name).read_bytes()).decode()


@pytest.fixture
async def thirteen(database: EmbeddedPostgres) -> AsyncIterator[str]:
    """The name of a database of the thirteen."""
    name = await created(database)
    conn = await asyncpg.connect(database.dsn("postgres", name))
    await conn.execute(unpacked("database.sql.gz"))
    await conn.close()
    yield name
    await dropped(database, name)


async def created(database: EmbeddedPostgres) -> str:
    name = f"thirteen_{os.urandom(4).hex()}"
    conn = await asyncpg.connect(database.dsn("postgres", "postgres"))
    await conn.execute(f"CREATE DATABASE {name}")
    await conn.close()
    return name


async def dropped(database: EmbeddedPostgres, name: str) -> None:
    conn = await asyncpg.connect(database.dsn("postgres", "postgres"))
    await conn.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await conn.close()


async def ask(dsn: str, query: str) -> list[Any]:
    conn = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await conn.fetch(query)]
    finally:
        await conn.close()


async def lacking(dsn: str) -> list[str]:
    conn = await asyncpg.connect(dsn)
    try:
        return await pending(conn)
    finally:
        await conn.close()


def dumped(database: EmbeddedPostgres, name: str) -> list[str]:
    """The schema with its owners and grants, without what differs from one dump to the next."""
    program = [database.bindir / "pg_dump", "--schema-only", database.dsn("postgres", name)]
    text = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    return [line for line in text.splitlines() if not line.startswith("\\")]


async def test_an_upgraded_database_is_a_new_one(database: EmbeddedPostgres, thirteen: str) -> None:
    said: list[str] = []
    assert await lacking(database.dsn("syncd_runtime", thirteen)) == STEPS
    assert await migrate(database.dsn("postgres", thirteen), say=said.append) == STEPS
    assert said == [f"applied {step}" for step in STEPS]
    assert await lacking(database.dsn("syncd_runtime", thirteen)) == []
    assert await migrate(database.dsn("postgres", thirteen), say=said.append) == []
    fresh = await created(database)
    try:
        assert await migrate(database.dsn("postgres", fresh), say=silent) == STEPS
        assert dumped(database, thirteen) == dumped(database, fresh)
        prints = "SELECT sha256, release, server, fingerprints FROM syncd.sync_functions"
        assert await ask(database.dsn("postgres", thirteen), prints) == await ask(
            database.dsn("postgres", fresh), prints
        )
    finally:
        await dropped(database, fresh)


def registers(changes: list[Json]) -> list[Json]:
    """Which record a change is of, and what it says about it."""
    return [{name: change.get(name) for name in ("seq", "spaceId", "id", "deletedAt", "fields")} for change in changes]


def as_then(answer: Any) -> Any:
    """An answer without what nobody was told then: what is whole, where records were forgotten."""
    if isinstance(answer, list):
        return [as_then(each) for each in answer]
    if isinstance(answer, dict):
        assert "whole" not in answer or answer["spaceId"] == "folded"
        return {name: as_then(value) for name, value in answer.items() if name != "whole"}
    return answer


def as_known_then(found: Any, answer: Any) -> Any:
    """`complete` as it was known then: a look goes no further than it has to now, and misses nothing behind that."""
    if isinstance(found, list):
        return [as_known_then(*each) for each in zip(found, answer, strict=True)]
    if not isinstance(found, dict):
        return found
    known = {name: as_known_then(value, answer.get(name)) for name, value in found.items()}
    return {**known, "complete": False} if "fields" in found and answer.get("complete") is False else known


async def test_what_was_there_is_answered_as_before(database: EmbeddedPostgres, thirteen: str, folder: Path) -> None:
    then = json.loads(unpacked("answers.json.gz"))
    urls = {"database_url": database.dsn("syncd_runtime", thirteen), "migrate_url": database.dsn("postgres", thirteen)}
    with Server(folder / "server", settings=urls) as server, httpx.Client(base_url=server.url, timeout=60) as http:
        assert "".join(f"applied {step}\n" for step in STEPS) in server.output()
        now = answers(http, server, then["cursors"])
        for user, told in then["answers"].items():
            for question, answer in told.items():
                found = now[user][question]
                if question == "first":  # the same in another form (P220), its instants spelt otherwise (P250)
                    found, answer = registers(found), registers(answer)
                    found, answer = (
                        [{**change, "fields": in_milliseconds(change["fields"])} for change in changes]
                        for changes in (found, answer)
                    )
                if question == "past":
                    found = as_known_then(found, answer)
                assert as_then(found) == answer, (user, question)
        ann, dan = Device(http, server, "ann", "ann-phone"), Device(http, server, "dan", "dan-phone")
        repeated = ann.push({**then["once"], "spaceId": "team"})["results"][0]
        assert repeated["status"] == "duplicate"
        assert (
            past.restored(ann, past.address("team", "r1", what="/restore"), seq=8, changeId="restore-1")[0]["seq"] == 18
        )
        dan.write({**edit("o1", 10**9, a=3), "spaceId": "outside"})
        assert dan.send({**edit("f9", 5, v=1), "spaceId": "folded"}).json()["results"][0]["status"] == "rejected"
        assert [change["fields"]["a"]["value"] for change in dan.drain()[0] if change["id"] == "o1"] == [3]


async def test_a_syncd_of_before_says_that_it_is_too_old(database: EmbeddedPostgres, thirteen: str) -> None:
    """It went through the numbers in order, up to the first that it did not know or whose hash differed."""
    before = read_schema().before
    query = "SELECT number, sha256 FROM syncd.sync_migrations ORDER BY number"
    await migrate(database.dsn("postgres", thirteen), say=silent)
    rows = await ask(database.dsn("postgres", thirteen), query)
    assert len(before) == 13
    assert dict(rows[:13]) == before
    now = [migration.number for migration in read_schema().migrations]
    assert [number for number, _ in rows[13:]] == now
    assert [number for number, _ in await ask(database.owner_dsn, query)] == now


@pytest.mark.parametrize(("last", "stands"), [(12, "0012"), (1, "0001")])
async def test_fewer_than_thirteen_are_refused_with_what_to_do(
    database: EmbeddedPostgres, thirteen: str, last: int, stands: str
) -> None:
    dsn = database.dsn("postgres", thirteen)
    await ask(dsn, f"DELETE FROM syncd.sync_migrations WHERE number > {last}")
    for attempt in (migrate(dsn, say=silent), lacking(database.dsn("syncd_runtime", thirteen))):
        with pytest.raises(SchemaTooOld, match=rf"stands at {stands}, and is upgraded from 0013 only.*export the data"):
            await attempt
    assert await ask(dsn, "SELECT max(number), to_regclass('syncd.sync_functions') FROM syncd.sync_migrations") == [
        (last, None)
    ]


async def test_another_file_than_one_of_the_thirteen_is_refused(database: EmbeddedPostgres, thirteen: str) -> None:
    dsn = database.dsn("postgres", thirteen)
    await ask(dsn, "UPDATE syncd.sync_migrations SET sha256 = 'another' WHERE number = 7")
    with pytest.raises(ChangedMigration, match=r"0007_history.sql is not the file"):
        await migrate(dsn, say=silent)


async def all_pushed(workers: list[OldWorker], before: list[int]) -> list[int]:
    """Waits until each has pushed more than that; how much each has."""
    async with asyncio.timeout(60):
        while not all(len(worker.seqs) > count for worker, count in zip(workers, before, strict=True)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return [len(worker.seqs) for worker in workers]


async def test_an_old_worker_serves_and_pushes_meanwhile(database: EmbeddedPostgres, thirteen: str) -> None:
    workers = [await OldWorker.start(database, thirteen, f"old-{i}") for i in range(3)]
    stop = asyncio.Event()
    running = [asyncio.create_task(worker.run(stop)) for worker in workers]
    before = await all_pushed(workers, [0] * 3)
    assert await migrate(database.dsn("postgres", thirteen), say=silent) == STEPS
    during = [len(worker.seqs) for worker in workers]
    # Again and again, as if every release changed a function.
    for _ in range(2):
        await ask(database.dsn("postgres", thirteen), "UPDATE syncd.sync_functions SET sha256 = ordinal::text")
        assert await migrate(database.dsn("postgres", thirteen), say=silent) == ["functions"]
    await all_pushed(workers, during)
    stop.set()
    await asyncio.gather(*running)
    for worker, first, second in zip(workers, before, during, strict=True):
        assert 0 < first <= second < len(worker.seqs)
        await worker.conn.close()
    seqs = sorted(seq for worker in workers for seq in worker.seqs)
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


async def test_who_acts_is_read_where_a_call_of_before_said_it_until_that_has_ended(
    database: EmbeddedPostgres, thirteen: str
) -> None:
    dsn = database.dsn("postgres", thirteen)
    await migrate(dsn, say=silent)
    await ask(dsn, SAYS_IN_A_SETTING)
    old = await asyncpg.connect(database.dsn("syncd_runtime", thirteen))
    reads = "SELECT strpos(pg_get_functiondef('syncd.sync_user'::regproc), '{}') > 0"
    async with asyncio.timeout(60), old.transaction():
        await old.execute("SELECT set_config('syncd.user_no', '1', true)")
        upgrade = asyncio.create_task(migrate(dsn, say=silent))
        while await ask(dsn, reads.format("backtrace_functions")) == [(False,)]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert await old.fetchval("SELECT syncd.sync_user()") == 1
        assert not upgrade.done()
        assert await ask(dsn, reads.format("syncd.user_no")) == [(True,)]
    assert await upgrade == ["functions"]
    assert await ask(dsn, reads.format("syncd.user_no")) == [(False,)]
    await old.close()


async def test_four_that_upgrade_at_once_do_it_once(database: EmbeddedPostgres, thirteen: str) -> None:
    dsn = database.dsn("postgres", thirteen)
    done = await asyncio.gather(*(migrate(dsn, say=silent) for _ in range(4)))
    assert sorted(step for steps in done for step in steps) == sorted(STEPS)
    assert await ask(dsn, "SELECT count(*) FROM syncd.sync_functions") == [(1,)]
    assert await lacking(dsn) == []


def test_two_servers_that_start_at_once_do_no_harm(database: EmbeddedPostgres, thirteen: str, folder: Path) -> None:
    urls = {"database_url": database.dsn("syncd_runtime", thirteen), "migrate_url": database.dsn("postgres", thirteen)}
    servers = [Server(folder / f"server{i}", settings=urls, start=False) for i in range(2)]
    try:
        for server in servers:
            server.launch()
        for server in servers:
            server.wait_until_ready()
        said = sorted(line for server in servers for line in server.output().split("\n") if line.startswith("applied"))
        assert said == sorted(f"applied {step}" for step in STEPS)
        for server in servers:
            with httpx.Client(base_url=server.url, timeout=60) as http:
                Device(http, server, "ann", f"desk{server.port}").write(edit(f"r{server.port}", 10**8, x=1))
    finally:
        for server in servers:
            server.stop()


@pytest.fixture
def schema(folder: Path) -> Path:
    """A copy of the schema, to be changed."""
    shutil.copytree(schema_directory(), folder / "schema")
    return folder / "schema"


def append(schema: Path, name: str, sql: str) -> None:
    path = schema / name
    path.write_text((path.read_text() if path.exists() else "") + sql)


DEFINITIONS = "SELECT p.oid::regprocedure::text, pg_get_functiondef(p.oid), p.proacl::text FROM pg_proc p WHERE pronamespace = 'syncd'::regnamespace ORDER BY 1"  # noqa: E501


async def test_a_broken_function_file_leaves_the_old_functions(
    database: EmbeddedPostgres, thirteen: str, schema: Path
) -> None:
    dsn = database.dsn("postgres", thirteen)
    worker = await OldWorker.start(database, thirteen, "old")
    for statement in f"{SMALL_FEEDS};{ONE_APP}".split(";"):
        await ask(dsn, statement)
    before = await ask(dsn, DEFINITIONS)
    append(
        schema,
        "functions/push.sql",
        "\nCREATE OR REPLACE FUNCTION syncd.sync_push_new() RETURNS no_such_type LANGUAGE sql AS $$ $$;\n",
    )
    with pytest.raises(
        MigrationError, match=r"functions/push.sql.* failed: .*no_such_type.*The functions are as they were"
    ):
        await migrate(dsn, say=silent, directory=schema)
    assert await ask(dsn, DEFINITIONS) == before
    await worker.push(plain=True)
    await worker.push(plain=False)
    await worker.read()
    assert await ask(dsn, "SELECT count(*) FROM syncd.sync_functions") == [(0,)]
    assert await lacking(dsn) == STEPS[STEPS.index("functions") :]
    assert await migrate(dsn, say=silent) == STEPS[STEPS.index("functions") :]
    assert await ask(dsn, "SELECT to_regproc('syncd.sync_small_feeds'), to_regproc('syncd.sync_touched')") == [
        (None, None)
    ]
    await worker.push(plain=True)
    await worker.conn.close()


async def test_a_broken_post_file_leaves_the_old_worker_working(
    database: EmbeddedPostgres, thirteen: str, schema: Path
) -> None:
    dsn = database.dsn("postgres", thirteen)
    worker = await OldWorker.start(database, thirteen, "old")
    broken = f"{read_schema().migrations[-1].number + 1:04d}_post_broken"
    append(
        schema,
        f"tables/{broken}.sql",
        "ALTER TABLE syncd.sync_names ADD COLUMN later text;\nSELECT nothing_like_it;",
    )
    with pytest.raises(MigrationError, match=f"{broken}.sql, line 2, failed"):
        await migrate(dsn, say=silent, directory=schema)
    await worker.push(plain=True)
    await worker.read()
    assert await lacking(dsn) == []
    columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'syncd.sync_names'::regclass AND attname = 'later'"
    assert await ask(dsn, columns) == [(0,)]
    (schema / "tables" / f"{broken}.sql").write_text("ALTER TABLE syncd.sync_names ADD COLUMN later text;")
    assert await migrate(dsn, say=silent, directory=schema) == [broken]
    await worker.push(plain=True)
    await worker.conn.close()
