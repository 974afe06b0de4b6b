"""The size of one request: as much as the line carries in a few seconds. Pure: times are arguments."""

from __future__ import annotations

from dataclasses import dataclass

SLOWEST = 1024.0  # bytes a second: a line that moves at all
_GROWTH = 4


class Pace:
    """A size that begins small, grows with the speed that is measured, and is halved by each failure.

    `goal`: how many seconds an exchange of that size may take. The size is between 1 and `most`, of whatever it is.
    """

    def __init__(self, first: int, most: int, goal: float) -> None:
        self._most, self._goal = max(1, most), goal
        self._speed: float | None = None
        self.size = min(first, self._most)

    def took(self, amount: int, seconds: float) -> None:
        """So much went through in so long a time."""
        self._speed = amount / max(seconds, 0.001)
        if seconds > self._goal:
            self.size = max(1, int(self.size * self._goal / seconds))
        elif amount >= self.size // 2:
            fits = int(self._speed * self._goal)
            self.size = min(self._most, max(self.size, min(self.size * _GROWTH, fits)))

    def failed(self) -> None:
        """It did not go through."""
        self.size = max(1, self.size // 2)

    def allowance(self, amount: int) -> float:
        """How long so many bytes may be on their way before silence means anything."""
        return amount / max(SLOWEST, (self._speed or 0.0) / _GROWTH)


@dataclass(frozen=True, slots=True)
class Paces:
    """Those of a replica: bytes of a push over HTTP and over a socket, changes of a pull."""

    push: Pace
    socket: Pace
    pull: Pace
