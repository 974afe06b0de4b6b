"""G5: whatever a database was made from, a cursor of another history is lost there, and one of its own goes on."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from syncd.core.errors import CursorLost, DatabaseUnavailable
from syncd.core.principal import Principal
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.migrate import migrate
from syncd.protocol.messages import PushBody
from syncd.protocol.normalize import Limits
from syncd.protocol.page_token import read_bookmark
from syncd.protocol.pull_messages import PullRequest
from syncd.service import history as past
from syncd.service.event_ids import EventIds
from syncd.service.history import Moment, RecordPlace
from syncd.service.pull import pull
from syncd.service.push import PushRequest, PushService
from syncd.store.history import History
from syncd.store.log import Log, cursor_key
from syncd.store.pool import Pool
from tests.support.device import Device
from tests.support.harness import Server
from tests.support.programs import postgresql_15
from tests.system.history.test_restore import is_lost, write

LIMITS = Limits(1000, 1 << 20, 64, None)
SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{folder}'
fsync = off
archive_mode = on
archive_command = 'cp %p {folder}/archive/%f'
"""
RECOVERY = """
restore_command = 'cp {archive}/%f %p'
recovery_target_name = 'moment'
recovery_target_action = promote
"""


class Worker:
    """What a worker does in one database, for a device of ann's."""

    def __init__(self, pool: Pool, key: bytes) -> None:
        self._log, self._key, self._turn, self._past = Log(pool), key, 0, History(pool)

    async def write(self, count: int, record: str | None = None) -> None:
        """New records, or changes of one, one push each."""
        for _ in range(count):
            self._turn += 1
            name = os.urandom(8).hex()
            register = {"value": self._turn, "at": f"2026-01-01T00:00:00.{self._turn:03}Z"}
            change = {"table": "t", "id": record or name, "op": "update", "changeId": name, "fields": {"x": register}}
            text = msgspec.json.encode({"changes": [change], "pull": False})
            body, now = msgspec.json.decode(text, type=PushBody), time.time_ns() // 1000
            wanted = PullRequest("app", plain=False)
            answer = await PushService(self._log, self._key, LIMITS, 30_000_000).push(
                PushRequest(Principal("ann"), "phone", wanted, text, body, now, EventIds(now))
            )
            assert [result.status for result in answer.results] == ["applied"]

    async def cursor(self, since: str = "") -> str:
        """Where a device is that has everything."""
        return (await pull(self._log, self._key, Principal("ann"), PullRequest("app", since, plain=False))).synced_until

    async def lost(self, since: str) -> bool:
        """Whether a pull says that the cursor is lost, as one for the history does."""
        said = set()
        for history in (False, True):
            try:
                await pull(
                    self._log, self._key, Principal("ann"), PullRequest("app", since, plain=False, history=history)
                )
                said.add(False)
            except CursorLost:
                said.add(True)
        assert len(said) == 1
        return said.pop()

    async def changes(self, after: str | None = None) -> tuple[list[int], str]:
        """A page of the record r's changes: what they wrote, and where the next page begins."""
        place, bookmark = RecordPlace("app", "_personal:ann", "t", "r"), after and read_bookmark(after)
        page = msgspec.json.decode(await past.changes(self._past, Principal("ann"), place, 2, None, bookmark or None))
        return [change["fields"]["x"]["value"] for change in page["changes"]], page["next"]

    async def space(self, after: str | None = None) -> tuple[int, str]:
        """A page of the space as it is, or on from another: how many records, and where the next page begins."""
        place, bookmark = RecordPlace("app", "_personal:ann"), after and read_bookmark(after)
        page = msgspec.json.decode(await past.space(self._past, Principal("ann"), place, Moment(), 2, bookmark or None))
        return len(page["records"]), page["next"]


@asynccontextmanager
async def worker(dsn: str) -> AsyncIterator[Worker]:
    """One that is connected."""
    pool = Pool(dsn, size=2)
    await pool.open()
    try:
        yield Worker(pool, await cursor_key(pool))
    finally:
        await pool.close()


