"""G13: a notification is only a hint. Whatever dies or freezes under open sockets costs 5 s at most, and no data.

Two workers, a writer that goes on, devices on sockets and a stream; tests/support/live_load.py has what is compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from syncd.postgres.cluster import PORT
from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.harness import Server
from tests.support.live_load import LiveLoad, until
from tests.support.nats_server import NatsServer
from tests.support.processes import postmaster_of, workers_of
from tests.support.proxy import Proxy

pytestmark = pytest.mark.waits

PROMISED = 5.0


@pytest.fixture(autouse=True)
def _seed() -> None:
    seed = int(os.environ.get("SEED", random.randrange(1 << 30)))
    print(f"seed {seed}")
    random.seed(seed)


@pytest.fixture(scope="module")
def pair(workspace: Path) -> Iterator[Server]:
    """Two workers on a database that may die."""
    with Server(workspace / "live-pair", workers=2) as server:
        yield server


async def listeners(dsn: str) -> list[int]:
    """The database's processes that the buses of the workers are connected to."""
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch("SELECT pid FROM pg_stat_activity WHERE application_name = 'syncd bus'")
    await connection.close()
    return [row["pid"] for row in rows]


async def freeze(pids: list[int], seconds: float) -> None:
    """Stops processes for a while."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        for pid in pids:
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGCONT)


# -- the listener ------------------------------------------------------------------------------------------------


async def away(dsn: str, kill: Callable[[], object]) -> float:
    """How long a database answers nobody after this, in seconds. One that comes back has its files brought to the disk
    first, all of them: on a slow one that alone may take as long as what is promised."""
    connection = await asyncpg.connect(dsn)
    kill()
    began = time.monotonic()
    await until(connection.is_closed)
    while connection.is_closed():
        assert time.monotonic() < began + 60
        with contextlib.suppress(OSError, asyncpg.PostgresError):
            connection = await asyncpg.connect(dsn)
        await asyncio.sleep(0.02)
    await connection.close()
    print(f"the database was away for {time.monotonic() - began:.2f} s")
    return time.monotonic() - began


async def test_a_listeners_backend_that_is_killed(pair: Server) -> None:
    async with LiveLoad(pair) as load:
        pid = random.choice(await listeners(pair.owner_dsn))
        absent = await away(pair.owner_dsn, lambda: os.kill(pid, signal.SIGKILL))
        await load.progress(20)
        await load.settle(absent + PROMISED)


@pytest.mark.parametrize("which", ["one", "all"])
async def test_a_listeners_backend_that_stands_still(pair: Server, which: str) -> None:
    async with LiveLoad(pair) as load:
        pids = await listeners(pair.owner_dsn)
        assert len(pids) >= 2
        await freeze(pids if which == "all" else pids[:1], random.uniform(2, 6))
        await load.progress(20)
        await load.settle(PROMISED)


@pytest.fixture(scope="module")
async def way(database: EmbeddedPostgres, workspace: Path) -> AsyncIterator[Proxy]:
    """A proxy between the buses and their database."""
    socket = f".s.PGSQL.{PORT}"
    folder = workspace / "bus-way"
    folder.mkdir()
    async with Proxy(database.socket_dir / socket, listen=folder / socket) as proxy:
        yield proxy


@pytest.fixture(scope="module")
async def behind_the_way(database: EmbeddedPostgres, way: Proxy, workspace: Path) -> AsyncIterator[Server]:
    """Two workers whose buses go through the proxy, and nothing else does."""
    assert way.listen is not None
    settings = {
        "database_url": database.runtime_dsn,
        "listen_url": f"postgresql://syncd_runtime@/syncd?host={way.listen.parent}&port={PORT}",
    }
    server = Server(workspace / "behind-the-way", workers=2, settings=settings, start=False)
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.stop)


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_listeners_connection_that_swallows_everything_one_way(
    behind_the_way: Server, way: Proxy, direction: str
) -> None:
    async with LiveLoad(behind_the_way) as load:
        assert len(way.links) >= 2
        way.faults.blackhole = {direction}
        # Long enough for it to be noticed, and for tries that meet nothing but silence.
        await asyncio.sleep(4)
        await load.progress(10)
        way.heal()
        await load.progress(20)
        await load.settle(PROMISED)


# -- workers and the database ----------------------------------------------------------------------------------------


async def test_a_worker_that_is_killed_sends_its_devices_to_the_other(pair: Server) -> None:
    async with LiveLoad(pair) as load:
        for _ in range(2):
            victim = random.choice(workers_of(pair))
            cut_off = load.ports_of(victim)
            victim.kill()
            await load.progress(20)
            assert not cut_off & {follower.port for follower in load.followers}
            await two_workers(pair)
        await load.settle(PROMISED)


async def two_workers(server: Server) -> None:
    """A worker that was killed is replaced."""
    deadline = time.monotonic() + 30
    while len(workers_of(server)) < 2:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_all_workers_that_are_killed(pair: Server) -> None:
    async with LiveLoad(pair) as load:
        for worker in workers_of(pair):
            worker.kill()
        await load.progress(20)
        await two_workers(pair)
        # Nothing is there to hear of anything for as long as new workers take to start.
        await load.settle(2 * PROMISED)


async def test_a_database_that_is_killed_and_started_anew(pair: Server) -> None:
    async with LiveLoad(pair) as load:
        before = {follower.port for follower in load.followers if follower.port}
        absent = await away(pair.owner_dsn, postmaster_of(pair).kill)
        await load.progress(20)
        assert before <= {follower.port for follower in load.followers}, "a socket did not outlive the database"
        await load.settle(absent + PROMISED)


async def test_a_worker_that_stands_still(pair: Server) -> None:
    async with LiveLoad(pair) as load:
        await freeze([random.choice(workers_of(pair)).pid], 3)
        await load.progress(20)
        await load.settle(3 + PROMISED)


# -- NATS ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nats() -> Iterator[NatsServer]:
    with NatsServer() as running:
        yield running


@pytest.fixture(scope="module")
def over_nats(database: EmbeddedPostgres, nats: NatsServer, workspace: Path) -> Iterator[Server]:
    """Two workers that hear from each other over NATS."""
    settings = {"database_url": database.runtime_dsn, "bus": nats.url}
    with Server(workspace / "over-nats", workers=2, settings=settings) as server:
        yield server


async def test_nats_that_is_killed_and_comes_back(over_nats: Server, nats: NatsServer) -> None:
    async with LiveLoad(over_nats) as load:
        nats.kill()
        await load.progress(20)
        await load.progress(20)
        nats.start()
        await load.progress(20)
        await load.settle(PROMISED)


async def test_nats_that_stands_still(over_nats: Server, nats: NatsServer) -> None:
    async with LiveLoad(over_nats) as load:
        nats.freeze()
        try:
            await asyncio.sleep(random.uniform(2, 6))
        finally:
            nats.thaw()
        await load.progress(20)
        await load.settle(PROMISED)


async def test_no_bus_at_all(database: EmbeddedPostgres, folder: Path) -> None:
    settings = {"database_url": database.runtime_dsn, "bus": "nats://127.0.0.1:1"}
    server = Server(folder / "alone", workers=2, settings=settings, start=False)
    await asyncio.to_thread(server.start)
    try:
        async with LiveLoad(server) as load:
            await load.progress(20)
            assert await load.settle(PROMISED) > 0.1, "who told them?"
    finally:
        await asyncio.to_thread(server.stop)
