"""Whether a device is still at the other end of its line. Pure: instants are seconds, and only go forward."""

from __future__ import annotations

# In intervals between pings (the setting `ping_interval`): how long a device has to answer one that it has taken; and
# how long it may take nothing at all of what waits for it, or a ping may be on its way to it.
ANSWER_WITHIN, STALLED_AFTER = 1, 3


class Heartbeat:
    """Says when a silent device is asked by a ping, and when it is taken for gone. What moves is alive: a ping lies
    behind a page, and its answer behind a push, that may be long under way."""

    __slots__ = ("_asked", "_asked_until", "_behind", "_moved", "_taken", "heard")

    def __init__(self, now: float) -> None:
        self.heard = self._moved = now
        # When the ping went that is not answered, 0 for none, and the bytes that were given until its end.
        self._asked = 0.0
        self._asked_until = 0
        # Bytes that the device had taken at the last look, and whether something lay before the ping.
        self._taken = 0
        self._behind = False

    @property
    def asked(self) -> bool:
        """Whether a ping is not answered."""
        return self._asked > 0

    def came(self, now: float) -> None:
        """Something came from the device."""
        self.heard, self._asked = now, 0.0

    def filled(self, now: float) -> None:
        """The line takes no more for now."""
        self._moved = now

    def ask(self, now: float, taken: int, until: int, behind: bool) -> None:
        """A ping goes out. `taken`: bytes that the device had taken before it; `until`: that were given, with it;
        `behind`: some of them are on their way."""
        self._asked = self._moved = now
        self._taken, self._asked_until, self._behind = taken, until, behind

    def gone(self, now: float, interval: float, taken: int, full: bool, on_its_way: float) -> bool:
        """Whether it took nothing for too long, or did not answer. What is sent after a ping delays no answer to it.

        `interval`: seconds between pings; `taken`: bytes that it has taken by now; `full`: more waits than the line
        takes; `on_its_way`: how many seconds a page is under way.
        """
        if taken > self._taken:
            self._taken, self._moved = taken, now
        if self._asked and taken < self._asked_until:
            self._asked = now  # it is still here
        if full or self._behind:
            if now - self._moved > STALLED_AFTER * interval:
                return True
        elif now - max(self._asked, self._moved) > ANSWER_WITHIN * interval:
            return True
        return self.asked and now - self._asked > STALLED_AFTER * interval + on_its_way
