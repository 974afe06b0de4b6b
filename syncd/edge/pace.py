"""How slow a line may be. Pure: instants are seconds of a clock that only goes forward."""

from __future__ import annotations

GRACE = 10.0
# Bytes a second on the whole, once the grace is over: less than the worst line that people use, and enough that a
# body of any size ends some day.
SLOWEST = 500
STANDSTILL = 30.0


class Arrival:
    """A body on its way in. Bytes that move keep it alive, however many are still to come."""

    __slots__ = ("_began", "_moved", "size")

    def __init__(self, now: float) -> None:
        self._began = self._moved = now
        self.size = 0

    def came(self, size: int, now: float) -> None:
        """So many bytes more are there."""
        if size:
            self.size += size
            self._moved = now

    def left(self, now: float) -> float:
        """How long the next bytes may take; 0 or less when it has been too slow."""
        return min(self._began + GRACE + self.size / SLOWEST, self._moved + STANDSTILL) - now
