"""G14: many at once, slow ones, deaf ones and dead ones: each costs little, and others are served meanwhile.

What 50 MB cost that two hundred do not read is in tests/system/live/test_live_slow.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.device import Device
from tests.support.harness import Server
from tests.support.live_load import Follower, LiveLoad, until
from tests.support.processes import workers_of
from tests.support.proxy import Proxy
from tests.support.raw_socket import RawSocket
from tests.support.wire import edit, unique

pytestmark = pytest.mark.alone

MIB = 1 << 20
STORM, DEAF, STREAMS = 500, 100, 20
PING = 1.0


@pytest.fixture(scope="module")
async def crowded(workspace: Path) -> AsyncIterator[Server]:
    """One worker, for any number of connections."""
    server = Server(workspace / "crowded", settings={"max_connections_per_user": 0}, start=False)
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.stop)


@pytest.fixture(scope="module")
async def impatient(workspace: Path) -> AsyncIterator[Server]:
    """One worker, which looks after silent sockets every second."""
    server = Server(workspace / "impatient", settings={"ping_interval": PING}, start=False)
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.stop)


def memory(server: Server) -> int:
    return int(workers_of(server)[0].memory_info().rss)


async def waits(device: Device, again: Callable[[], bool]) -> list[float]:
    """How long each of a normal device's pushes took, for as long as something else goes on."""
    took: list[float] = []
    while again():
        began = time.monotonic()
        await device.push([device.change(unique("c"), "normal", len(took))])
        took.append(time.monotonic() - began)
        await asyncio.sleep(0.05)
    return took


async def while_pushing(device: Device, work: Awaitable[None]) -> float:
    """Does something while a normal device pushes; how long the slowest push took."""
    task = asyncio.ensure_future(work)
    took = await waits(device, lambda: not task.done())
    await task
    return max(took)


# -- many ------------------------------------------------------------------------------------------------------------


async def test_a_storm_of_connections_and_everybody_back_at_once_after_a_restart(crowded: Server) -> None:
    user = unique("ann")
    async with Device(crowded, user) as device, Device(crowded, unique("bob")) as other:
        await device.push([device.change(f"b{n}", f"b{n}", n) for n in range(4)])
        crowd = [Follower(crowded, user) for _ in range(STORM)]
        began = time.monotonic()
        tasks = [asyncio.create_task(follower.run()) for follower in crowd]
        slowest = await while_pushing(other, until(lambda: all(len(f.seqs) == 4 for f in crowd), 300))
        print(f"{STORM} were current after {time.monotonic() - began:.1f} s, the slowest push took {slowest:.2f} s")
        workers_of(crowded)[0].kill()
        await until(lambda: all(follower.ends for follower in crowd))
        began, pushed = time.monotonic(), False
        while not pushed:
            response = await device.send([device.change(f"a{n}", f"a{n}", n) for n in range(4)])
            pushed = response.status_code == 200
        await until(lambda: all(len(follower.seqs) == 8 for follower in crowd), 300)
        print(f"all were current again after {time.monotonic() - began:.1f} s")
        assert [fault for follower in crowd for fault in follower.faults] == []
        assert slowest < 60
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# -- deaf ------------------------------------------------------------------------------------------------------------


async def test_a_push_of_8_mib_costs_once_what_it_is_however_many_begin_with_it_and_do_not_read(
    crowded: Server,
) -> None:
    user = unique("ann")
    async with Device(crowded, user) as device, Device(crowded, unique("bob")) as other:
        big = [device.change(f"big{n}", f"big{n}", "x" * (MIB - 2000)) for n in range(8)]
        await device.push(big)
        before = memory(crowded)
        deaf = [await RawSocket.opened(crowded.port, receive=4096) for _ in range(DEAF)]
        for one in deaf:
            await one.auth(crowded, user)
        slowest = await while_pushing(other, asyncio.sleep(1.5))
        grown = memory(crowded) - before
        print(f"{grown / MIB:.0f} MiB for {DEAF}, the slowest push of another took {slowest:.2f} s")
        assert grown < DEAF * MIB
        for one in deaf[:-1]:
            one.close()
        page = await deaf[-1].hear()
        while page["type"] == "error":  # there was no room for it as well, until the others were gone
            assert page["code"] == "busy"
            page = await deaf[-1].hear()
        assert [len(c["fields"]["value"]["value"]) for c in page["changes"]] == [MIB - 2000] * 8
        deaf[-1].close()


