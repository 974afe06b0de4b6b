"""What can go wrong in a round, by name. Each fault puts right what it did before it returns.

A fault gets the world, a number that says which of those that it can hit, and how many seconds it lasts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg
import psutil
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from syncd.cli.migrate import refusals
from tests.support.compacting import compact
from tests.support.processes import backends_of, postmaster_of, workers_of
from tests.support.proxy import Faults

if TYPE_CHECKING:
    from tests.soak.schedule import Fault as Planned
    from tests.soak.world import World

# Of a start on a busy machine. Seconds.
PATIENCE = 120.0
HOUR = 3_600_000_000
YEAR_9999 = 7_900 * 365 * 24 * HOUR
Fault = Callable[["World", int, float], Awaitable[None]]


def hit(found: Sequence[psutil.Process], target: int) -> psutil.Process:
    """One of them; LookupError where there is none, as it is being started."""
    if not found:
        raise LookupError("there is none")
    return sorted(found, key=lambda process: process.pid)[target % len(found)]


async def freeze(processes: Sequence[psutil.Process], seconds: float) -> None:
    """Stops them for so long."""
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


# -- processes --------------------------------------------------------------------------------------------------


async def kill_a_worker(world: World, target: int, seconds: float) -> None:
    hit(workers_of(world.server), target).kill()


async def kill_all_workers(world: World, target: int, seconds: float) -> None:
    for worker in workers_of(world.server):
        worker.kill()


async def kill_the_fork_server(world: World, target: int, seconds: float) -> None:
    worker = hit(workers_of(world.server), target)
    parent = worker.parent()
    if parent is not None:
        parent.kill()


async def kill_a_backend(world: World, target: int, seconds: float) -> None:
    hit(backends_of(world.server), target).kill()


async def kill_the_postmaster(world: World, target: int, seconds: float) -> None:
    postmaster_of(world.server).kill()


async def kill_the_database(world: World, target: int, seconds: float) -> None:
    master = postmaster_of(world.server)
    for process in [master, *master.children()]:
        process.kill()


async def kill_the_server(world: World, target: int, seconds: float) -> None:
    await asyncio.to_thread(world.server.kill)
    await asyncio.to_thread(world.server.start, PATIENCE)


async def kill_it_as_it_starts(world: World, target: int, seconds: float) -> None:
    await asyncio.to_thread(world.server.kill)
    await asyncio.to_thread(world.server.launch)
    await asyncio.sleep(seconds / 4)
    await asyncio.to_thread(world.server.kill)
    await asyncio.to_thread(world.server.start, PATIENCE)


async def stop_and_start(world: World, target: int, seconds: float) -> None:
    code = await asyncio.to_thread(world.server.stop)
    await asyncio.to_thread(world.server.start, PATIENCE)
    assert code == 0, f"it ended with {code}"


async def freeze_a_worker(world: World, target: int, seconds: float) -> None:
    await freeze([hit(workers_of(world.server), target)], seconds)


async def freeze_the_postmaster(world: World, target: int, seconds: float) -> None:
    await freeze([postmaster_of(world.server)], seconds)


async def freeze_a_backend(world: World, target: int, seconds: float) -> None:
    await freeze([hit(backends_of(world.server), target)], seconds)


async def freeze_the_listeners(world: World, target: int, seconds: float) -> None:
    async with as_owner(world) as connection:
        rows = await connection.fetch("SELECT pid FROM pg_stat_activity WHERE application_name = 'syncd bus'")
    await freeze([psutil.Process(row["pid"]) for row in rows], seconds)


# -- the database -----------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def as_owner(world: World) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(world.server.owner_dsn, timeout=10)
    try:
        yield connection
    finally:
        connection.terminate()


async def a_long_transaction(world: World, target: int, seconds: float) -> None:
    async with as_owner(world) as connection, connection.transaction(isolation="repeatable_read"):
        await connection.fetchval("SELECT count(*) FROM syncd.sync_changes")
        await asyncio.sleep(seconds)


async def a_locked_feed(world: World, target: int, seconds: float) -> None:
    async with as_owner(world) as connection, connection.transaction():
        await connection.execute("SELECT 1 FROM syncd.sync_feeds FOR UPDATE")
        await asyncio.sleep(seconds)


async def compaction(world: World, target: int, seconds: float) -> None:
    """Of the space that is compacted alone: its history goes, its deleted records are forgotten."""
    await compact(world.server.owner_dsn, world.spaces[1])


# -- lines ------------------------------------------------------------------------------------------------------


def on_a_line(cut_after: bool = False, **faults: Any) -> Fault:
    """The faults of tests/support/proxy.py on one client's line, for a while."""

    async def fault(world: World, target: int, seconds: float) -> None:
        line = world.lines[target % len(world.lines)]
        line.faults = Faults(**faults)
        try:
            await asyncio.sleep(seconds)
        finally:
            line.heal()
            if cut_after:
                # What was swallowed would never come: such a connection ends, also one on which nothing comes now.
                line.reset()

    return fault


async def cut_a_line(world: World, target: int, seconds: float) -> None:
    world.lines[target % len(world.lines)].cut()


