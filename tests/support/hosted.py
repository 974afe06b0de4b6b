"""An ASGI application of a test's, served by Uvicorn's own protocols in the test's event loop, over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import uvicorn

from tests.support.harness import Server


class Quiet(uvicorn.Server):
    """Leaves the signals of the tests alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


class Hosted(Server):
    """Its address, for what the tests ask a server by."""

    def __init__(self, url: str, port: int) -> None:
        self.url, self.port = url, port

    def token(self, user: str, spaces: Any = None, ttl: float = 0) -> str:
        """For a host that takes a user's name for a token."""
        return user


@contextlib.asynccontextmanager
async def hosted(application: Any, path: str = "", **how: Any) -> AsyncIterator[Hosted]:
    """Serves it. The address has `path` at its end."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    options = {"ws": "websockets-sansio", "log_config": None, "access_log": False, "lifespan": "on", **how}
    server = Quiet(uvicorn.Config(application, timeout_graceful_shutdown=10, **options))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            if serving.done():
                raise RuntimeError("the host did not start")
            await asyncio.sleep(0.01)
        yield Hosted(f"http://127.0.0.1:{port}{path}", port)
    finally:
        server.should_exit = True
        await serving
