"""A worker: the application on the supervisor's socket. The fork server runs it, in a process of its own."""

from __future__ import annotations

import gc
import math
import os
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from syncd.app import build
from syncd.cli.signals import HEARD
from syncd.edge.metrics import Board
from syncd.settings import Settings


class WorkerServer(uvicorn.Server):
    """Uvicorn that says when it serves, and ends live connections in stages before it stops."""

    def __init__(self, config: uvicorn.Config, report: int, drain: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._report, self._drain = report, drain

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Live connections first: Uvicorn would close all of them at once, and cut what they are at."""
        for server in self.servers:
            server.close()
        try:
            await self._drain()
        finally:
            await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell the supervisor."""
        await super().startup(sockets)
        # What is there now stays: no collection needs to look at it again.
        gc.collect()
        gc.freeze()
        gc.enable()
        os.write(self._report, b"1")
        os.close(self._report)


def serve(settings: Settings, listener: socket.socket, report: int, board: Board, token: str) -> None:
    """Serve on `listener` until SIGTERM; write a byte to `report` when ready. `board` is for the numbers, `token` the
    command that prints a token.

    SIGTERM and SIGINT are blocked when this is called.
    """
    # For the time before Uvicorn takes over, and after: it raises the signal again when it is done. Nothing is in
    # flight then, and an exception raised here would be lost wherever one is swallowed, in a destructor or a callback.
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda number, frame: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
    # Large bodies are read in threads, for whose turn the loop waits each time it goes on. The default is 5 ms.
    sys.setswitchinterval(0.0005)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard and hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    built = build(settings, board, token)
    server = WorkerServer(
        configuration(settings, built.application, built.connections, built.sockets), report, built.drain
    )
    server.run(sockets=[listener])


def configuration(settings: Settings, app: Any, connections: Any, sockets: Any = "none") -> uvicorn.Config:
    """How Uvicorn is set up, and why. `connections` makes the protocol of one, `sockets` that of a WebSocket."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=connections,
        ws=sockets,
        access_log=False,
        log_config=None,
        server_header=False,
        # Else whoever comes over the loopback, or through a proxy there, says in a header which address is counted.
        proxy_headers=False,
        timeout_keep_alive=math.ceil(settings.idle_timeout),
        timeout_graceful_shutdown=math.ceil(settings.shutdown_timeout),
        backlog=2048,
    )
