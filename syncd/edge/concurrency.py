"""How many requests a worker has in work at a time. Beyond it who comes is told so at once, which costs little; to take
all would make everybody wait for longer and longer, until nobody is answered in time.

The limit follows the time that requests wait for the event loop, and in groups for the database and in it: where it
has too much to do at a time, its groups take longer, while none waits. Of each period only the shortest time counts:
where that is long, the queue was never empty.
"""

from __future__ import annotations

import asyncio
import math
import time

import structlog

from syncd.core.errors import Overloaded, TooMany

log = structlog.get_logger("syncd.load")

# Seconds of a period, and by how much longer everybody may wait in one than with few in work.
PERIOD, TARGET = 0.1, 0.02
# What is usual with few in work is learned in some ten periods, and in a hundred where as many are as always may be. It
# is no more than so much: others may use the processors, too.
USUAL, USUAL_OF_LEAST, MOST_USUAL = 0.1, 0.01, 0.1
# A worker that begins, perhaps in the midst of traffic, takes the shortest of so many periods for usual: no queue is
# there yet.
FIRST_PERIODS = 20
# Twice so often the loop is asked how late it is: the shortest of a period counts.
BEATS = 4
# It never falls below that, nor does so few waiting say anything; so many a user always has while any are free.
LEAST, SHARE = 48, 8
# In a period: growth while all of it is used, and while nothing is amiss, slow since what it does shows only later; at
# most it is cut to a half.
GROWTH, RECOVERY, MOST_CUT = 1.05, 1.02, 0.5
# While it is below its most, and half of it is taken: who has used so many times what users do on average, and at least
# so many seconds, waits. What was used is halved in so many seconds; a request in work counts as one second.
TIMES_OF_OTHERS, USED, HALVED_IN = 4.0, 2.0, 5.0
FORGET_EVERY, FORGOTTEN = 1.0, 0.01
# Seconds after which those who are refused may come again, in turn, so that they do not come together.
SPREAD = 5
TELL_EVERY = 5.0


class ConcurrencyLimit:
    """The limit of one worker. `most`: what it is at first, and never more. `coming`: connections with a request whose
    turn is now, and that nobody has looked at; each counts once, however often it is put in.

    A user's are refused while others would have fewer places left than that user has, and in times of need those of who
    has had requests in work for much longer than others lately.
    """

    def __init__(self, most: int = 512) -> None:
        self.most = most
        self.limit = float(most)
        self.requests = self.refused = 0
        self.coming: set[object] = set()
        self._users: dict[str, int] = {}
        self._used, self._used_by_all, self._looks = dict[str, float](), 0.0, 0
        self._peak = self._pause = 0
        self._shortest, self._usual, self._first = math.inf, MOST_USUAL, FIRST_PERIODS
        self._told, self._told_at = 0, 0.0

    @property
    def counted(self) -> int:
        """All that counts: requests in work, and those that are coming."""
        return self.requests + len(self.coming)

    @property
    def full(self) -> bool:
        """Whether who comes now would be refused."""
        return self.counted >= self.limit

    def refuse(self) -> Overloaded:
        """Counts one that is refused; what it is told."""
        self._peak = max(self._peak, int(self.limit))
        self.refused += 1
        return Overloaded(retry_after=1 + self.refused % SPREAD)

    def enter(self, user: str) -> None:
        """One more is in work, until `leave`. Raises Overloaded, TooMany."""
        free, taken = int(self.limit) - self.requests, self._users.get(user, 0)
        if free <= 0:
            raise self.refuse()
        if taken >= SHARE and taken >= free:
            raise TooMany("Too many requests of this user are in work.")
        if self.limit < self.most and free < self.limit / 2 and self._is_greedy(user, taken):
            raise TooMany("The server has more to do than it can, and most of it for this user.")
        self._users[user] = taken + 1
        self.requests += 1
        if self.requests > self._peak:
            self._peak = self.requests

    def _is_greedy(self, user: str, taken: int) -> bool:
        used = self._used.get(user, 0.0) + taken
        return used > USED and used * len(self._used) > TIMES_OF_OTHERS * self._used_by_all

    def leave(self, user: str, seconds: float = 0.0) -> None:
        """It is answered, or waits for its client, and was in work for so many seconds."""
        self._used[user] = self._used.get(user, 0.0) + seconds
        self._used_by_all += seconds
        self.requests -= 1
        left = self._users[user] - 1
        if left:
            self._users[user] = left
        else:
            del self._users[user]

    def waited(self, seconds: float) -> None:
        """A call was so long on its way through the database, its turn included."""
        if seconds < self._shortest:
            self._shortest = seconds

    def look(self, late: float) -> None:
        """At the end of a period in which the loop was late by so many seconds, at least."""
        self._looks += 1
        if self._looks * PERIOD >= FORGET_EVERY:
            self._forget()
        delay = late + (self._shortest if self._shortest < math.inf else 0.0)
        peak, self._peak, self._shortest = self._peak, self.requests, math.inf
        if self._first and peak:
            self._first -= 1
            self._usual = min(self._usual, delay)
        elif peak <= LEAST:
            learned = USUAL if peak <= LEAST // 2 else USUAL_OF_LEAST
            self._usual += (min(delay, MOST_USUAL) - self._usual) * learned
        target = TARGET + self._usual
        if delay <= target:
            self._pause = 0
            growth = GROWTH if peak >= int(self.limit) else RECOVERY
            self.limit = min(self.most, self.limit * growth)
        elif self._pause:
            self._pause -= 1
        elif peak > LEAST:
            self.limit = max(LEAST, min(self.limit, peak) * max(MOST_CUT, target / delay))
            # What waits now came before the cut: only after it can be seen what the cut has done.
            self._pause = int(delay / PERIOD)

    def _forget(self) -> None:
        left, self._looks = 0.5 ** (FORGET_EVERY / HALVED_IN), 0
        self._used = {user: used * left for user, used in self._used.items() if used > FORGOTTEN}
        self._used_by_all = sum(self._used.values())

    async def watch(self) -> None:
        """Looks for as long as the worker serves."""
        pause = PERIOD / BEATS
        while True:
            late, end = math.inf, time.monotonic() + PERIOD
            while (began := time.monotonic()) < end:
                await asyncio.sleep(pause)
                late = min(late, time.monotonic() - began - pause)
            self.look(max(0.0, late))
            self._tell(time.monotonic())

    def _tell(self, now: float) -> None:
        if self.refused > self._told and now - self._told_at > TELL_EVERY:
            log.warning("overloaded", refused=self.refused - self._told, limit=int(self.limit))
            self._told, self._told_at = self.refused, now


class Place:
    """A request's, which is left while its client is waited for."""

    __slots__ = ("_limit", "_since", "_user")

    def __init__(self, limit: ConcurrencyLimit, user: str) -> None:
        self._limit, self._user, self._since = limit, user, 0.0

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, *_: object) -> None:
        self.leave()

    def enter(self) -> None:
        """Raises Overloaded, TooMany."""
        if not self._since:
            self._limit.enter(self._user)
            self._since = time.monotonic()

    def leave(self) -> None:
        """Also where it was left before."""
        if self._since:
            self._limit.leave(self._user, time.monotonic() - self._since)
            self._since = 0.0
