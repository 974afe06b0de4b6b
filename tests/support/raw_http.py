"""HTTP that is written by hand, byte by byte."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from syncd.core.errors import Malformed
from syncd.edge.admission import Admission
from syncd.edge.connection import Bounds, Connections, HttpConnection
from tests.support.harness import Server


class Raw:
    """A connection that is written to by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def say(self, *lines: str) -> None:
        self.writer.write("\r\n".join([*lines, "", ""]).encode())

    async def answer(self) -> tuple[int, dict[str, Any]]:
        """Status and JSON of the answer."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 20)
        found = re.search(rb"content-length: (\d+)", head.lower())
        assert found is not None
        body = await self.reader.readexactly(int(found[1]))
        return int(head.split()[1]), json.loads(body)

    async def ends(self) -> bytes:
        """What came until the connection was ended, in order or not."""
        with suppress(ConnectionError):
            return await asyncio.wait_for(self.reader.read(), 20)
        return b""

    async def pour(self, data: bytes, most: int) -> int:
        """Sends the same again and again until there is an answer; how many bytes that took."""
        sent, answered = 0, asyncio.ensure_future(self.reader.read(1))
        with suppress(ConnectionError):
            while sent < most and not answered.done():
                self.writer.write(data)
                await self.writer.drain()
                sent += len(data)
                await asyncio.sleep(0)
        with suppress(ConnectionError):
            await asyncio.wait_for(answered, 20)
        return sent


@asynccontextmanager
async def raw_of(server: Server, address: str = "127.0.0.1") -> AsyncIterator[Raw]:
    """One that was opened."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=(address, 0))
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


async def asked(server: Server, *lines: str, path: str = "/health") -> tuple[int, dict[str, Any]]:
    async with raw_of(server) as raw:
        raw.say(f"GET {path} HTTP/1.1", "Host: localhost", *lines)
        return await raw.answer()


@asynccontextmanager
async def refused() -> AsyncIterator[HttpConnection]:
    """A connection whose head was refused a moment ago."""
    ours, theirs = socket.socketpair()
    connections = Connections(Admission(per_user=0, per_address=0, frames=0, origins=()), Bounds())
    config = Config(app=lambda scope: None, interface="asgi3", lifespan="off", log_config=None)
    config.load()
    with theirs:
        made = asyncio.get_running_loop().connect_accepted_socket(lambda: connections(config, ServerState(), {}), ours)
        connection = (await made)[1]
        connection.refuse(Malformed())
        yield connection
        connection.transport.abort()
        await asyncio.sleep(0)
