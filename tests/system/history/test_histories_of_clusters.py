"""G5 for whole database servers: a base backup, a promoted standby, a copied folder, a restore while they run."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from syncd.core.errors import DatabaseUnavailable
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.migrate import migrate
from tests.support.device import Device
from tests.support.harness import Server
from tests.support.histories import run, two_lines, worker
from tests.support.programs import postgresql_15
from tests.system.history.test_restore import is_lost, write

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
