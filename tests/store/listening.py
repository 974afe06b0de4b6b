"""What the tests of the bus share: a worker at it, and patience."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from syncd.bus.hints import Hint, key
from syncd.bus.link import HeartbeatBus
from tests.support.stalls import Stalls

APP = key("app")
# The most that losing the bus may cost (G13), in seconds.
PROMISED = 5.0


def feed(space: str, seq: int) -> Hint:
    """The feed of one app in a space has got to `seq`."""
    return Hint("f", key(space), APP, seq)


async def until(condition: Callable[[], object], within: float = 30.0) -> None:
    """Waits until the condition holds; looks often enough not to miss a moment of it."""
    began = last = time.monotonic()
    stalls = Stalls()
    while not condition():
        assert last - began - stalls.between(began, last) < within, "it never came to be"
        await asyncio.sleep(0.002)
        stalls.note(last)
        last = time.monotonic()


class Listener:
    """A worker's end of a bus: keeps what it hears. With `wait` it is up before it is used."""

    def __init__(self, bus: HeartbeatBus, *, wait: bool = True) -> None:
        self.bus, self.wait = bus, wait
        self.hints: list[Hint] = []

    def publish(self, *hints: Hint) -> None:
        """Tell them all."""
        for hint in hints:
            self.bus.publish(hint)

    async def hears(self, *hints: Hint, within: float = 30.0) -> None:
        """Wait until they have all arrived."""
        await until(lambda: set(hints) <= set(self.hints), within)

    async def is_up(self, within: float = 30.0) -> None:
        await until(lambda: self.bus.state == "up", within)

    async def goes_down_and_up(self, within: float) -> float:
        """Wait for both; the seconds that took."""
        began = time.monotonic()
        await until(lambda: self.bus.state == "down", within)
        await self.is_up(within - (time.monotonic() - began))
        return time.monotonic() - began

    async def __aenter__(self) -> Self:
        await self.bus.open(self.hints.append)
        if self.wait:
            await self.is_up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.bus.close()
