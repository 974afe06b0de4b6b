"""What the proxy of `syncd.testing` does to a connection. An echo stands for the server."""

from __future__ import annotations

import asyncio

import pytest

from syncd.testing.proxy import Faults, Proxy


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)
    writer.close()


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("after", [Faults(), Faults(delay=0.01)], ids=["healed", "another fault"])
async def test_a_connection_that_has_lost_something_carries_nothing_after_it(way: str, after: Faults) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]) as proxy, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"
        proxy.faults = Faults(blackhole={way})
        writer.write(b"lost")
        (link,) = proxy.links
        while not link.lost:  # noqa: ASYNC110 (the proxy tells nobody)
            await asyncio.sleep(0.01)
        proxy.faults = after
        writer.write(b"after")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)) as why:
            await reader.readexactly(1)
        assert getattr(why.value, "partial", b"") == b""
        writer.close()
