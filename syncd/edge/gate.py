"""Who may open a live connection, and how fast it may talk. Counts are those of one worker process."""

from __future__ import annotations

import time
from collections.abc import Collection
from urllib.parse import urlsplit

from syncd.core.errors import Forbidden, SyncdError, TooMany


class Allowance:
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


class Gate:
    """The bounds. 0 means none; `origins` are the web origins whose pages may connect besides the server's own."""

    def __init__(self, *, per_user: int, per_address: int, frames: float, origins: Collection[str]) -> None:
        self._per_user, self._per_address, self._frames = per_user, per_address, frames
        self._origins = frozenset(origins)
        self._addresses: dict[str, int] = {}
        self._users: dict[str, Allowance] = {}

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

    def arrive(self, address: str) -> None:
        """Counts a connection of an address. Raises TooMany."""
        count = self._addresses.get(address, 0)
        if self._per_address and count >= self._per_address:
            raise TooMany("Too many connections from this address.")
        self._addresses[address] = count + 1

    def depart(self, address: str) -> None:
        """It is gone."""
        count = self._addresses.get(address, 1) - 1
        if count:
            self._addresses[address] = count
        else:
            self._addresses.pop(address, None)

    def admit(self, user: str) -> Allowance:
        """Counts a connection of a user; what it may send. Raises TooMany."""
        allowance = self._users.get(user)
        if allowance is None:
            allowance = self._users[user] = Allowance(self._frames or 1e9)
        if self._per_user and allowance.connections >= self._per_user:
            raise TooMany("Too many connections of this user.")
        allowance.connections += 1
        return allowance

    def dismiss(self, user: str) -> None:
        """It is gone."""
        allowance = self._users.get(user)
        if allowance is not None:
            allowance.connections -= 1
            if not allowance.connections:
                del self._users[user]


def token_in_query(query: str) -> SyncdError | None:
    """Every proxy on the way writes addresses down: a token in one is refused, so that nobody gets used to it."""
    names = {part.partition("=")[0].lower() for part in query.split("&")}
    if names & {"token", "access_token", "authorization", "jwt"}:
        return Forbidden(code="token_in_address")
    return None