async def two_lines(here: str, there: str, shared: str, ours: str, theirs: str) -> None:
    """`there` was made from `here`. shared: a cursor from before that; ours and theirs: from after it, of either."""
    async with worker(here) as old, worker(there) as new:
        for turn in range(2):
            assert [await new.lost(since) for since in (shared, ours, theirs)] == [False, True, False]
            if old is not new:
                assert [await old.lost(since) for since in (shared, ours, theirs)] == [False, False, True]
            if turn == 0:
                await new.write(9)
                await old.write(9)


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


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


class Cluster:
    """A PostgreSQL of Debian's in a folder. `source`: a data directory that it is a copy of."""

    def __init__(self, folder: Path, source: Path | None = None, settings: str = "") -> None:
        self.folder, self.data = folder, folder / "data"
        (folder / "archive").mkdir(parents=True)
        self._own()
        if source is None:
            self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "--no-sync", "--locale=C.UTF-8")
        else:
            shutil.copytree(source, self.data, symlinks=True)
            (self.data / "postmaster.pid").unlink(missing_ok=True)
        (self.data / "postgresql.auto.conf").write_text(SETTINGS.format(folder=folder) + settings)
        self._own()
        self.run("pg_ctl", "-D", self.data, "-l", folder / "log", "-w", "start")

    def _own(self) -> None:
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "postgres:postgres", self.folder], check=True)

    def stop(self) -> None:
        self.run("pg_ctl", "-D", self.data, "-m", "fast", "-w", "stop")

    def dsn(self, user: str, database: str = "syncd") -> str:
        return f"postgresql://{user}@/{database}?host={self.folder}"

    async def execute(self, sql: str, database: str = "syncd") -> None:
        connection = await asyncpg.connect(self.dsn("postgres", database))
        await connection.execute(sql)
        await connection.close()

    def run(self, program: str, *arguments: str | Path) -> None:
        """A program of PostgreSQL's, as the user that it runs as."""
        account: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        subprocess.run(
            [postgresql_15() / program, *arguments], check=True, stdout=subprocess.DEVNULL, cwd="/", **account
        )


@contextmanager
def cluster(folder: Path, source: Path | None = None, settings: str = "") -> Iterator[Cluster]:
    """One that runs until the end of the block, unless it was stopped."""
    made = Cluster(folder, source, settings)
    try:
        yield made
    finally:
        if (made.data / "postmaster.pid").exists():
            made.stop()


@pytest.fixture
async def primary(folder: Path) -> AsyncIterator[Cluster]:
    """A PostgreSQL with five writes in it."""
    with cluster(folder / "primary") as made:
        await made.execute("CREATE DATABASE syncd", "postgres")
        await migrate(made.dsn("postgres"), say=lambda text: None)
        await made.execute("ALTER ROLE syncd_runtime LOGIN")
        async with worker(made.dsn("syncd_runtime")) as old:
            await old.write(5)
        yield made


async def test_a_base_backup_brought_to_a_point_in_time(primary: Cluster, folder: Path) -> None:
    primary.run("pg_basebackup", "-D", primary.folder / "copy", "-h", primary.folder, "-c", "fast")
    async with worker(primary.dsn("syncd_runtime")) as old:
        await old.write(5)
        shared = await old.cursor()
        await primary.execute("SELECT pg_create_restore_point('moment')")
        await old.write(5)
        ours = await old.cursor()
    await primary.execute("SELECT pg_switch_wal()")
    await archived(primary)
    recovery = RECOVERY.format(archive=primary.folder / "archive")
    (primary.folder / "copy" / "recovery.signal").touch()
    with cluster(folder / "second", primary.folder / "copy", recovery) as second:
        await writable(second)
        async with worker(second.dsn("syncd_runtime")) as new:
            await new.write(5)
            theirs = await new.cursor()
        await two_lines(primary.dsn("syncd_runtime"), second.dsn("syncd_runtime"), shared, ours, theirs)


