"""One device's place in one app, kept current: it catches up by pulls, then takes what its feeds bring.

What keeps it without a gap is one comparison: a batch is taken only where it begins at the place's own seq.
Whoever is elsewhere, or reads too slowly to be sent more, catches up from its cursor, and then joins again.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Coroutine, Sequence, Set
from itertools import starmap
from typing import Any, Protocol

from syncd.core.clock import EPOCH_TEXT
from syncd.core.errors import Busy, CursorLost, DatabaseUnavailable, SyncdError
from syncd.live.batch import Batch
from syncd.live.member import Connection, Listener
from syncd.protocol.cursor import Bookmark, Cursor, Position
from syncd.protocol.live_messages import MAX_PUSHED, error
from syncd.protocol.pull_messages import PullRequest
from syncd.protocol.push_answer import Result
from syncd.service.counts import Counts
from syncd.service.pull import check_history, position, pull
from syncd.store.log import Log
from syncd.store.turns import ACTING, Turns

SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 5.0


class SubscriptionHub(Protocol):
    """What a subscription needs of its hub."""

    log: Log
    key: bytes
    counts: Counts
    catching_up: Turns

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs something of the hub's."""

    def trouble(self, subscription: Listener, why: SyncdError) -> None:
        """It cannot catch up just now, and tries again."""

    def refuse(self, subscription: Listener, why: SyncdError) -> None:
        """It cannot be: the device has to subscribe anew."""

    def join_feeds(self, subscription: Listener, found: Cursor) -> bool:
        """Takes a place in every feed of a cursor."""

    def leave_feed(self, subscription: Listener, space: int) -> None:
        """Gives a place up."""

    async def know(self, member: Connection, spaces: Set[int]) -> bool:
        """Whether the spaces of a page are those that the member is in now."""


class Subscription:
    """`live`: it takes batches; else a task of it is catching up."""

    __slots__ = (
        "_again",
        "_boot",
        "_hub",
        "_pushed",
        "_task",
        "bookmark",
        "cursor",
        "live",
        "member",
        "question",
        "told",
    )

    def __init__(self, hub: SubscriptionHub, member: Connection, question: PullRequest) -> None:
        self._hub, self.member, self.question = hub, member, question
        # The signature is checked here: a bad cursor is told at once.
        at = position(question, member.caller.user, hub.key)
        self.cursor = (EPOCH_TEXT if question.plain and at == 0 else question.since).encode()
        self.bookmark: Bookmark | None = None
        self.live = self._again = self.told = False
        # Acknowledged changes of the device's own that the place may not be past, and the start that they are known of.
        self._pushed, self._boot = deque(question.pushed, MAX_PUSHED), 0
        self._task: asyncio.Task[None] | None = None

    def take(self, space: int, batch: Batch) -> None:
        """A feed's reading, which all its listeners share."""
        place = self.bookmark
        if not self.live or place is None:
            return
        seq = place.seqs.get(space, -1)
        if seq >= batch.upto:
            return
        if seq < batch.after or batch.boot != place.boot or not self.member.sink.room or place.full:
            self.fall_behind()
            return
        self.cursor = place.move(space, batch.upto, batch.now)
        self.member.sink.changes(self, batch, seq, self.cursor)

    def fall_behind(self) -> None:
        """From now on by pulls, until it has caught up."""
        if self.live:
            self.live = False
            self._hub.counts.dropped_back += 1
        if self._task is None:
            self._task = self._hub.spawn(self._catch_up())
        else:
            self._again = True

    def acknowledges(self, results: Sequence[Result | None]) -> None:
        """A push of the device is about to be answered: its place is still before it."""
        for result in reversed(results):
            if result and result.changeId and result.status == "applied":
                self._pushed.append(result.changeId)
                return

    def end(self) -> None:
        """It is over: nothing more is sent."""
        self.live = False
        if self._task is not None:
            self._task.cancel()
        for space in self.member.spaces:
            self._hub.leave_feed(self, space)

    async def _catch_up(self) -> None:
        ACTING.set(self.member.caller.user)
        pause = SHORTEST_PAUSE
        try:
            while not self.live:
                try:
                    await self._round()
                    pause = SHORTEST_PAUSE
                except (Busy, DatabaseUnavailable) as why:
                    self._hub.trouble(self, why)
                    await asyncio.sleep(pause * random.uniform(0.5, 1))
                    pause = min(2 * pause, LONGEST_PAUSE)
        except ConnectionResetError:
            return
        except SyncdError as why:
            self._hub.refuse(self, why)
        finally:
            self._task = None

    async def _round(self) -> None:
        """One page, and when it was the last one, the feeds are joined."""
        self._again = False
        await self.member.sink.page_turn()
        async with self._hub.catching_up.place():
            self._hub.counts.catch_ups += 1
            size = min(self.question.bytes, self.member.sink.page_bytes)
            question = self.question._replace(since=self.cursor.decode(), bytes=size)
            delta = await pull(self._hub.log, self._hub.key, self.member.caller, question)
            reached = question._replace(since=delta.synced_until)
            found = position(reached, self.member.caller.user, self._hub.key)
            if not isinstance(found, Cursor):
                raise CursorLost
            await self._check_history(found.boot, more=delta.more)
        if delta.changes or delta.joined or delta.left or delta.unreadable or delta.more or not self.told:
            self.told = True
            await self.member.sink.page(self, delta)
        self.cursor = delta.synced_until.encode()
        # What came while it was read is found by the next round: joining and looking are one step here.
        if not delta.more and not self._again:
            unreadable = {space_no for space_no, _ in delta.unreadable} & self.member.spaces.keys()
            places = await self._places(found)
            known = await self._hub.know(self.member, {position.space for position in places} | unreadable)
            if known and not self._again:
                self._join(found, places, unreadable)

    async def _check_history(self, boot: int, *, more: bool) -> None:
        """Under another start of the database the log may have gone back: to after the device's place, and before what
        it has had acknowledged since. Raises CursorLost."""
        member, pushed = self.member, tuple(self._pushed)
        if boot == self._boot or self.question.plain:
            return
        await check_history(self._hub.log, member.caller, member.client, pushed)
        if not more:
            self._boot = boot
            self._pushed = deque((change for change in self._pushed if change not in pushed), MAX_PUSHED)

    async def _places(self, found: Cursor) -> tuple[Position, ...]:
        """The position in every feed."""
        if not found.row:
            return found.positions
        places = await self._hub.log.cursors.at(self.member.caller.user, found.since())
        if places is None:
            raise Busy  # it went this moment: the next page tells
        return tuple(starmap(Position, places))

    def _join(self, found: Cursor, places: tuple[Position, ...], unreadable: Set[int]) -> None:
        """Takes a place in every feed but those that cannot be read, which are tried again with the next page."""
        for space in unreadable:
            self._hub.leave_feed(self, space)
        readable = tuple(position for position in places if position.space not in unreadable)
        if self._hub.join_feeds(self, found._replace(positions=readable)):
            kept = places if found.row else None
            self.bookmark = Bookmark(found, self._hub.key, self.member.caller.user, self.question.app, kept)
            self.live = True


def refusal(subscription: Listener, why: SyncdError) -> bytes:
    """The frame that tells a device that its subscription cannot be, or not now."""
    return error(why.code, why.detail, appId=subscription.question.app)
