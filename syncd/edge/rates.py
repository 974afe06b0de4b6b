"""How fast each user may ask, send and be sent to: token buckets of one worker, a few for each user who is there."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from syncd.core.errors import TooMany

# How many seconds' worth may come at once. What is moved is known when it has been, so it may be beyond by one request.
BURSTS = {"requests": 10.0, "bytes_in": 60.0, "bytes_out": 60.0}
# A user whose buckets are full is forgotten; so often, in seconds, is looked who that is.
SWEEP_EVERY = 30.0
WORDS = {
    "requests": "asks more often",
    "bytes_in": "sends more bytes",
    "bytes_out": "is sent more bytes",
}


class RateLimits(NamedTuple):
    """Of one user, a second on average; 0: no bound."""

    requests: float = 0
    bytes_in: float = 0
    bytes_out: float = 0


class _UserBuckets:
    """Plain numbers, as each request goes through here."""

    __slots__ = ("asks", "at", "came", "limits", "most", "went")

    def __init__(self, limits: RateLimits, now: float) -> None:
        self.limits, self.at = limits, now
        self.most = [rate * burst for rate, burst in zip(limits, BURSTS.values(), strict=True)]
        self.asks, self.came, self.went = self.most

    def fill(self, now: float) -> None:
        """Adds what came to the buckets since the last time."""
        seconds = now - self.at
        self.at = now
        asks, came, went = self.most
        requests, bytes_in, bytes_out = self.limits
        self.asks += seconds * requests
        if self.asks > asks:
            self.asks = asks
        # A bucket is never further below zero than what it holds.
        self.came = (self.came if self.came > -came else -came) + seconds * bytes_in
        if self.came > came:
            self.came = came
        self.went = (self.went if self.went > -went else -went) + seconds * bytes_out
        if self.went > went:
            self.went = went


class Rates:
    """The buckets. `on_hit`: is told which bound was met. A request is refused while a bucket is empty; bytes
    are taken out when they have been moved."""

    def __init__(self, limits: RateLimits, on_hit: Callable[[str], None] = lambda quota: None) -> None:
        self._limits, self._own, self._on_hit = limits, dict[str, RateLimits](), on_hit
        self._users: dict[str, _UserBuckets] = {}
        self._swept = time.monotonic()

    def override(self, own: Mapping[str, Mapping[str, float]]) -> None:
        """Bounds that some users have in place of the general ones, by user and name."""
        changed = {user: self._limits._replace(**limits) for user, limits in own.items()}
        for user in changed.keys() | self._own.keys():
            if changed.get(user) != self._own.get(user):
                self._users.pop(user, None)
        self._own = changed

    def limits_of(self, user: str) -> RateLimits:
        """What a user may."""
        return self._own.get(user, self._limits)

    def request(self, user: str) -> None:
        """Counts a request. Raises TooMany, which says how long to wait."""
        buckets = self._buckets(user)
        requests, bytes_in, bytes_out = buckets.limits
        if buckets.asks < 1 and requests:
            self._refuse("requests", (1 - buckets.asks) / requests)
        if buckets.came < 0 and bytes_in:
            self._refuse("bytes_in", -buckets.came / bytes_in)
        if buckets.went < 0 and bytes_out:
            self._refuse("bytes_out", -buckets.went / bytes_out)
        buckets.asks -= 1

    def moved(self, user: str, came: int, went: int) -> None:
        """Counts bytes as they travelled, from and to a user who has asked."""
        buckets = self._users.get(user)
        if buckets is not None:
            buckets.came -= came
            buckets.went -= went

    def pause(self, user: str) -> float:
        """How many seconds a user who is being sent pages has to wait for the next one."""
        buckets = self._buckets(user)
        rate = buckets.limits.bytes_out
        return -buckets.went / rate if rate and buckets.went < 0 else 0.0

    def _buckets(self, user: str) -> _UserBuckets:
        now = time.monotonic()
        if now - self._swept > SWEEP_EVERY:
            self._sweep(now)
        found = self._users.get(user)
        if found is None:
            found = self._users[user] = _UserBuckets(self.limits_of(user), now)
        else:
            found.fill(now)
        return found

    def _sweep(self, now: float) -> None:
        self._swept = now
        longest = max(BURSTS.values())
        # After twice the longest burst every bucket is full again, also one that was as far below zero as may be.
        self._users = {user: found for user, found in self._users.items() if now - found.at < 2 * longest}

    def _refuse(self, quota: str, seconds: float) -> None:
        self._on_hit(quota)
        why = TooMany(f"This user {WORDS[quota]} than the quota `{quota}` allows. Wait, then try again.")
        why.retry_after = max(1, math.ceil(seconds))
        raise why
