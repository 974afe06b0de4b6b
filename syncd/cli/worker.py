"""A worker process: the application on the supervisor's socket. Started by the supervisor, not by people."""

from __future__ import annotations

import gc
import logging
import math
import os
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

# Structlog would load it for tracebacks in colour, which is a third of the time that a worker takes to start.
sys.modules["rich"] = None  # type: ignore[assignment]

import structlog
import uvicorn

from syncd.settings import Settings

_TEXT = structlog.dev.ConsoleRenderer(colors=False)


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


def main(listener: int, report: int, board: int, place: int, *, token: str) -> None:
    """Serve on the inherited descriptor `listener` until SIGTERM; write a byte to `report` when ready.

    `board` is a file for the numbers of all workers, `place` this one's; `token` the command that prints a token.
    """
    # Until it serves: a tenth of the start would go to collections that find nothing, as what is loaded stays.
    gc.disable()
    # For the time before Uvicorn takes over, and after: it raises the signal again when it is done. Nothing is in
    # flight then, and an exception raised here would be lost wherever one is swallowed, in a destructor or a callback.
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda number, frame: os._exit(0))
    # Large bodies are read in threads, for whose turn the loop waits each time it goes on. The default is 5 ms.
    sys.setswitchinterval(0.0005)
    settings = Settings.load(os.environ)
    start_logging(settings)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard and hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    from syncd.app import build
    from syncd.edge.metrics import Board

    built = build(settings, Board(board, place), token)
    server = WorkerServer(
        configuration(settings, built.application, built.connections, built.sockets), report, built.drain
    )
    server.run(sockets=[socket.socket(fileno=listener)])


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
        timeout_keep_alive=math.ceil(settings.idle_timeout),
        timeout_graceful_shutdown=math.ceil(settings.shutdown_timeout),
        backlog=2048,
    )


def start_logging(settings: Settings) -> None:
    """To standard error. The application may set up its own; this is for what happens before that."""
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # That the database is away is said by the supervisor and by each refusal; not with a traceback a second as well.
    logging.getLogger("asyncpg.pool").setLevel(logging.CRITICAL)
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.getLogger().level))
    # Standard output is for the ready line; a reader who has gone after it must not hold up the worker.
    renderer = structlog.processors.JSONRenderer() if settings.log_format == "json" else _TEXT
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso"), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLogger().level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]), token=sys.argv[5])
