"""Which connections may be opened, and how fast a live one may talk. Counts are of one worker process."""

from __future__ import annotations

import time
from collections.abc import Collection
from urllib.parse import urlsplit

from syncd.core.errors import Busy, Forbidden, SyncdError, TooMany


class TokenBucket:
    """A token bucket: `rate` a second on average, `rate * seconds` at once. One user's connections share one."""

    __slots__ = ("_at", "_left", "_most", "_rate", "connections")

    def __init__(self, rate: float, seconds: float = 4.0) -> None:
        self._rate, self._most = rate, rate * seconds
        self._left, self._at = self._most, time.monotonic()
        self.connections = 0

    def take(self) -> bool:
        """Whether one more is within bounds."""
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Admission:
    """The bounds of connections. 0 means none; `origins` are the web origins whose pages may connect besides the
    server's own; `most`: connections of the process."""

    def __init__(
        self, *, per_user: int, per_address: int, frames: float, origins: Collection[str], most: int = 0
    ) -> None:
        self._per_user, self._per_address, self._frames, self._most = per_user, per_address, frames, most
        self._origins = frozenset(origins)
        self._addresses: dict[str, int] = {}
        self._users: dict[str, TokenBucket] = {}
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

    def admit(self, user: str) -> TokenBucket:
        """Counts a connection of a user; what it may send. Raises TooMany."""
        bucket = self._users.get(user)
        if bucket is None:
            bucket = self._users[user] = TokenBucket(self._frames or 1e9)
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
