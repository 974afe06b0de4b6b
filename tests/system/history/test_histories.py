"""G5: whatever a database was made from, a cursor of another history is lost there, and one of its own goes on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from syncd.core.errors import CursorLost, DatabaseUnavailable
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.migrate import migrate
from syncd.store.pool import Pool
from tests.support.histories import run, two_lines, worker


class Databases:
    """Databases in the running PostgreSQL of the tests."""

    def __init__(self, postgres: EmbeddedPostgres, folder: Path) -> None:
        self._postgres, self.folder, self.names = postgres, folder, []

    def run(self, program: str, *arguments: str | Path) -> None:
        run(self._postgres.bindir / program, *arguments)

    async def execute(self, sql: str, database: str = "postgres") -> None:
        connection = await asyncpg.connect(self._postgres.dsn("postgres", database))
        await connection.execute(sql)
        await connection.close()

    async def create(self, more: str = "") -> str:
        name = f"history_{os.urandom(4).hex()}"
        self.names.append(name)
        await self.execute(f"CREATE DATABASE {name} {more}")
        return name

    def owner(self, name: str) -> str:
        return self._postgres.dsn("postgres", name)

    def runtime(self, name: str) -> str:
        return self._postgres.dsn("syncd_runtime", name)

    def dump(self, name: str) -> Path:
        path = self.folder / "dump"
        self.run("pg_dump", "-Fc", "-d", self.owner(name), "-f", path)
        return path


@pytest.fixture
async def databases(database: EmbeddedPostgres, folder: Path) -> AsyncIterator[Databases]:
    made = Databases(database, folder)
    yield made
    for name in made.names:
        await made.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
async def begun(databases: Databases) -> str:
    """The name of a database with five writes."""
    name = await databases.create()
    await migrate(databases.owner(name), say=lambda text: None)
    async with worker(databases.runtime(name)) as old:
        await old.write(5)
    return name


async def test_a_dump_restored_into_the_running_server(databases: Databases, begun: str) -> None:
    async with worker(databases.runtime(begun)) as old:
        before = await old.cursor()
        dump = databases.dump(begun)
        await old.write(5)
        after = await old.cursor(before)
    await databases.execute(f"DROP DATABASE {begun} WITH (FORCE)")
    await databases.execute(f"CREATE DATABASE {begun}")
    databases.run("pg_restore", "-d", databases.owner(begun), dump)
    async with worker(databases.runtime(begun)) as new:
        assert not await new.lost(before)
        assert await new.lost(after)
        again = await new.cursor()
        # Also when others have written past where it stood.
        await new.write(20)
        assert [await new.lost(since) for since in (before, after, again)] == [False, True, False]


async def test_a_database_that_is_away_while_it_is_restored_is_said_to_be_away(
    databases: Databases, begun: str
) -> None:
    """Between `dropdb`, `createdb` and the end of `pg_restore`; then the same worker goes on."""
    async with worker(databases.runtime(begun)) as old:
        dump = databases.dump(begun)
        await databases.execute(f"DROP DATABASE {begun} WITH (FORCE)")
        for turn in range(8):
            if turn == 3:
                await databases.execute(f"CREATE DATABASE {begun}")
            if turn == 6:  # all is there but the rights, which come last
                databases.run("pg_restore", "--no-privileges", "-d", databases.owner(begun), dump)
            with pytest.raises(DatabaseUnavailable):
                await (old.write(1) if turn % 2 else old.cursor())
        await databases.execute(f"DROP DATABASE {begun} WITH (FORCE)")
        await databases.execute(f"CREATE DATABASE {begun}")
        databases.run("pg_restore", "-d", databases.owner(begun), dump)
        await old.write(1)


REFUSALS = {
    "closed": "ALTER DATABASE {name} ALLOW_CONNECTIONS false",
    "gone": "DROP DATABASE {name} WITH (FORCE)",
    "full": "ALTER DATABASE {name} CONNECTION LIMIT 0",
    "no password": "ALTER ROLE {role} NOLOGIN",
    "no role": "DROP ROLE {role}",
    "no right": "REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
}


@pytest.mark.parametrize("how", REFUSALS)
async def test_a_connection_that_is_refused_is_a_database_that_is_away(databases: Databases, how: str) -> None:
    name, role = await databases.create(), f"role_{os.urandom(4).hex()}"
    await databases.execute(f"CREATE ROLE {role} LOGIN")
    dsn = databases.runtime(name).replace("syncd_runtime", role)
    try:
        pool, ask = Pool(dsn, size=2), lambda connection: connection.fetchval("SELECT 1")
        await pool.open()
        assert await pool.attempt(ask) == 1
        for sql in (
            REFUSALS[how],
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'",
        ):
            await databases.execute(sql.format(name=name, role=role))
        for new in (pool, pool, Pool(dsn, size=2)):
            with pytest.raises(DatabaseUnavailable):
                await new.attempt(ask)
        await pool.close()
    finally:
        await databases.execute(f"DROP ROLE IF EXISTS {role}")


async def test_a_listing_of_the_past_does_not_go_on_in_another_history(databases: Databases, begun: str) -> None:
    async with worker(databases.runtime(begun)) as old:
        await old.write(6, "r")
        (first, before), (records, space_before) = await old.changes(), await old.space()
        assert (first, records) == ([6, 5], 2)
        dump = databases.dump(begun)
        await old.write(4, "r")
        (_, after), (_, space_after) = await old.changes(), await old.space()
    await databases.execute(f"DROP DATABASE {begun} WITH (FORCE)")
    await databases.execute(f"CREATE DATABASE {begun}")
    databases.run("pg_restore", "-d", databases.owner(begun), dump)
    async with worker(databases.runtime(begun)) as new:
        for turn in range(2):
            assert (await new.changes(before))[0] == [4, 3]
            assert (await new.space(space_before))[0] <= 2  # what came since is looked at and left out
            for go_on in (new.changes(after), new.space(space_after)):
                with pytest.raises(CursorLost, match="first page again"):
                    await go_on
            if turn == 0:  # also when others have written past it
                await new.write(20)


@pytest.mark.parametrize("how", ["clean", "data only"])
async def test_a_dump_restored_over_what_is_there(databases: Databases, begun: str, how: str) -> None:
    async with worker(databases.runtime(begun)) as old:
        before = await old.cursor()
        dump = databases.dump(begun)
        await old.write(5)
        after = await old.cursor(before)
        if how == "clean":
            databases.run("pg_restore", "--clean", "-d", databases.owner(begun), dump)
        else:
            tables = "SELECT string_agg(format('DELETE FROM %s;', oid::regclass), '') FROM pg_class WHERE relkind = 'r' AND relnamespace = 'syncd'::regnamespace"  # noqa: E501
            await databases.execute(
                f"SET session_replication_role = replica;DO $$ BEGIN EXECUTE ({tables}); END $$",
                begun,
            )
            databases.run("pg_restore", "--data-only", "--disable-triggers", "-d", databases.owner(begun), dump)
    async with worker(databases.runtime(begun)) as new:
        assert [await new.lost(since) for since in (before, after)] == [False, True]
        await new.write(20)
        assert [await new.lost(since) for since in (before, after)] == [False, True]


async def test_a_clone_by_template_and_what_it_was_made_of(databases: Databases, begun: str) -> None:
    async with worker(databases.runtime(begun)) as old:
        shared = await old.cursor()
    clone = await databases.create(f"TEMPLATE {begun}")
    cursors = []
    for name in (begun, clone):
        async with worker(databases.runtime(name)) as one:
            await one.write(3)
            cursors.append(await one.cursor())
    await two_lines(databases.runtime(begun), databases.runtime(clone), shared, *cursors)


async def test_a_cursor_from_a_start_that_this_history_does_not_have(databases: Databases, begun: str) -> None:
    """Two restores of one dump: the second one's feeds stand where the cursors of the first one say."""
    dump = databases.dump(begun)
    first = await databases.create()
    databases.run("pg_restore", "-d", databases.owner(first), dump)
    async with worker(databases.runtime(first)) as one:
        idle = await one.cursor()
        await one.write(5)
        busy = await one.cursor()
    second = await databases.create()
    databases.run("pg_restore", "-d", databases.owner(second), dump)
    async with worker(databases.runtime(second)) as two:
        await two.write(5)
        assert [await two.lost(since) for since in (idle, busy)] == [True, True]


