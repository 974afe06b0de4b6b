"""The measure of the live half: the `websockets` library's own server and `broadcast`, on uvloop.

python -m bench.broadcaster    prints its port; what is sent to /say is broadcast to everybody else
"""

from __future__ import annotations

import asyncio
import contextlib

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

LISTENERS: set[ServerConnection] = set()


async def _talk(connection: ServerConnection) -> None:
    assert connection.request is not None
    if connection.request.path == "/say":
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                broadcast(LISTENERS, message)
        return
    LISTENERS.add(connection)
    try:
        await connection.wait_closed()
    finally:
        LISTENERS.discard(connection)


async def main() -> None:
    """Serves on a free port until it is stopped. Nobody offers compression; it is off to be sure."""
    async with serve(_talk, "127.0.0.1", 0, compression=None, backlog=2048) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()


if __name__ == "__main__":
    uvloop.run(main())