async def test_a_standby_that_lagged_and_was_promoted(primary: Cluster, folder: Path) -> None:
    primary.run("pg_basebackup", "-D", primary.folder / "copy", "-h", primary.folder, "-c", "fast", "-R")
    settings = (primary.folder / "copy" / "postgresql.auto.conf").read_text().splitlines()
    lines = "\n".join(line for line in settings if line.startswith("primary_conninfo"))
    with cluster(folder / "second", primary.folder / "copy", lines) as second:
        async with worker(primary.dsn("syncd_runtime")) as old:
            shared = await old.cursor()
            await caught_up(primary, second)
            standby = second.dsn("syncd_runtime")
            standby += f"{'&' if '?' in standby else '?'}target_session_attrs=any"  # by itself a pool takes no standby
            async with worker(standby) as early:
                with pytest.raises(DatabaseUnavailable):
                    await early.cursor()  # it cannot say yet whose history it goes on with
            # The rest never reaches it.
            await second.execute("ALTER SYSTEM SET primary_conninfo = ''")
            await second.execute("SELECT pg_reload_conf()")
            await alone(primary)
            await old.write(5)
            ours = await old.cursor()
        await second.execute("SELECT pg_promote()")
        await writable(second)
        async with worker(second.dsn("syncd_runtime")) as new:
            await new.write(5)
            theirs = await new.cursor()
        await two_lines(primary.dsn("syncd_runtime"), second.dsn("syncd_runtime"), shared, ours, theirs)


async def test_a_copy_of_a_stopped_data_directory(primary: Cluster, folder: Path) -> None:
    async with worker(primary.dsn("syncd_runtime")) as old:
        shared = await old.cursor()
    primary.stop()
    with cluster(folder / "second", primary.data) as second:
        primary.run("pg_ctl", "-D", primary.data, "-l", primary.folder / "log", "-w", "start")
        cursors = []
        for one in (primary, second):
            async with worker(one.dsn("syncd_runtime")) as each:
                await each.write(3)
                cursors.append(await each.cursor())
        await two_lines(primary.dsn("syncd_runtime"), second.dsn("syncd_runtime"), shared, *cursors)


async def until(dsn: str, question: str) -> None:
    """Waits until a database answers a question with true."""
    async with asyncio.timeout(60):
        while True:
            connection = await asyncpg.connect(dsn)
            try:
                if await connection.fetchval(question):
                    return
            finally:
                await connection.close()
            await asyncio.sleep(0.05)


async def writable(one: Cluster) -> None:
    await until(one.dsn("postgres"), "SELECT NOT pg_is_in_recovery()")


async def alone(one: Cluster) -> None:
    await until(one.dsn("postgres"), "SELECT NOT EXISTS (SELECT FROM pg_stat_replication)")


async def archived(one: Cluster) -> None:
    await until(
        one.dsn("postgres"),
        "SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 1) FROM pg_stat_archiver",
    )


async def caught_up(one: Cluster, other: Cluster) -> None:
    connection = await asyncpg.connect(one.dsn("postgres"))
    place = await connection.fetchval("SELECT pg_current_wal_lsn()::text")
    await connection.close()
    await until(other.dsn("postgres"), f"SELECT pg_last_wal_replay_lsn() >= '{place}'")


async def test_a_restore_under_a_server_that_runs(folder: Path) -> None:
    """Over HTTP, and a space's number that another space got meanwhile shows nothing of that one."""
    with Server(folder / "data") as server:
        bindir = EmbeddedPostgres(folder / "data").bindir
        async with Device(server, "ann") as ann, Device(server, "bob") as bob:
            await write(ann, "before", 5)
            _, before = await ann.drain()
            run(bindir / "pg_dump", "-Fc", "-d", server.owner_dsn, "-f", folder / "dump")
            await ann.create_space("young")
            _, young = await ann.drain(before)
            await write(ann, "after", 5)
            _, after = await ann.drain(before)
            connection = await asyncpg.connect(server.dsn("postgres", "postgres"))
            await connection.execute("DROP DATABASE syncd WITH (FORCE)")
            await connection.execute("CREATE DATABASE syncd")
            await connection.close()
            run(bindir / "pg_restore", "-d", server.owner_dsn, folder / "dump")
            await ready(ann)
            space = await bob.create_space("secret")
            await write(bob, "secret", 9, space)
            await write(ann, "again", 20)
            assert await is_lost(ann, young)
            assert await is_lost(ann, after)
            assert not await is_lost(ann, before)


async def ready(device: Device) -> None:
    async with asyncio.timeout(60):
        while (await device.ask()).status_code == 503:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