async def test_more_starts_than_a_feed_remembers(databases: Databases, begun: str) -> None:
    """Each start is noted with where the feed stood, and none is mistaken for another."""
    touch = "UPDATE syncd.sync_starts SET folder = folder"
    async with worker(databases.runtime(begun)) as old:
        oldest = await old.cursor()
        for _ in range(70):
            await databases.execute(touch, begun)
            await old.write(1)
        recent = await old.cursor()
        dump = databases.dump(begun)
        await old.write(5)
        after = await old.cursor()
    await databases.execute(f"DROP DATABASE {begun} WITH (FORCE)")
    await databases.execute(f"CREATE DATABASE {begun}")
    databases.run("pg_restore", "-d", databases.owner(begun), dump)
    async with worker(databases.runtime(begun)) as new:
        await new.write(10)
        assert await new.lost(after)
        assert not await new.lost(recent)
        assert await new.lost(oldest)  # no longer known: rather begin again


async def test_a_start_is_registered_once_by_all_who_miss_it(databases: Databases, begun: str) -> None:
    async with worker(databases.runtime(begun)) as one, worker(databases.runtime(begun)) as other:
        await databases.execute("UPDATE syncd.sync_starts SET folder = folder", begun)
        await asyncio.gather(*(work for each in (one, other) for work in (each.cursor(), each.write(1))))
    connection = await asyncpg.connect(databases.owner(begun))
    assert await connection.fetchval("SELECT count(*) FROM syncd.sync_starts") == 2
    await databases.execute("VACUUM (FULL, FREEZE) syncd.sync_starts", begun)
    assert await connection.fetchval("SELECT syncd.sync_start() = max(started_at) FROM syncd.sync_starts")
    assert await connection.fetchval("SELECT count(*) FROM syncd.sync_starts") == 2
    await connection.close()
