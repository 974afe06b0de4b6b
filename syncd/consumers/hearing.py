"""What a consumer's process hears of feeds that have grown: hints, by which it looks before its time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from syncd.bus.hints import Hint, key
from syncd.store.consumers import WaitingFeed

# Feeds whose names are remembered: a few tens of megabytes.
MOST_KNOWN = 200_000


class Hearing:
    """Collects hints. A hint names a feed by keys: one that was met before is known by them, of any other it is only
    known that there is one."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[int, int]] = {}
        self._hinted: dict[tuple[int, int], None] = {}
        self.stranger = False
        self._woken = asyncio.Event()

    def learn(self, feeds: Iterable[WaitingFeed]) -> None:
        """Remembers which feeds these are."""
        if len(self._known) > MOST_KNOWN:
            self._known.clear()
        for feed in feeds:
            self._known[key(feed.space_id), key(feed.app)] = feed.key

    def hear(self, hint: Hint) -> None:
        """A hint came."""
        if hint.kind != "f":
            return
        feed = self._known.get((hint.space, hint.app))
        if feed is None:
            self.stranger = True
        else:
            self._hinted[feed] = None
        self._woken.set()

    def take(self, most: int) -> list[tuple[int, int]]:
        """Some of the feeds that were hinted at, by their numbers."""
        taken = list(self._hinted)[:most]
        for feed in taken:
            del self._hinted[feed]
        return taken

    def wake(self) -> None:
        """Ends a wait."""
        self._woken.set()

    async def wait(self, seconds: float) -> None:
        """Returns at the next hint, or after so long."""
        self._woken.clear()
        if self._hinted:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass
