"""Which copy of a device's store pushes under its client id."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from syncd.core.errors import DeviceCopied, Fault, Malformed, QuotaExceeded
from syncd.postgres.contexts import ActingUser
from syncd.store.pool import Pool

MOST_INCARNATIONS = 64
# Another worker may have heard of a later one: so long, in seconds, is one that was asked about taken as it was.
TRUSTED_FOR = 30.0
REMEMBERED = 20_000

_INCARNATION = re.compile(r"(?!0)\d{1,15}\.[\w-]{8,64}", re.ASCII)


class Devices:
    """The incarnations of devices. What was asked a moment ago is not asked again. `most`: devices that a user has."""

    def __init__(self, pool: Pool, most: int = 0) -> None:
        self._pool, self._most = pool, most
        self._known: dict[tuple[str, str], tuple[str, float]] = {}

    async def check(self, user: str, client: str, incarnations: Sequence[str]) -> bool:
        """Takes the last of a device's incarnations for its current one, where it has been one of them until now. False
        where nothing is kept of the device yet: the push that is its first does that, if it is taken.

        Raises DeviceCopied where another copy of its store has pushed since, QuotaExceeded, and Malformed.
        """
        known = self._known.get((user, client))
        if known is not None and incarnations and incarnations[-1] == known[0] and time.monotonic() < known[1]:
            return True
        if not 1 <= len(incarnations) <= MOST_INCARNATIONS or not all(map(_INCARNATION.fullmatch, incarnations)):
            wrong = f"must be 1 to {MOST_INCARNATIONS} texts of a counter, a dot, and 8 to 64 letters and digits"
            raise Malformed(f"incarnations {wrong}.", faults=(Fault("/incarnations", wrong),))
        found = (await self._pool.fetch("device", ActingUser(user), client, list(incarnations), self._most))[0][0]
        if found == "full":
            raise QuotaExceeded("devices", "This user has as many devices as the quota `devices` allows.")
        if found == "other":
            raise DeviceCopied
        if found == "new":
            return False
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[user, client] = incarnations[-1], time.monotonic() + TRUSTED_FOR
        return True
