"""Tables with indexes for reports are filled behind the pushes: again and again, some records at a time."""

from __future__ import annotations

import asyncio

from syncd.core.errors import SyncdError
from syncd.store.reports import Projections, ProjectionStep

# Records that a step writes at most, and seconds between two looks: with projections, and without.
# A look goes through all feeds, so the next one waits for so many times as long as it took, unless a step left
# something to do. One that failed with a single record is not helped by a smaller step: the next waits, for so long
# at most.
MOST_ROWS = 1000
EVERY, EVERY_WITHOUT, SHARE, MOST_PAUSE = 0.25, 5.0, 50, 600.0


class ProjectionRound:
    """A step, again and again. One process does it; where several do, each feed is one's at a time."""

    def __init__(self, projections: Projections) -> None:
        self._projections = projections
        self._rows = MOST_ROWS

    async def __call__(self) -> None:
        """Does a step, and waits until the next one. Raises Busy, DatabaseUnavailable."""
        begun = asyncio.get_running_loop().time()
        try:
            step = await self._projections.step(self._rows)
        except SyncdError:
            # Large records take long: the next step is a smaller one, so that it ends within a statement's time.
            if self._rows == 1:
                await asyncio.sleep(min(MOST_PAUSE, SHARE * (asyncio.get_running_loop().time() - begun)))
            self._rows = max(1, self._rows // 4)
            raise
        self._rows = min(MOST_ROWS, 2 * self._rows)
        await asyncio.sleep(pause(step))


def pause(step: ProjectionStep) -> float:
    """Seconds from a step to the next one."""
    if step.feeds is None:
        return EVERY_WITHOUT
    return 0.0 if step.more else max(EVERY, SHARE * (step.looked or 0.0))