async def test_streams_that_nobody_reads_cost_little_and_bring_everything_later(crowded: Server) -> None:
    user = unique("ann")
    async with Device(crowded, user) as device:
        await device.push([device.change("first", "first", 1)])
        streams = [await RawSocket.stream(crowded, user) for _ in range(STREAMS)]
        before = memory(crowded)
        for n in range(50):  # in less than the minute after which a stream that takes nothing is ended
            await device.push([device.change(f"c{n}", f"r{n}", "x" * 100_000)])
        grown = memory(crowded) - before
        print(f"{grown / MIB:.0f} MiB for {STREAMS} streams that were not read while 5 MB were written")
        assert grown < 2 * STREAMS * MIB
        for stream in streams[:5]:
            await asyncio.wait_for(read_up_to(stream, b'"id":"r49"'), 300)
        for stream in streams:
            stream.close()


async def read_up_to(stream: RawSocket, mark: bytes) -> None:
    """Reads until a text has come; all before it came too, and once."""
    while mark not in stream.text[-300_000:]:
        await stream.sip(MIB)
    assert [stream.text.count(b'"id":"r%d"' % n) for n in range(50)] == [1] * 50


# -- slow and dead ---------------------------------------------------------------------------------------------------


async def test_who_reads_slowly_is_not_cut_off_and_who_reads_nothing_is(impatient: Server) -> None:
    user = unique("ann")
    async with Device(impatient, user) as device:
        for n in range(20):
            await device.push([edit(f"r{n}", text="x" * 40_000)])
        slow, deaf = [await RawSocket.opened(impatient.port, receive=2304) for _ in range(2)]
        slow.answers = True
        for one in (slow, deaf):
            await one.auth(impatient, user)
        # Thrice the time that a socket may stand still, at some kB/s.
        until_then = time.monotonic() + 9 * PING
        while time.monotonic() < until_then:
            await slow.sip(400)
            await asyncio.sleep(0.1)
        seen = 0
        while seen < 20:
            seen += len((await asyncio.wait_for(slow.hear(), 120)).get("changes", ()))
        with pytest.raises((EOFError, OSError)):
            await asyncio.wait_for(to_the_end(deaf), 120)
        for one in (slow, deaf):
            one.close()


async def to_the_end(one: RawSocket) -> None:
    """Reads as long as there is something."""
    while True:
        await one.hear()


@pytest.mark.soak
async def test_a_stream_that_is_read_at_a_kilobyte_a_second_is_not_cut_off(crowded: Server) -> None:
    user = unique("ann")
    async with Device(crowded, user) as device:
        for n in range(20):
            await device.push([edit(f"r{n}", text="x" * 40_000)])
    stream = await RawSocket.stream(crowded, user, receive=2304)
    for _ in range(150):
        await stream.sip(1024)
        await asyncio.sleep(1)
    stream.close()


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_socket_whose_way_swallows_everything_is_ended_and_others_are_served(
    impatient: Server, direction: str
) -> None:
    async with Proxy(impatient.port) as way, LiveLoad(impatient, followers=2) as load:
        cut_off = Follower(impatient, load.followers[0].user, url=way.url)
        task = asyncio.create_task(cut_off.run())
        await until(lambda: cut_off.seqs)
        way.faults.blackhole = {direction}
        began = time.monotonic()
        # The proxy ends what the server ends.
        await until(lambda: cut_off.ends, 60)
        print(f"ended after {time.monotonic() - began:.1f} s")
        way.heal()
        load.followers.append(cut_off)
        await load.progress(10)
        await load.settle(30)
        assert all(not follower.ends for follower in load.followers[:-1])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
