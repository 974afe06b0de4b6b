"""Names that nothing refers to are removed: such as were made before only what is written made any, or whose last
changes were forgotten.

A writer finds a name's number first, and writes it later. So a name is marked, and after that nobody finds it
without taking the mark back; those who found it before are waited for; and then it counts that nothing refers to it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from syncd.store.compaction import Compactor

# Names that are looked at in one run; rows of the log or the state a part; names marked or removed at once.
MOST, ROWS, AT_ONCE = 1_000_000, 20_000, 500
# Seconds to wait for those who may have found a name before. What is marked then stays so until the next run.
PATIENCE = 60.0


class Names:
    """One run. `rest`: how long to pause after each part, as a share of what it took; `over`: whether to stop."""

    def __init__(self, compactor: Compactor, rest: float, over: Callable[[], bool]) -> None:
        self._compactor, self._rest, self._over = compactor, rest, over

    async def remove(self) -> int:
        """Removes them; how many. Raises LeaseLost."""
        marked = await self._unused(await self._compactor.names_idle(MOST))
        for part in _parts(marked):
            await self._compactor.names_leave(part, True)
        if not marked or not await self._readers_gone():
            return 0
        unused = await self._unused(marked & set(await self._compactor.names_idle(MOST)))
        removed = 0
        for part in _parts(unused):
            removed += await self._compactor.names_remove(part)
        for part in _parts(marked - unused):
            await self._compactor.names_leave(part, False)
        return removed

    async def _unused(self, names: Iterable[int]) -> set[int]:
        """Those of them that neither the log nor the state has; none where it was to stop."""
        left = set(names)
        for state in (False, True):
            after = [0, 0, 0]
            while left and after:
                begun = time.monotonic()
                after, used = await self._compactor.names_used(state, after, ROWS)
                left.difference_update(used or ())
                await asyncio.sleep((time.monotonic() - begun) * self._rest)
                if self._over():
                    return set()
        return left

    async def _readers_gone(self) -> bool:
        readers, due = await self._compactor.names_readers(), time.monotonic() + PATIENCE
        while readers:
            if self._over() or time.monotonic() > due:
                return False
            await asyncio.sleep(0.05)
            readers = await self._compactor.names_readers(readers)
        return True


def _parts(names: set[int]) -> list[list[int]]:
    ordered = sorted(names)
    return [ordered[place : place + AT_ONCE] for place in range(0, len(ordered), AT_ONCE)]
