"""Tables with indexes for reports are filled behind the pushes: again and again, some records at a time."""

from __future__ import annotations

import asyncio

from syncd.core.errors import SyncdError
from syncd.store.reports import Projections

# Records that a step writes at most, and seconds between two looks: with projections, and without.
# A look goes through all feeds, so the next one waits for so many times as long as it took.
MOST_ROWS = 1000
EVERY, EVERY_WITHOUT, SHARE = 0.25, 5.0, 50


class ProjectionRound:
    """A step, again and again. One process does it; where several do, each feed is one's at a time."""

    def __init__(self, projections: Projections) -> None:
        self._projections = projections
        self._rows = MOST_ROWS

    async def __call__(self) -> None:
        """Does a step, and waits until the next one. Raises Busy, DatabaseUnavailable."""
        begun = asyncio.get_running_loop().time()
        try:
            done = await self._projections.fill(self._rows)
        except SyncdError:
            # Large records take long: the next step is a smaller one, so that it ends within a statement's time.
            self._rows = max(1, self._rows // 2)
            raise
        self._rows = min(MOST_ROWS, 2 * self._rows)
        if done:
            return
        took = asyncio.get_running_loop().time() - begun
        await asyncio.sleep(EVERY_WITHOUT if done is None else max(EVERY, SHARE * took))
