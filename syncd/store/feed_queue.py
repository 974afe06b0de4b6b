"""Pushes that take long, one after the other: at the row of their feed each would hold a connection while it waits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from syncd.store.batcher import Batcher
from syncd.store.turns import ACTING, Turns

C = TypeVar("C")
R = TypeVar("R")
Feed = tuple[str, str]

# Of a user whatever the feeds: a place for every second one that is free, so two of three.
PLACES_OF_ONE = 3
# Seconds. A push that has waited so long for those before is told to come later.
PATIENCE = 30.0
# Seconds that a call may take in the database before its feeds are taken for slow, and how quick one has to be for its
# feed to be none any more.
SLOW, QUICK = 1.0, 0.25
MOST_SLOW = 256


class TurnsByKey:
    """`Turns` for each of many things, there while somebody has a place or waits for one."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._all: dict[Hashable, tuple[Turns, int]] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._all

    @asynccontextmanager
    async def place(self, key: Hashable) -> AsyncIterator[None]:
        """A place for who is acting. Raises Busy, TooMany."""
        turns, users = self._all.get(key) or (Turns(self._places), 0)
        self._all[key] = turns, users + 1
        try:
            async with turns.place(PATIENCE):
                yield
        finally:
            _, users = self._all.pop(key)
            if users > 1:
                self._all[key] = turns, users - 1


class FeedQueue(Generic[C, R]):
    """Of one feed one push at a time, of its writers in turn; of one user two at a time.

    While a large one is under way or waits, and where pushes have taken long, small ones to that feed travel in groups
    of their own, so that no other feed's push waits with them. `together`, `alone`: as a `Batcher` has them.
    """

    def __init__(
        self, together: Callable[[list[C]], Awaitable[list[R | None]]], alone: Callable[[C], Awaitable[R]], size: int
    ) -> None:
        self._together, self._alone, self._size = together, alone, size
        self._feeds, self._users = TurnsByKey(1), TurnsByKey(PLACES_OF_ONE)
        self._large: dict[Feed, int] = {}
        self._slow: dict[Feed, None] = {}
        self._groups: dict[Feed, tuple[Batcher[C, R], int]] = {}

    def apart(self, feed: Feed) -> bool:
        """Whether small pushes to a feed go by `join`."""
        return feed in self._large or feed in self._slow

    @asynccontextmanager
    async def large(self, feed: Feed | None) -> AsyncIterator[None]:
        """The turn of a large push; None: it writes to several feeds. Raises Busy, TooMany.

        A user's turn comes first: who waits for one of its own must not have that of a feed, which others want.
        """
        if feed is None:
            async with self._of_user():
                yield
            return
        self._large[feed] = self._large.get(feed, 0) + 1
        try:
            async with self._of_user(), self._feeds.place(feed):
                yield
        finally:
            self._large[feed] -= 1
            if not self._large[feed]:
                del self._large[feed]

    async def join(self, feed: Feed, call: C) -> R:
        """The answer to a small push, in a group of the feed's, which has a turn like a large one."""
        batcher, users = self._groups.get(feed) or (self._batcher(feed), 0)
        self._groups[feed] = batcher, users + 1
        try:
            return await batcher.join(call)
        finally:
            _, users = self._groups.pop(feed)
            if users > 1:
                self._groups[feed] = batcher, users - 1

    def took(self, feeds: Sequence[Feed | None], seconds: float) -> None:
        """Pushes to these feeds have kept the database busy for so long, together."""
        if seconds > SLOW:
            self._slow.update(dict.fromkeys(feed for feed in feeds if feed is not None))
            while len(self._slow) > MOST_SLOW:
                del self._slow[next(iter(self._slow))]
        elif self._slow and seconds < QUICK:
            for feed in feeds:
                self._slow.pop(feed, None)  # type: ignore[arg-type]

    @asynccontextmanager
    async def _of_user(self) -> AsyncIterator[None]:
        user = ACTING.get()
        if not user:
            yield
            return
        async with self._users.place(user):
            yield

    def _batcher(self, feed: Feed) -> Batcher[C, R]:
        async def together(calls: list[C]) -> list[R | None]:
            async with self._of_user(), self._feeds.place(feed):
                return await self._together(calls)

        async def alone(call: C) -> R:
            async with self._of_user(), self._feeds.place(feed):
                return await self._alone(call)

        return Batcher(together, alone, 1, self._size, owned=True)