async def reset_all_lines(world: World, target: int, seconds: float) -> None:
    """Everybody comes back at once."""
    for line in world.lines:
        line.reset()


async def a_storm_of_connections(world: World, target: int, seconds: float) -> None:
    """Of connections that say nothing, or send a byte now and then."""
    handles = []
    try:
        for n in range(200):
            handle = socket.socket()
            handle.setblocking(False)
            with contextlib.suppress(BlockingIOError, OSError):
                handle.connect(("127.0.0.1", world.server.port))
            handles.append(handle)
            if n % 20 == 0:
                await asyncio.sleep(0.01)
        for letter in b"POST /sync/notes HTTP/1.1\r\n"[: int(seconds * 5)]:
            for handle in handles[:20]:
                with contextlib.suppress(OSError):
                    handle.send(bytes([letter]))
            await asyncio.sleep(0.2)
    finally:
        for handle in handles:
            handle.close()


async def sockets_that_never_read(world: World, target: int, seconds: float) -> None:
    """Subscribed to everything, and taking nothing of it."""
    async with contextlib.AsyncExitStack() as open_:
        for n in range(20):
            way = connect(f"{world.server.url}/ws".replace("http", "ws", 1), max_queue=1, close_timeout=0.1, proxy=None)
            socket = await open_.enter_async_context(way)
            token = world.server.token("watcher")
            await socket.send(json.dumps({"type": "auth", "token": token, "clientId": f"deaf-{n}", "protocol": 1}))
            await socket.send(json.dumps({"type": "subscribe", "appId": "notes", "since": ""}))
        await asyncio.sleep(seconds)


# -- devices, clocks, members -------------------------------------------------------------------------------------


async def kill_a_device(world: World, target: int, seconds: float) -> None:
    """kill -9 of a process of devices; it comes back with the files that it had."""
    client = world.processes[target % len(world.processes)]
    if not client.keeps:
        await client.order(do="clock", micros=0)
        return
    await client.kill()
    await asyncio.sleep(seconds / 4)
    await client.start()


async def a_wrong_clock(world: World, target: int, seconds: float) -> None:
    client = world.processes[target % len(world.processes)]
    await client.order(do="clock", micros=(HOUR, -HOUR, YEAR_9999)[target % 3])
    await asyncio.sleep(seconds)
    await client.order(do="clock", micros=0)


async def a_member_goes_and_comes(world: World, target: int, seconds: float) -> None:
    await world.removed_for(world.churned[target % len(world.churned)], seconds)


async def a_writer_becomes_a_reader(world: World, target: int, seconds: float) -> None:
    user = world.churned[target % len(world.churned)]
    await world.put_member(user, "reader")
    await asyncio.sleep(seconds)
    await world.put_member(user, "writer")


# What ends, stops or starts the processes of the server: one at a time.
EXCLUSIVE: dict[str, Fault] = {
    f.__name__: f
    for f in (
        kill_a_worker, kill_all_workers, kill_the_fork_server, kill_a_backend, kill_the_postmaster, kill_the_database,
        kill_the_server, kill_it_as_it_starts, stop_and_start, freeze_a_worker, freeze_the_postmaster, freeze_a_backend,
        freeze_the_listeners, kill_a_device, a_member_goes_and_comes, a_writer_becomes_a_reader,
    )
}  # fmt: skip
TOGETHER: dict[str, Fault] = {
    f.__name__: f
    for f in (a_long_transaction, a_locked_feed, compaction, cut_a_line, reset_all_lines, a_storm_of_connections,
              sockets_that_never_read, a_wrong_clock)
} | {
    "a_line_that_stalls_up": on_a_line(stall={"up"}),
    "a_line_that_stalls_down": on_a_line(stall={"down"}),
    "a_line_that_swallows_what_is_sent": on_a_line(cut_after=True, blackhole={"up"}),
    "a_line_that_swallows_answers": on_a_line(cut_after=True, blackhole={"down"}),
    "a_slow_line": on_a_line(bytes_per_second=3_000.0, delay=0.3),
    "a_line_that_loses_replies": on_a_line(lose_reply_after=40),
    "a_line_that_truncates": on_a_line(truncate_after=400),
    "a_line_that_sends_twice": on_a_line(duplicate=True),
    "a_line_that_is_refused": on_a_line(cut_after=True, refuse=True),
    "a_line_that_cuts_some": on_a_line(cut=0.5),
}  # fmt: skip
FAULTS = EXCLUSIVE | TOGETHER
AWAY = (LookupError, psutil.NoSuchProcess, WebSocketException, *refusals())  # what a fault itself may meet


async def inject(world: World, planned: Planned, last: float) -> None:
    """One fault, told to the history; none any more after `last`. What was to be hit may be away: then it is none."""
    async with world.hand if planned.name in EXCLUSIVE else contextlib.nullcontext():
        if time.monotonic() > last:
            return
        event = world.history.note("faults", "fault", name=planned.name, until=None)
        try:
            await FAULTS[planned.name](world, planned.target, planned.seconds)
        except AWAY as why:
            event["missed"] = type(why).__name__
        finally:
            event["until"] = world.now()
