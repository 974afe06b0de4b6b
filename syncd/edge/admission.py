"""Which connections may be opened, and how fast a live one may talk. Counts are of one worker process."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sized
from typing import Protocol
from urllib.parse import urlsplit

from syncd.core.errors import Busy, Forbidden, SyncdError, TooMany

# Of a user's subscriptions, each counted once for every space that the user is in: so many at a time but for a few that
# anybody may have, each of some 600 bytes; and so many begun or ended a second, each of some 10 µs.
MOST_PLACES, LEAST_SUBSCRIPTIONS = 100_000, 8
PLACES_A_SECOND, PLACES_SECONDS = 4000.0, 10.0
# Where one more would wait for longer, it is refused: what waits behind it, a push or a new token, is waited for too.
LONGEST_TURN = 10.0


class TokenBucket:
    """A token bucket: `rate` a second on average, `rate * seconds` at once."""

    __slots__ = ("_at", "_left", "_most", "_rate")

    def __init__(self, rate: float, seconds: float = 4.0) -> None:
        self._rate, self._most = rate, rate * seconds
        self._left, self._at = self._most, time.monotonic()

    def _fill(self) -> None:
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now

    def take(self) -> bool:
        """Whether one more is within bounds."""
        self._fill()
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def spend(self, count: int) -> float:
        """Takes so many, as far as there are any or not. In how many seconds they will be there."""
        self._fill()
        self._left -= count
        return max(0.0, -self._left / self._rate)


class UserAllowance(TokenBucket):
    """What the live connections of one user share: frames, and subscriptions, each of which is a place in every space
    that the user is in. `listening`: the connections that may subscribe."""

    __slots__ = ("_begun", "connections", "listening")

    def __init__(self, frames: float) -> None:
        super().__init__(frames)
        self.connections = 0
        self.listening: set[Subscriber] = set()
        self._begun = TokenBucket(PLACES_A_SECOND, PLACES_SECONDS)

    def check(self, spaces: int) -> None:
        """Whether there may be one more subscription. Raises TooMany."""
        subscriptions = 1 + sum(len(one.subscriptions) for one in self.listening)
        if subscriptions > LEAST_SUBSCRIPTIONS and subscriptions * spaces > MOST_PLACES:
            raise TooMany("The sockets and streams of this user listen to too many feeds.")

    def begin(self, spaces: int) -> float:
        """How many seconds a subscription has to wait before it begins. Raises TooMany where too much waits already."""
        before = self._begun.spend(0)
        if before > LONGEST_TURN:
            raise TooMany(
                "Too many subscriptions of this user wait for their turn.", retry_after=math.ceil(before - LONGEST_TURN)
            )
        return self._begun.spend(spaces)

    def end(self, spaces: int) -> None:
        """A subscription ends: at once, but the next that begins waits for it."""
        self._begun.spend(spaces)


class Subscriber(Protocol):
    """A connection, by what it listens to."""

    @property
    def subscriptions(self) -> Sized:
        """What it is subscribed to."""


class Admission:
    """The bounds of connections. 0 means none; `origins` are the web origins whose pages may connect besides the
    server's own; `most`: connections of the process."""

    def __init__(
        self, *, per_user: int, per_address: int, frames: float, origins: Collection[str], most: int = 0
    ) -> None:
        self._per_user, self._per_address, self._frames, self._most = per_user, per_address, frames, most
        self._origins = frozenset(origins)
        self._addresses: dict[str, int] = {}
        self._users: dict[str, UserAllowance] = {}
        self._count = 0

    def check_origin(self, origin: str | None, host: str) -> None:
        """Raises Forbidden for a page that is not of an allowed origin. Programs send no origin."""
        if origin is None or "*" in self._origins or origin in self._origins:
            return
        try:
            own = urlsplit(origin).netloc.lower() == host.lower()
        except ValueError:
            own = False
        if not own:
            raise Forbidden(
                "Pages of this origin may not connect; the operator allows origins by SYNCD_ALLOWED_ORIGINS."
            )

    def arrive(self, address: str) -> SyncdError | None:
        """Counts a connection of an address, from the moment it was accepted until `depart`. Returns why it may not
        stay; it is counted all the same, because it has a descriptor until it is closed. The address is empty where
        only all together are bounded: a proxy's."""
        self._count += 1
        refused = self.join(address)
        if self._most and self._count > self._most:
            return Busy("The server has as many connections as it can.")
        return refused

    def depart(self, address: str) -> None:
        """It is closed."""
        self._count -= 1
        self.part(address)

    def join(self, address: str) -> SyncdError | None:
        """Counts a live connection that came through a proxy, for its client's address, until `part`. Returns why it
        may not stay; it is counted all the same."""
        if not address:
            return None
        count = self._addresses[address] = self._addresses.get(address, 0) + 1
        if self._per_address and count > self._per_address:
            return TooMany("Too many connections from this address.")
        return None

    def part(self, address: str) -> None:
        """It is over."""
        count = self._addresses.get(address, 1) - 1
        if count:
            self._addresses[address] = count
        else:
            self._addresses.pop(address, None)

    def admit(self, user: str) -> UserAllowance:
        """Counts a connection of a user; what it may send. Raises TooMany."""
        bucket = self._users.get(user)
        if bucket is None:
            bucket = self._users[user] = UserAllowance(self._frames or 1e9)
        if self._per_user and bucket.connections >= self._per_user:
            raise TooMany("Too many connections of this user.")
        bucket.connections += 1
        return bucket

    def connections_of(self, user: str) -> int:
        """How many live ones a user has."""
        found = self._users.get(user)
        return 0 if found is None else found.connections

    def dismiss(self, user: str) -> None:
        """It is gone."""
        bucket = self._users.get(user)
        if bucket is not None:
            bucket.connections -= 1
            if not bucket.connections:
                del self._users[user]


def token_in_query(query: str) -> SyncdError | None:
    """Every proxy on the way writes addresses down: a token in one is refused, so that nobody gets used to it."""
    names = {part.partition("=")[0].lower() for part in query.split("&")}
    if names & {"token", "access_token", "authorization", "jwt"}:
        return Forbidden(code="token_in_address")
    return None
