"""Two buses as one: hints go out on the first, and come in on both.

Where NATS carries the workers' hints, what an application's backend writes is still told by the database, at commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from syncd.bus.hints import Bus, Hint, State


class ListeningToo:
    """`main`, and `also`, on which this process says nothing; whether the bus is up is said of `main`."""

    def __init__(self, main: Bus, also: Bus) -> None:
        self._main, self._also = main, also

    @property
    def told(self) -> int:
        return self._main.told

    @property
    def heard(self) -> int:
        return self._main.heard + self._also.heard

    @property
    def sent(self) -> int:
        return self._main.sent

    @property
    def ignored(self) -> int:
        return self._main.ignored + self._also.ignored

    @property
    def reconnects(self) -> int:
        return self._main.reconnects + self._also.reconnects

    @property
    def dropped(self) -> int:
        return self._main.dropped

    @property
    def state(self) -> State:
        return self._main.state

    async def open(self, receive: Callable[[Hint], None]) -> None:
        """Connect both, each in the background if it takes longer than a second."""
        await asyncio.gather(self._main.open(receive), self._also.open(receive))

    def publish(self, hint: Hint) -> None:
        """Tell everybody, on the first."""
        self._main.publish(hint)

    async def close(self) -> None:
        """End both."""
        await asyncio.gather(self._main.close(), self._also.close())
