"""Spaces and feeds that somebody on this process listens to."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine
from typing import Any, Protocol

from syncd.bus.hints import key
from syncd.core.errors import Busy, DatabaseUnavailable
from syncd.live.batch import Batch
from syncd.live.member import Connection, Listener
from syncd.service.counts import Counts
from syncd.store.live import FeedQuery, Live, News
from syncd.store.pool import Unforeseen

READ_LIMIT = 1000
READ_BYTES = 256 * 1024
# A thousand listeners take some ten milliseconds; others get their turn in between.
AT_ONCE = 256
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 2.0


class LiveSpace:
    """A space: its connections, and its feeds by the key of their app.

    `roster` is the number of the space's roster at which all of its connections were known to be of members.
    """

    __slots__ = ("feeds", "here", "id", "key", "members", "poked", "roster", "space", "watchers")

    def __init__(self, space: int, space_id: str, roster: int) -> None:
        self.space, self.id, self.key, self.roster = space, space_id, key(space_id), roster
        self.members: dict[Connection, None] = {}
        self.poked: dict[Connection, None] = {}
        self.feeds: dict[str, Feed] = {}
        # Presence: who listens for it here, and what was last heard of whom; none in most rooms.
        self.watchers: dict[Connection, None] | None = None
        self.here: dict[tuple[str, str], str] | None = None


class FeedHub(Protocol):
    """What a feed needs of its hub. `boot`: the database's start that the hub knows of."""

    live: Live
    counts: Counts
    boot: int

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs something of the hub's."""

    def look(self) -> None:
        """Looks at members, and whether the database is the one it was."""

    async def check(self, room: LiveSpace) -> None:
        """Sends away who is no member of a space any more."""


class Feed:
    """An app in a space. It is read once for all its listeners, from `head` on, when a hint says that there is more."""

    __slots__ = ("_hinted_at", "_hub", "_reading", "app", "head", "hinted", "room", "subscribers")

    def __init__(self, hub: FeedHub, room: LiveSpace, app: str, head: int) -> None:
        self._hub, self.room, self.app, self.head, self.hinted = hub, room, app, head, head
        self.subscribers: dict[Listener, None] = {}
        self._reading = False
        self._hinted_at = 0.0

    @property
    def heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self.subscribers or self.room.poked)

    def hint(self, seq: int) -> None:
        """The feed is said to have reached `seq`."""
        if seq <= self.head:
            return
        self.hinted = max(seq, self.hinted)
        # Heard of before is not read yet: a reading may have failed, or nobody have listened then.
        if not self._reading and self.heard:
            self._reading = True
            self._hinted_at = time.monotonic()
            self._hub.spawn(self._read())

    async def _read(self) -> None:
        pause = SHORTEST_PAUSE
        try:
            while self.heard and self.hinted > self.head:
                try:
                    await self._step()
                    pause = SHORTEST_PAUSE
                except (Busy, DatabaseUnavailable):
                    await asyncio.sleep(pause * random.uniform(0.5, 1))
                    pause = min(2 * pause, LONGEST_PAUSE)
                except Unforeseen:
                    # It cannot be read: its listeners are told so by the page that they catch up with, and leave it.
                    for subscriber in list(self.subscribers):
                        subscriber.fall_behind()
                    return
        finally:
            self._reading = False

    async def _step(self) -> None:
        reader = next(iter(self.subscribers)).member if self.subscribers else next(iter(self.room.poked))
        legacy = any(subscriber.question.plain for subscriber in self.subscribers)
        news = await self._hub.live.read(
            FeedQuery(reader.user_no, self.room.space, self.app, self.head, READ_LIMIT, READ_BYTES, legacy)
        )
        if news.roster is None:
            # The reader is no member any more: it goes, and the next one reads.
            await self._hub.check(self.room)
            return
        while self.room.roster < news.roster and self.heard:
            await self._hub.check(self.room)
        if news.upto is None or news.upto <= self.head or news.boot_us != self._hub.boot:
            # The hint was wrong, or the database is another one than before.
            self.hinted = self.head
            self._hub.look()
            return
        await self._deliver(news, legacy)

    async def _deliver(self, news: News, legacy: bool) -> None:
        assert news.upto is not None
        batch = Batch(self.app, self.head, news)
        # First: whoever joins from here on has to have what is in the batch.
        self.head = news.upto
        self._hub.counts.batches += 1
        for n, subscriber in enumerate(list(self.subscribers), 1):
            if subscriber.question.plain and not legacy:
                subscriber.fall_behind()  # it came while the batch was read, which is without plain records
            elif subscriber in self.subscribers:
                subscriber.take(self.room.space, batch)
            if n % AT_ONCE == 0:
                await asyncio.sleep(0)
        for member in list(self.room.poked):
            self._poke(member, batch)
        self._hub.counts.lag(time.monotonic() - self._hinted_at)
        self._hinted_at = time.monotonic()

    def _poke(self, member: Connection, batch: Batch) -> None:
        mine = member.own is not None and batch.own_only(member.own)
        if member.app in (None, self.app) and not mine and member.sink.room:
            member.sink.frame(batch.poke())
