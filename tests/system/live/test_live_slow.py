"""G14: who does not read costs little, others notice nothing, and afterwards it has everything."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.device import Device
from tests.support.harness import Server
from tests.support.processes import workers_of
from tests.support.wire import unique

pytestmark = pytest.mark.alone

SOAK = bool(os.environ.get("SYNCD_SOAK"))
DEAF, CATCHING_UP = 200, 200 if SOAK else 6
PUSHES, SIZE = 250, 200_000
MIB = 1024 * 1024
HANDSHAKE = (
    b"GET /ws/notes HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Raw:
    """A socket that reads only when it is asked to: no library reads ahead for it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.changes: dict[int, dict[str, Any]] = {}
        self.cursor = ""

    @classmethod
    async def subscribed(cls, server: Server, user: str) -> Raw:
        """Connected, authenticated and current."""
        raw = cls(*await asyncio.open_connection("127.0.0.1", server.port))
        raw._writer.write(HANDSHAKE)
        assert b" 101 " in await raw._reader.readuntil(b"\r\n\r\n")
        raw.say({"type": "auth", "token": server.token(user), "clientId": "deaf", "protocol": 1})
        assert (await raw.hear())["type"] == "auth-ok"
        raw.say({"type": "subscribe", "appId": "notes"})
        # What was pushed just before may still poke a socket that has not subscribed yet.
        while (frame := await raw.hear())["type"] == "sync-available":
            pass
        raw._take(frame)
        return raw

    def _take(self, frame: dict[str, Any]) -> None:
        assert frame["syncedUntil"] > self.cursor
        self.cursor = frame["syncedUntil"]
        self.changes.update({change["seq"]: change for change in frame["changes"]})

    def say(self, message: dict[str, Any]) -> None:
        text = json.dumps(message).encode()
        length = bytes((0x80 | len(text),)) if len(text) < 126 else b"\xfe" + len(text).to_bytes(2)
        self._writer.write(b"\x81" + length + bytes(4) + text)

    async def hear(self) -> dict[str, Any]:
        """The next text frame; pings are answered."""
        while True:
            first, second = await self._reader.readexactly(2)
            size = second & 127
            if size > 125:
                size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8))
            text = await self._reader.readexactly(size)
            if first & 15 == 1:
                found: dict[str, Any] = json.loads(text)
                return found
            assert first & 15 == 9, (first, text)
            self._writer.write(b"\x8a\x80" + bytes(4))

    async def catch_up(self, head: int) -> None:
        """Reads until it has what was last written."""
        while head not in self.changes:
            self._take(await self.hear())

    async def close(self) -> None:
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def worker(server: Server) -> psutil.Process:
    """The process that serves."""
    return workers_of(server)[0]


@pytest.fixture
async def served(folder: Path) -> AsyncIterator[Server]:
    # Who takes nothing for thrice the interval is ended, which is not what is looked at here.
    with Server(folder / "data", settings={"max_connections_per_user": 0, "ping_interval": 120}) as server:
        yield server


@pytest.fixture
async def sockets(served: Server) -> AsyncIterator[Callable[[int], Awaitable[list[Raw]]]]:
    """Opens sockets of bob's, and closes them in the end."""
    opened: list[Raw] = []

    async def more(count: int) -> list[Raw]:
        found = [await Raw.subscribed(served, "bob") for _ in range(count)]
        opened.extend(found)
        return found

    yield more
    for one in opened:
        await one.close()


def same(found: dict[int, dict[str, Any]], wanted: dict[int, dict[str, Any]]) -> bool:
    """Whether the changes are the same by seq. Not shown where they differ: it would be megabytes."""
    return {seq: change["fields"] for seq, change in found.items()} == {
        seq: change["fields"] for seq, change in wanted.items()
    }


async def test_two_hundred_that_never_read_cost_little_and_catch_up(
    served: Server, sockets: Callable[[int], Awaitable[list[Raw]]]
) -> None:
    async with Device(served, unique("ann"), "writer") as ann, Device(served, "bob", "reader") as bob:
        space = await ann.create_space(unique("hall"), bob="reader")
        deaf, (awake,) = await sockets(DEAF), await sockets(1)
        before, peak, waits = worker(served).memory_info().rss, 0, list[float]()
        for n in range(PUSHES):
            began = time.monotonic()
            await ann.push([ann.change(f"c{n}", f"r{n}", "x" * SIZE, space=space)])
            await awake.catch_up(n + 1)
            waits.append(time.monotonic() - began)
            peak = max(peak, worker(served).memory_info().rss - before)
        middle = sorted(waits)[PUSHES // 2]
        print(f"{peak / MIB:.1f} MiB for {DEAF} that do not read, {middle * 1000:.0f} ms for one who does")
        # 50 MB are on their way to each: all that is kept for one is a fraction of a MiB.
        assert peak < DEAF * MIB / 2
        assert middle < 3
        await asyncio.gather(*(one.catch_up(PUSHES) for one in deaf[:CATCHING_UP]))
        wanted = {change["seq"]: change for change in (await bob.drain(history=1))[0]}
        assert len(wanted) == PUSHES
        assert [one for one in (awake, *deaf[:CATCHING_UP]) if not same(one.changes, wanted)] == []


async def test_a_push_of_megabytes_is_not_kept_for_each_who_does_not_read(
    served: Server, sockets: Callable[[int], Awaitable[list[Raw]]]
) -> None:
    async with Device(served, unique("ann"), "writer") as ann:
        space = await ann.create_space(unique("hall"), bob="reader")
        deaf = await sockets(40)
        before = worker(served).memory_info().rss
        await ann.push([ann.change(f"big-{n}", f"big-{n}", "y" * (900 * 1024), space=space) for n in range(8)])
        await ann.push([ann.change("after", "after", 1, space=space)])
        (awake,) = await sockets(1)
        grown = worker(served).memory_info().rss - before
        print(f"{grown / MIB:.0f} MiB for 40 that do not read 7 MiB")
        # One body of 7 MiB, shared by all to whom it is being written, and room for its making.
        assert grown < 40 * 3 * MIB
        await asyncio.gather(*(one.catch_up(9) for one in (awake, *deaf[:4]) if 9 not in one.changes))
        assert all(len(one.changes) == 9 for one in deaf[:4])
