"""A worker that stops lets its live connections go: what is in work is answered, all are told, nobody holds it up."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import asyncpg
import pytest

from tests.support.device import Device
from tests.support.direct import somebody_waits
from tests.support.harness import Server
from tests.support.raw_socket import RawSocket
from tests.support.socket_device import Socket, opened
from tests.support.stream_device import stream_of
from tests.support.wire import edit, unique
from tests.system.operate.test_busy import held

pytestmark = pytest.mark.waits

SERVED = 40
# A stop that somebody holds up takes the whole shutdown timeout.
HELD_UP = {"shutdown_timeout": 60, "lock_timeout_ms": 60_000, "statement_timeout_ms": 60_000}
PROMPT = 40.0


async def in_flight(server: Server, user: str, owner: asyncpg.Connection) -> Socket:
    """A socket whose push waits for a lock that somebody else has."""
    socket = await opened(server)
    await socket.auth(user)
    change = edit("in-flight", x=1)
    await socket.send({"type": "push", "requestId": "r", "appId": "notes", "changes": [change]})
    await somebody_waits(owner)
    assert socket.all("push-result") == []
    return socket


async def test_a_push_in_work_is_answered_before_the_end_and_all_are_told_to_come_back(folder: Path) -> None:
    with Server(folder / "data", settings=HELD_UP) as server:
        user = unique("ann")
        async with Device(server, user) as device:
            await device.push([edit("r", x=1)])
        owner = await asyncpg.connect(server.owner_dsn)
        sockets = [await opened(server) for _ in range(SERVED)]
        for n, socket in enumerate(sockets):
            await socket.auth(user, f"c{n}")
            await socket.subscribe()
        async with stream_of(server, user) as stream:
            await stream.brings("r")
            async with held(owner, f"_personal:{user}"):
                pushing = await in_flight(server, user, owner)
                began = time.monotonic()
                stopping = asyncio.create_task(asyncio.to_thread(server.stop))
                await asyncio.sleep(1)
                assert pushing.code is None
            await owner.close()
            assert await pushing.ends() == 1012
            assert [result["status"] for result in pushing.all("push-result")[0]["results"]] == ["applied"]
            assert [await socket.ends() for socket in sockets] == [1012] * SERVED
            await stream.ends()
        assert await stopping == 0
        took = time.monotonic() - began
        print(f"stopped in {took:.2f} s")
        assert took < PROMPT
        server.start()
        async with Device(server, user) as device:
            assert {change["id"] for change in (await device.drain())[0]} == {"r", "in-flight"}


async def test_who_does_not_read_does_not_hold_up_a_stop(folder: Path) -> None:
    with Server(folder / "data", settings=HELD_UP) as server:
        user = unique("ann")
        deaf = [await RawSocket.opened(server.port, receive=4096) for _ in range(10)]
        for socket in deaf:
            await socket.auth(server, user)
        async with Device(server, user) as device:
            for turn in range(20):
                await device.push([edit(f"r{turn}-{n}", text="x" * 50_000) for n in range(2)])
        streams = [await RawSocket.stream(server, user, receive=4096) for _ in range(3)]
        await asyncio.sleep(1)
        began = time.monotonic()
        assert await asyncio.to_thread(server.stop) == 0
        took = time.monotonic() - began
        print(f"stopped in {took:.2f} s")
        assert took < PROMPT
        for socket in deaf:
            socket.close()
        for stream in streams:
            stream.close()


async def test_a_push_that_does_not_end_holds_up_a_stop_for_as_long_as_was_set_and_no_longer(folder: Path) -> None:
    with Server(folder / "data", settings={**HELD_UP, "shutdown_timeout": 2}) as server:
        user = unique("ann")
        async with Device(server, user) as device:
            await device.push([edit("r", x=1)])
        owner = await asyncpg.connect(server.owner_dsn)
        async with held(owner, f"_personal:{user}"):
            pushing = await in_flight(server, user, owner)
            idle = await opened(server)
            await idle.auth(user)
            began = time.monotonic()
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            assert await idle.ends() == 1012
            assert await pushing.ends() == 1012
        assert await stopping == 0
        print(f"stopped in {time.monotonic() - began:.2f} s")
        assert time.monotonic() - began < PROMPT
        assert "Traceback" not in server.output()
        await owner.close()
