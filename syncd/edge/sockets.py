"""All WebSockets of a process: how they are made, looked at, and ended when it stops."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import structlog

from syncd.core.errors import DatabaseUnavailable
from syncd.core.failures import log_failure
from syncd.edge.addresses import DIRECT, Addresses
from syncd.edge.admission import Admission
from syncd.edge.live_deps import LiveDeps
from syncd.edge.websocket import RESTARTING, Socket

log = structlog.get_logger("syncd.live")

SWEEP_EVERY = 0.5
STAGES, STAGE_SECONDS = 10, 0.05


class Sockets:
    """All WebSockets of a process. Uvicorn calls it to make a protocol for a connection that wants to be one."""

    def __init__(
        self, deps: Callable[[], LiveDeps], admission: Admission, max_frame: int, ping_interval: float = 20.0,
        addresses: Addresses = DIRECT,
    ) -> None:  # fmt: skip
        self.addresses = addresses
        self._deps, self.admission, self.max_frame, self.ping_interval = deps, admission, max_frame, ping_interval
        self.open: set[Any] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self.draining = False

    def __call__(self, config: Any, server_state: Any, app_state: Any, _loop: Any = None) -> Socket:
        self.watch()
        return Socket(self, server_state.connections, self.max_frame)

    def watch(self) -> None:
        """Begins to look at them, for as long as the process serves."""
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def close(self) -> None:
        """Looks at them no longer. Those that are open stay so."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait([self._sweeper])

    def deps(self) -> LiveDeps:
        """Raises DatabaseUnavailable while the server is starting, and when it stops."""
        if self.draining:
            raise DatabaseUnavailable(RESTARTING)
        return self._deps()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            now, wall = time.monotonic(), time.time()
            for one in list(self.open):
                try:
                    one.look(now, wall)
                except Exception as why:
                    # One that cannot be looked at must not keep the others from being looked at, for ever.
                    log_failure(log, "a look failed", why, look="socket")

    async def drain(self, seconds: float) -> None:
        """Closes all with 1012, in stages, so that they do not all come back at once. What is in work is answered."""
        self.draining = True
        waiting = list(self.open)
        random.shuffle(waiting)
        size = max(1, len(waiting) // STAGES)
        restarts: list[asyncio.Task[None]] = []
        for start in range(0, len(waiting), size):
            restarts += [asyncio.create_task(one.restart()) for one in waiting[start : start + size]]
            await asyncio.sleep(STAGE_SECONDS if len(waiting) > size else 0)
        if restarts:
            await asyncio.wait(restarts, timeout=seconds)
        # The sweeper goes on: it ends those who take nothing, their close frame neither.
