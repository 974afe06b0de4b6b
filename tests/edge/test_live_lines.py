"""Sockets and streams on bad lines: what moves is alive, in either direction, however much waits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.device import Device
from tests.support.harness import Server
from tests.support.proxy import Proxy
from tests.support.raw_socket import RawSocket
from tests.support.socket_device import Socket, opened
from tests.support.wire import edit, unique

pytestmark = pytest.mark.waits

INTERVAL = 3.0


@pytest.fixture(scope="module")
def hasty(workspace: Path) -> Iterator[Server]:
    """A server that pings after three seconds."""
    with Server(workspace / "hasty", settings={"ping_interval": INTERVAL}) as server:
        yield server


@pytest.fixture
async def line(hasty: Server) -> AsyncIterator[Proxy]:
    async with Proxy(hasty.port) as proxy:
        yield proxy


def noise(size: int) -> str:
    """Text that nothing makes smaller."""
    return secrets.token_hex(size // 2)


async def fill(server: Server, user: str, pushes: int, size: int) -> None:
    """So many pushes of one record of that size."""
    async with Device(server, user, "elsewhere") as device:
        for n in range(pushes):
            await device.push([edit(f"r{n}", text=noise(size))])


async def through(proxy: Proxy, server: Server, user: str) -> Socket:
    """A socket over a line, authenticated."""
    socket = await opened(server, host="127.0.0.1", port=proxy.port)
    await socket.auth(user, protocol=1)
    return socket


async def test_a_page_on_its_way_down_keeps_a_connection_though_nothing_comes_back_meanwhile(
    hasty: Server, line: Proxy
) -> None:
    user = unique("ann")
    await fill(hasty, user, 1, 300_000)
    async with await through(line, hasty, user) as socket:
        line.faults.bytes_per_second = 15_000
        began = time.monotonic()
        await socket.subscribe()
        assert time.monotonic() - began > 5 * INTERVAL
        line.heal()
        await fill(hasty, user, 2, 10)
        await socket.brings("r1")


async def test_a_push_on_its_way_up_keeps_a_connection(hasty: Server, line: Proxy) -> None:
    user = unique("ann")
    async with await through(line, hasty, user) as socket:
        await socket.subscribe()
        line.faults.bytes_per_second = 15_000
        result = await socket.push(edit("large", text=noise(300_000)))
        assert result["results"][0]["status"] == "applied"


async def test_a_line_that_stands_still_on_its_way_down_is_ended(hasty: Server, line: Proxy) -> None:
    user = unique("ann")
    await fill(hasty, user, 8, 100_000)
    async with await through(line, hasty, user) as socket:
        line.faults.stall = {"down"}
        await socket.send({"type": "subscribe", "appId": "notes", "since": ""})
        began = time.monotonic()
        while line.links:
            await socket.send({"type": "ping"})
            await asyncio.sleep(0.1)
            with contextlib.suppress(StopIteration):
                if next(iter(line.links)).targets[0].is_closing():
                    break
            assert time.monotonic() - began < 10 * INTERVAL, "it talks, but takes nothing"
        line.heal()


async def test_who_answers_nothing_and_waits_for_nothing_is_ended(hasty: Server) -> None:
    user = unique("ann")
    quiet = await RawSocket.opened(hasty.port)
    await quiet.auth(hasty, user)
    began = time.monotonic()
    async with asyncio.timeout(20 * INTERVAL):
        with contextlib.suppress(EOFError):
            while True:
                await quiet.hear()
    assert time.monotonic() - began > 1.9 * INTERVAL


async def test_auth_on_its_way_up_may_take_longer_than_ten_seconds(hasty: Server, line: Proxy) -> None:
    token = hasty.token("ann", [{"id": "x" * 6_000, "role": "reader"}])
    async with await opened(hasty, host="127.0.0.1", port=line.port) as socket:
        line.faults.bytes_per_second = 650
        await socket.send({"type": "auth", "token": token, "clientId": "slow"})
        await socket.next("auth-ok")


async def sizes(socket: Socket, user: str) -> list[int]:
    """How large the frames of a first sync were."""
    pages = await socket.subscribe()
    assert len({change["id"] for page in pages for change in page["changes"]}) == 40
    return [len(json.dumps(page)) for page in pages]


async def test_pages_grow_on_a_good_line_and_stay_small_on_a_bad_one(hasty: Server, line: Proxy) -> None:
    user = unique("ann")
    await fill(hasty, user, 40, 16_000)
    async with await opened(hasty) as good:
        await good.auth(user, protocol=1)
        found = await sizes(good, user)
        assert found[0] < 100_000
        assert max(found) > 200_000, found
        assert len(found) < 7, found
    line.faults.bytes_per_second = 30_000
    async with await through(line, hasty, user) as bad:
        found = await sizes(bad, user)
        assert max(found) < 150_000, found
        assert len(found) > 6, found


async def test_a_device_may_ask_for_smaller_pages(hasty: Server) -> None:
    user = unique("ann")
    await fill(hasty, user, 40, 2_000)
    async with await opened(hasty) as socket:
        await socket.auth(user, protocol=1)
        pages = await socket.subscribe(bytes=5_000)
        assert max(len(page["changes"]) for page in pages) <= 4
        await socket.send({"type": "subscribe", "appId": "notes", "since": "", "bytes": 5})
        error = await socket.next("error", appId="notes")
        assert error["errors"] == [{"pointer": "/bytes", "detail": "must be at least 1,024"}]
    async with Device(hasty, user, "another") as device:
        page = await device.pull(bytes=5_000)
        assert page["hasMore"]
        assert len(page["serverChanges"]) <= 4
        assert len((await device.drain(bytes=5_000))[0]) == 40
        pushed = await device.push([edit("mine", x=1)], pull=True, bytes=5_000)
        assert pushed["hasMore"]
        assert len(pushed["serverChanges"]) <= 4
        for given in ("0", "1023", "-1", "x", "", "1e9", "9" * 30):
            answer = await device.ask(bytes=given)
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request"), given
            assert answer.json()["errors"][0]["pointer"] == "/bytes"
        assert (await device.send([], pull=True, bytes=1)).status_code == 400
        assert (await device.ask(bytes=10**9)).status_code == 200


async def test_a_stream_goes_on_over_a_line_that_moves(hasty: Server, line: Proxy) -> None:
    user = unique("ann")
    await fill(hasty, user, 12, 16_000)
    line.faults.bytes_per_second = 15_000
    reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
    head = ["GET /sync/notes/stream HTTP/1.1", "Host: localhost", f"Authorization: Bearer {hasty.token(user)}"]
    writer.write("\r\n".join([*head, "X-Sync-Protocol: 1", "", ""]).encode())
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while len({change["id"] for page in found for change in page["changes"]}) < 12:
            line_ = b""
            while not line_.endswith(b"\n"):
                try:
                    line_ += await reader.readuntil(b"\n")
                except asyncio.LimitOverrunError as more:
                    line_ += await reader.readexactly(more.consumed)
            if line_.startswith(b'data: {"table"'):
                found.append(json.loads(line_[6:]))
    writer.close()
    assert max(len(json.dumps(page)) for page in found) < 150_000
