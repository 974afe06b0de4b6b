"""What a server or a database that was killed has left behind keeps nobody from starting again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.launch import Account, account_for
from tests.support.supervised import Supervisor, processes_in, wait_for, written
from tests.support.template import Template


@pytest.fixture
def made(folder: Path, workspace: Path) -> None:
    """A database in the test's folder that was made before: making one takes longer than most of these tests."""
    Template(workspace / "template").copy_to(folder / "data")


@pytest.fixture
def database(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A database of the test's own."""
    with EmbeddedPostgres(folder / "data") as running:
        yield running


@contextlib.contextmanager
def ended(account: Account) -> Iterator[int]:
    """The number of a process of the database's user that has ended, and that nobody waits for meanwhile."""
    with subprocess.Popen(["true"], cwd="/", **account.popen()) as process:
        wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        yield process.pid


BUSY = "SELECT count(*) FROM generate_series(1, 1000000000000)"


async def computing(database: EmbeddedPostgres) -> asyncpg.Connection:
    """A connection whose backend computes, and looks for nobody, for as long as nobody ends it."""
    conn = await asyncpg.connect(database.owner_dsn)
    await conn.execute("SET max_parallel_workers_per_gather = 0")
    task = asyncio.ensure_future(conn.execute(BUSY))
    task.add_done_callback(lambda done: done.exception())
    await asyncio.sleep(0.5)
    return conn


@pytest.mark.usefixtures("made")
async def test_who_computes_does_not_keep_the_next_start_from_beginning(folder: Path) -> None:
    """Its postmaster is gone, and it has not looked."""
    supervisor = Supervisor(folder / "data")
    other = EmbeddedPostgres(folder / "data")
    assert await written(other) == 1
    conn = await computing(other)
    os.kill(supervisor.postmaster, signal.SIGKILL)
    supervisor.kill()
    with other as database:
        assert await written(database) == 2
    conn.terminate()
    wait_for(lambda: processes_in(folder) == [])


@pytest.mark.usefixtures("made")
async def test_a_frozen_backend_does_not_either(folder: Path) -> None:
    supervisor = Supervisor(folder / "data")
    other = EmbeddedPostgres(folder / "data")
    assert await written(other) == 1
    conn = await asyncpg.connect(other.owner_dsn)
    os.kill(conn.get_server_pid(), signal.SIGSTOP)
    os.kill(supervisor.postmaster, signal.SIGKILL)
    supervisor.kill()
    with other as database:
        assert await written(database) == 2
    conn.terminate()
    wait_for(lambda: processes_in(folder) == [])


@pytest.mark.usefixtures("made")
async def test_nor_does_it_keep_a_killed_postmaster_from_being_started_again(database: EmbeddedPostgres) -> None:
    assert await written(database) == 1
    conn = await computing(database)
    os.kill(database.pid or 0, signal.SIGKILL)
    wait_for(lambda: database.poll() is not None)
    assert database.ensure()
    assert await written(database) == 2
    conn.terminate()


@pytest.mark.usefixtures("made")
async def test_a_supervisor_that_nobody_waited_for_is_none(folder: Path) -> None:
    """It has ended, and its parent has not asked how; nor has anybody for its postmaster."""
    supervisor = Supervisor(folder / "data")
    other = EmbeddedPostgres(folder / "data")
    assert await written(other) == 1
    conn = await computing(other)
    os.kill(supervisor.postmaster, signal.SIGKILL)
    supervisor.process.kill()
    wait_for(lambda: psutil.Process(supervisor.process.pid).status() == psutil.STATUS_ZOMBIE)
    with other as database:
        assert await written(database) == 2
    conn.terminate()
    supervisor.kill()


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("name", ["pgdata/postmaster.pid", "run/.s.PGSQL.5432.lock"])
async def test_a_number_of_one_that_ended_and_was_not_waited_for_keeps_nobody_out(folder: Path, name: str) -> None:
    """PostgreSQL takes it for a postmaster that runs: to signal it is no error."""
    with EmbeddedPostgres(folder / "data") as database:
        assert await written(database) == 1
    with ended(account_for(folder)) as pid:
        (folder / "data" / name).write_text(f"{pid}\n")
        with EmbeddedPostgres(folder / "data") as again:
            assert await written(again) == 2
