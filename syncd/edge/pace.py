"""How slow a line may be. Pure: instants are seconds of a clock that only goes forward."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from operator import itemgetter

GRACE = 10.0
# Bytes a second of a body on the whole, once the grace is over: less than the worst line that people use, and enough
# that a body of any size ends some day.
SLOWEST_BODY = 1000
# A device keeps up while fewer bytes than that wait for it in this process; the rest waits in the log.
KEEPS_UP_BELOW = 128 * 1024
# Bytes a second that a page may be on its way down with: who waits for it has no other way.
SLOWEST = 500
STANDSTILL = 30.0
# How long the first mark may be under way.
FIRST_ANSWER = 5.0


class Arrival:
    """A body on its way in. Bytes that move keep it alive, however many are still to come; what came quickly buys no
    more than a standstill, or who sent all but the end would hold it for hours."""

    __slots__ = ("_due", "_slowest", "size")

    def __init__(self, now: float, slowest: int = SLOWEST_BODY) -> None:
        self._due = now + GRACE
        self._slowest = slowest
        self.size = 0

    def came(self, size: int, now: float) -> None:
        """So many bytes more are there."""
        self.size += size
        self._due = max(self._due, min(self._due + size / self._slowest, now + STANDSTILL))

    def left(self, now: float) -> float:
        """How long the next bytes may take; 0 or less when it has been too slow."""
        return self._due - now


# A client that was waited for so many seconds, and moved fewer than so many bytes a second, gives way to a waiting one.
SLOW_FOR, SLOW_BELOW = 30.0, 64 * 1024


class ClientWait:
    """How long a client was waited for, and what it moved meanwhile. `leave` takes its place away; `moving`: how many
    bytes it has moved that `end` was not told of."""

    __slots__ = ("_moved", "_moving", "_since", "_slow_for", "_waited", "leave")

    def __init__(
        self, leave: Callable[[], None], slow_for: float = SLOW_FOR, moving: Callable[[], int] = lambda: 0
    ) -> None:
        self.leave = leave
        self._slow_for, self._moving = slow_for, moving
        self._moved, self._waited = 0, 0.0
        self._since: float | None = None

    def begin(self, now: float) -> None:
        """From here on the client is waited for."""
        self._since = now

    def end(self, size: int, now: float) -> None:
        """It has moved so many bytes."""
        self._waited = self._so_far(now)
        self._since = None
        self._moved += size

    def over(self) -> None:
        """It is not waited for any more."""
        self._slow_for = math.inf

    def _so_far(self, now: float) -> float:
        return self._waited + (0.0 if self._since is None else now - self._since)

    def rate(self, now: float) -> float | None:
        """Bytes a second of one that gives way; None: it does not."""
        waited = self._so_far(now)
        rate = (self._moved + self._moving()) / waited if waited > self._slow_for else SLOW_BELOW
        return rate if rate < SLOW_BELOW else None


def slowest(waits: Iterable[ClientWait], now: float) -> ClientWait | None:
    """The one that gives way, None where nobody has to."""
    slow = [(rate, wait) for wait in waits if (rate := wait.rate(now)) is not None]
    return min(slow, key=itemgetter(0))[1] if slow else None


SMALLEST_PAGE, FIRST_PAGE, LARGEST_PAGE = 8 * 1024, 64 * 1024, 256 * 1024
# A page is under way for between one second and eight: who waits for it sees that something comes.
QUICK, LONG = 1.0, 8.0
LONGEST_MARK = 6


class PageSize:
    """How large the pages of a connection are, by how long the last ones were under way."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = FIRST_PAGE

    def took(self, size: int, seconds: float) -> None:
        """A page of `size` bytes was under way for so long."""
        if seconds > LONG:
            self.bytes = max(self.bytes // 2, SMALLEST_PAGE)
        elif seconds < QUICK and 2 * size >= self.bytes:
            self.bytes = min(2 * self.bytes, LARGEST_PAGE)


class Window:
    """The pages on their way down a connection whose other side says what has arrived: marks go before and after a
    page, and come back when it has been read up to there. However much proxies on the way take at once, that is the
    line's own speed; and no more than two pages are ever under way, so that nothing waits behind more than that."""

    __slots__ = ("_answers", "_marked", "_number", "_under_way", "size")

    def __init__(self) -> None:
        self.size = PageSize()
        self._number = 0
        # By number: bytes, and when the mark before it came back, 0 for not yet.
        self._under_way: dict[int, tuple[int, float]] = {}
        self._answers: bool | None = None
        self._marked = 0.0

    def begin(self, size: int, now: float) -> tuple[bytes, bytes]:
        """The marks of a page of `size` bytes: one to send before it, one after."""
        self._number = number = (self._number + 1) & 0xFFFF
        if self._answers is not False:
            self._under_way[number], self._marked = (size, 0.0), now
        return b"b%d" % number, b"e%d" % number

    def came(self, mark: bytes, now: float) -> None:
        """A mark came back, or what is none. Pages before it have arrived too: one answer may stand for several."""
        if mark[:1] not in (b"b", b"e") or not mark[1:].isdigit() or len(mark) > LONGEST_MARK:
            return
        self._answers, number = True, int(mark[1:])
        if number not in self._under_way:
            return
        if mark[:1] == b"b":
            self._under_way[number] = (self._under_way[number][0], now)
            return
        for earlier in list(self._under_way):
            size, began = self._under_way.pop(earlier)
            self.size.took(size, now - (began or now))
            if earlier == number:
                return

    @property
    def waits(self) -> bool:
        """Whether a page that was sent is not known to have arrived, though the other side would say so."""
        return bool(self._answers and self._under_way)

    @property
    def seconds(self) -> float:
        """How long what is not known to have arrived may be under way, on the slowest line."""
        return sum(size for size, _ in self._under_way.values()) / SLOWEST

    def patience(self, now: float) -> float:
        """How long the next page waits at most for one of those under way, in seconds; 0: not at all."""
        if len(self._under_way) < 2:
            return 0.0
        return max(0.0, self._marked + (STANDSTILL if self._answers else FIRST_ANSWER) - now)

    def give_up(self) -> None:
        """Nothing came back in time. One that never answered does not: its pages go as they are taken, in one size."""
        self._under_way.clear()
        self._answers = self._answers or False
