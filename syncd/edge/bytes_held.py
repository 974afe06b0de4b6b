"""How much of what clients send, and of what they are sent, is held at a time: by user, by address and in all. A body
is counted while it comes, an answer while it goes. Where there is no room in all, the slowest client gives way."""

from __future__ import annotations

import time
from collections.abc import Hashable

from syncd.core.errors import Busy, TooMany
from syncd.edge.pace import ClientWait, slowest

# Less of a connection is not counted: it is there before anybody could count it.
UNCOUNTED = 64 * 1024


class BytesHeld:
    """The bounds of one process. `largest`: bytes of a body, also unpacked; the others: how many of the largest may be
    held for one user, for one address (0: any number) and in all; `slowest`: bytes a second that a body has to come at.
    """

    def __init__(
        self, largest: int, *, slowest: int = 1000, per_user: int = 4, per_address: int = 16, in_all: int = 32
    ) -> None:
        self.largest, self.slowest = largest, slowest
        self._per_user, self._per_address, self._in_all = per_user * largest, per_address * largest, in_all * largest
        self._held: dict[Hashable, int] = {}
        # Of what is held, whose clients are waited for.
        self.waits: dict[Holder, ClientWait] = {}
        self.bytes = 0

    def check(self, size: int, holder: Holder) -> None:
        """Whether there is room for so many bytes more. Raises TooMany, Busy."""
        if holder.user and self._held.get((holder.user,), 0) + size > self._per_user:
            raise TooMany("Too much of this user's is being worked on or on its way.")
        if self._per_address and self._held.get(holder.address, 0) + size > self._per_address:
            raise TooMany("Too much of this address's is being worked on or on its way.")
        if self.bytes + size > self._in_all:
            if slow := slowest(self.waits.values(), time.monotonic()):
                slow.leave()
            raise Busy("Too much is being worked on or on its way.")

    def add(self, size: int, holder: Holder) -> None:
        """Counts, or, below zero, counts no longer."""
        self.bytes += size
        for key in (holder.address, (holder.user,)):
            left = self._held.get(key, 0) + size
            if left:
                self._held[key] = left
            else:
                self._held.pop(key, None)

    @property
    def large(self) -> int:
        """Bytes of an answer for which there has to be room; who reads less waits for nobody."""
        return self.largest // 8


class Holder:
    """What is held for one request or connection."""

    __slots__ = ("_bodies", "address", "held", "user")

    def __init__(self, bodies: BytesHeld, address: str, user: str = "") -> None:
        self._bodies, self.address, self.user, self.held = bodies, address, user, 0

    def take(self, size: int) -> Holder:
        """Holds so many bytes more. Raises TooMany, Busy."""
        self._bodies.check(size, self)
        self.hold(size)
        return self

    def hold(self, size: int) -> None:
        """Holds so many bytes more, whatever the bounds: they are there already."""
        self._bodies.add(size, self)
        self.held += size

    def set(self, size: int, user: str) -> None:
        """Holds so many bytes in place of those before, for this user from now on. Raises TooMany, Busy."""
        if size == self.held:
            return
        self.give_back()
        self.user = user
        if size:
            self.take(size)

    def give_back(self, size: int | None = None) -> None:
        """Holds so many bytes less, or none any more."""
        size = self.held if size is None else size
        if size:
            self._bodies.add(-size, self)
            self.held -= size
        if not self.held:
            self._bodies.waits.pop(self, None)

    def waits(self, wait: ClientWait) -> ClientWait:
        """While it holds anything, its client gives way when it is slow and there is no room for others."""
        self._bodies.waits[self] = wait
        return wait
