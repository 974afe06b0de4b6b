"""What a promise in seconds cannot be held to: the time in which the machine served somebody else."""

from __future__ import annotations

import asyncio
import time

TICK = 0.05


class Stalls:
    """How long this process was kept waiting, as a task that `watch`es sees it; other processes are taken to have
    waited as long, one after the other, so that it counts twice."""

    def __init__(self) -> None:
        self._late: list[tuple[float, float]] = []

    async def watch(self) -> None:
        """Until it is cancelled."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(TICK)
            self.note(began)

    def note(self, began: float) -> None:
        """One who wanted to sleep for no more than a tick is back."""
        now = time.monotonic()
        if now - began > 2 * TICK:
            self._late.append((now, 2 * (now - began - TICK)))

    def between(self, start: float, end: float) -> float:
        """Seconds of it."""
        return sum(late for at, late in self._late if start <= at <= end + 2 * TICK)
