"""SIGTERM under load: what is in flight is answered, nothing is cut in half, and the next start goes on."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.support.device import Change, Device, statuses
from tests.support.direct import somebody_waits
from tests.support.harness import Server
from tests.support.ledger import Load, check

pytestmark = pytest.mark.waits


@pytest.fixture
async def pair(folder: Path) -> AsyncIterator[Server]:
    """A server with two workers."""
    with Server(folder / "data", workers=2) as server:
        yield server


async def test_pushes_that_are_in_flight_are_answered_and_the_exit_is_clean(pair: Server) -> None:
    devices = [Device(pair, f"user-{n}") for n in range(8)]
    pushes: list[list[Change]] = []
    for device in devices:
        await device.push([device.change("warm", "r", 0)])
        pushes.append([device.change(f"c{n}", f"r{n}", "x" * 200) for n in range(900)])
    owner = await asyncpg.connect(pair.owner_dsn)
    async with owner.transaction():
        await owner.execute("LOCK TABLE syncd.sync_changes IN SHARE MODE")
        sending = [asyncio.create_task(device.send(push)) for device, push in zip(devices, pushes, strict=True)]
        await somebody_waits(owner)
        assert pair.process is not None
        pair.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.15)
    await owner.close()
    assert await asyncio.to_thread(pair.process.wait, 40) == 0
    answers = await asyncio.gather(*sending, return_exceptions=True)
    answered = [response for response in answers if isinstance(response, httpx.Response)]
    assert answered, answers
    assert {response.status_code for response in answered} == {200}
    for response in answered:
        assert statuses(response.json()) == ["applied"] * 900
    await asyncio.to_thread(pair.stop)
    await asyncio.to_thread(pair.start)
    for device, push, response in zip(devices, pushes, answers, strict=True):
        again = statuses(await device.push(push))
        assert again in (["duplicate"] * 900, ["applied"] * 900)
        assert again[0] == "duplicate" or not isinstance(response, httpx.Response)
        await device.close()


async def test_new_connections_are_refused_while_the_last_push_is_waited_for(pair: Server) -> None:
    async with Device(pair, "ann") as ann:
        await ann.push([ann.change("first", "r", 0)])
        body = ann.http.build_request("POST", "/sync/notes", json={"changes": [ann.change("c", "r", 1)], "pull": False})
        head = "".join(f"{name}: {value}\r\n" for name, value in body.headers.items())
        reader, writer = await asyncio.open_connection("127.0.0.1", pair.port)
        writer.write(f"POST /sync/notes HTTP/1.1\r\n{head}Expect: 100-continue\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")  # it waits for the body
        writer.write(body.content[:10])
        await writer.drain()
        assert pair.process is not None
        pair.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 60
        while True:
            try:
                _, other = await asyncio.open_connection("127.0.0.1", pair.port)
            except ConnectionRefusedError:
                break
            other.transport.abort()
            assert time.monotonic() < deadline, "it still listens"
            await asyncio.sleep(0.05)
        assert pair.process.poll() is None
        writer.write(body.content[10:])
        await writer.drain()
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await writer.wait_closed()
        assert await asyncio.to_thread(pair.process.wait, 30) == 0
        await asyncio.to_thread(pair.stop)
        await asyncio.to_thread(pair.start)
        assert [change["changeId"] for change in (await ann.drain(history=1))[0]] == ["first", "c"]


async def test_restarts_under_load_lose_nothing_and_writing_goes_on(pair: Server) -> None:
    load = Load(pair, 1)
    await load.start()
    try:
        for _ in range(3):
            await load.progress()
            assert await asyncio.to_thread(pair.stop) == 0
            await asyncio.to_thread(pair.start)
        await load.progress()
        await load.stop()
        await check(load)
    finally:
        await load.close()
