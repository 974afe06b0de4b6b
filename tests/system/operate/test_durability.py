"""G1, G2: what was acknowledged is there after any kill, and no push is ever there by half.

Writers and readers go on while processes are killed, frozen and restarted under them; see tests/support/ledger.py for
what is compared afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.device import Device
from tests.support.harness import Server
from tests.support.ledger import Load, check
from tests.support.processes import backends_of, fork_server_of, postmaster_of, workers_of
from tests.support.stalls import Stalls

pytestmark = pytest.mark.waits


async def kill_a_worker(server: Server) -> None:
    random.choice(workers_of(server)).kill()


async def kill_all_workers(server: Server) -> None:
    for process in workers_of(server):
        process.kill()


async def kill_the_fork_server(server: Server) -> None:
    fork_server_of(server).kill()


async def kill_a_backend(server: Server) -> None:
    random.choice(backends_of(server)).kill()


async def kill_the_postmaster(server: Server) -> None:
    postmaster_of(server).kill()


async def kill_everything_of_the_database(server: Server) -> None:
    master = postmaster_of(server)
    for process in [master, *master.children()]:
        process.kill()


async def kill_the_supervisor(server: Server) -> None:
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)


async def freeze(process: psutil.Process, seconds: float) -> None:
    process.send_signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        process.send_signal(signal.SIGCONT)


async def freeze_a_worker(server: Server) -> None:
    await freeze(random.choice(workers_of(server)), 2)


async def freeze_the_postmaster(server: Server) -> None:
    await freeze(postmaster_of(server), 2)


async def freeze_a_backend(server: Server) -> None:
    await freeze(random.choice(backends_of(server)), 1)


Fault = Callable[[Server], Awaitable[None]]
SERVER: list[Fault] = [kill_a_worker, kill_all_workers, kill_the_fork_server, freeze_a_worker, kill_the_supervisor]
DATABASE: list[Fault] = [
    kill_a_backend,
    kill_the_postmaster,
    kill_everything_of_the_database,
    freeze_the_postmaster,
    freeze_a_backend,
]


@pytest.fixture
async def load(folder: Path) -> AsyncIterator[Load]:
    """A server with two workers, under load."""
    seed = int(os.environ.get("SEED", random.randrange(1 << 30)))
    print(f"seed {seed}")
    random.seed(seed)
    with Server(folder / "data", workers=2) as server:
        running = Load(server, seed)
        await running.start()
        await running.progress()
        yield running
        await running.close()


async def inject(load: Load, fault: Fault) -> None:
    """One fault at a moment of its own, and then writing goes on."""
    print(f"{time.strftime('%H:%M:%S')} {fault.__name__}")
    await asyncio.sleep(random.random() * 0.2)
    try:
        await fault(load.server)
    except (LookupError, RuntimeError, psutil.NoSuchProcess):
        # What was to be hit is being started again.
        await asyncio.sleep(0.2)
    await load.progress()


@pytest.mark.parametrize("faults", [SERVER, DATABASE], ids=["the server", "the database"])
async def test_nothing_acknowledged_is_lost_and_no_push_is_split_when_processes_die_of(
    load: Load, faults: list[Fault]
) -> None:
    for fault in random.sample(faults, len(faults)):
        await inject(load, fault)
    await load.stop()
    await check(load)


KILLS: list[Fault] = [
    kill_a_worker,
    kill_all_workers,
    kill_the_fork_server,
    kill_a_backend,
    kill_the_postmaster,
    kill_everything_of_the_database,
    kill_the_supervisor,
]
COUNT, PROMISED = 50, 3.0


async def recovered(probe: Device, n: int) -> None:
    """A push that began after a kill is acknowledged."""
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if (await probe.send([probe.change(f"probe-{n}", "probe", n)])).status_code == 200:
                return
        await asyncio.sleep(0.02)


async def everybody_is_back(load: Load) -> None:
    """Both workers are there, and the writers go on."""
    async with asyncio.timeout(60):
        while len(workers_of(load.server)) < 2:  # noqa: ASYNC110 (processes tell nobody)
            await asyncio.sleep(0.05)
    await load.progress()


def p95(values: list[float]) -> float:
    """What one in twenty of them exceeds."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


@pytest.mark.soak
async def test_pushes_are_taken_again_within_three_seconds_of_each_of_fifty_kills(load: Load) -> None:
    stalls, took = Stalls(), defaultdict[str, list[tuple[float, float]]](list)
    watching = asyncio.create_task(stalls.watch())
    for n in range(COUNT):
        kill = KILLS[n % len(KILLS)]
        async with Device(load.server, "writer-0", f"probe-{n}", timeout=PROMISED) as probe:
            began = time.monotonic()
            await kill(load.server)
            await recovered(probe, n)
            now = time.monotonic()
        took[kill.__name__].append((now - began, max(0.0, now - began - stalls.between(began, now))))
        await everybody_is_back(load)
    watching.cancel()
    for name, seconds in took.items():
        for what, values in (("whole", [all_ for all_, _ in seconds]), ("own", [own for _, own in seconds])):
            tell = f"{statistics.median(values):.2f} s, p95 {p95(values):.2f} s, at most {max(values):.2f} s"
            print(f"{name}: {len(seconds)} times, {what} {tell}")
    await load.stop()
    await check(load)
    # What the machine served others with does not count.
    assert max(own for seconds in took.values() for _, own in seconds) < PROMISED
