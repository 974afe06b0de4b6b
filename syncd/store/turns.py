"""Whose turn it is: what is asked for one user waits behind what was asked for the same user before, and beside what is
asked for others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar

from syncd.core.errors import Busy, TooMany

T = TypeVar("T")

# For whom something is done, in this task; "" where it is for nobody alone: for a whole group, or the server itself.
ACTING: ContextVar[str] = ContextVar("ACTING", default="")
# Of one user, for one thing; who asks for more at once is told to come later.
MOST_OF_ONE = 512


class FairQueue(Generic[T]):
    """A line for each user; the lines take turns."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[T]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, user: str, item: T) -> None:
        """Behind what waits for this user. Raises TooMany."""
        line = self._lines.setdefault(user, deque())
        if user and len(line) >= MOST_OF_ONE:
            raise TooMany("Too much of this user waits for its turn.")
        line.append(item)
        self._count += 1

    def pop(self) -> T:
        """The first of the line whose turn it is, which has its next one after all others."""
        return self._pop(next(iter(self._lines)))

    def _pop(self, user: str) -> T:
        line = self._lines.pop(user)
        item = line.popleft()
        if line:
            self._lines[user] = line
        self._count -= 1
        return item

    def users(self) -> list[str]:
        """Whose lines there are, in the order of their turns."""
        return list(self._lines)

    def has(self, user: str) -> bool:
        """Whether anything waits for this user."""
        return user in self._lines

    def next_of(self, user: str) -> T:
        """The first of a user's line, as `pop` does."""
        return self._pop(user)

    def remove(self, user: str, item: T) -> None:
        """Takes out what waits no longer."""
        line = self._lines.get(user)
        if line is not None and item in line:
            line.remove(item)
            self._count -= 1
            if not line:
                del self._lines[user]


class Turns:
    """So many places. A user has another one only while more than that are free, so that there always is one for who
    comes next, while few users fill none with what they ask for; what is for nobody alone takes any that is free."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._taken: dict[str, int] = {}
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()

    @asynccontextmanager
    async def place(self, seconds: float | None = None) -> AsyncIterator[None]:
        """A place for who is acting. Raises Busy after so many seconds, TooMany."""
        user = ACTING.get()
        if not self._may(user):
            await self._wait(user, seconds)
        else:
            self._take(user)
        try:
            yield
        finally:
            self._give(user)

    def _may(self, user: str) -> bool:
        taken = self._taken.get(user, 0)
        return self._free > 0 and (not user or not taken or taken < self._free)

    def _take(self, user: str) -> None:
        self._free -= 1
        self._taken[user] = self._taken.get(user, 0) + 1

    async def _wait(self, user: str, seconds: float | None) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.push(user, turn)
        try:
            async with asyncio.timeout(seconds):
                await turn
        except BaseException as why:
            if turn.done() and not turn.cancelled():
                self._give(user)
            else:
                self._waiting.remove(user, turn)
            if isinstance(why, TimeoutError):
                raise Busy from None
            raise

    def _give(self, user: str) -> None:
        self._free += 1
        self._taken[user] -= 1
        if not self._taken[user]:
            del self._taken[user]
        for waiting in self._waiting.users():
            if not self._free:
                return
            if self._may(waiting):
                self._let_in(waiting)

    def _let_in(self, user: str) -> None:
        """The first of a user's line that still waits. One that was cancelled stands in it until its task has run."""
        while self._waiting.has(user):
            turn = self._waiting.next_of(user)
            if not turn.done():
                self._take(user)
                turn.set_result(None)
                return
