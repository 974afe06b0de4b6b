"""The hub: who is connected to this process, what they listen to, and what makes them hear.

It holds nothing that a restart loses. A hint (from this process, or from another one by the bus) says where there is
more to read; two slow looks at the database, at who came and went and at the heads of feeds, find what no hint told.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence, Set
from contextvars import Context
from typing import Any

import structlog

from syncd.bus.hints import Bus, Hint, key
from syncd.core.error_codes import ERROR_CODES, TRY_AGAIN_LATER
from syncd.core.errors import Busy, DatabaseUnavailable, MembershipsUnavailable, SyncdError
from syncd.core.failures import log_failure
from syncd.core.principal import External
from syncd.live.member import Connection, Listener
from syncd.live.pokes import Pokes
from syncd.live.presence import Presence
from syncd.live.rooms import Feed, LiveSpace
from syncd.live.shared import Shared
from syncd.live.subscription import refusal
from syncd.protocol.cursor import Cursor
from syncd.service.counts import Counts
from syncd.store.live import Live, ResolvedUser
from syncd.store.log import Log
from syncd.store.pool import Unforeseen, told
from syncd.store.turns import Turns

log = structlog.get_logger("syncd.live")

MEMBERS_EVERY = 0.5
HEADS_EVERY, HEADS_EVERY_ALONE = 2.0, 0.5
HEADS_AT_ONCE = 2000
# Who is in very many spaces comes into a thousand rooms, which takes some ten milliseconds, and others get their turn.
ROOMS_AT_ONCE = 1000
ASKED_EVERY = 1.0
ASKED_AT_ONCE = 32
# A membership service that is away for longer than its own time-out and a retry: nobody knows who may still read.
UNKNOWN_FOR, SHORTEST_ASK = 8.0, 1.0
CATCHING_UP = 6

Ask = Callable[[str], Awaitable[External]]


class Hub:
    """The live half of a server process.

    `ask`: where memberships come from a service, who is in which space now. `on_members`: is told who came, went or
    changed role, by number, also of users without a connection here. `on_wrote`: is told (space, app) of each push of
    this process.
    """

    def __init__(
        self, log_: Log, live: Live, bus: Bus, cursor_key: bytes, ask: Ask | None = None, *,
        counts: Counts | None = None, on_members: Callable[[Set[int]], None] = lambda users: None,
        on_wrote: Callable[[str, str], None] = lambda space, app: None,
    ) -> None:  # fmt: skip
        self.log, self.live, self.bus, self.key = log_, live, bus, cursor_key
        self.counts = counts or Counts()
        self._on_members, self._on_wrote = on_members, on_wrote
        self.catching_up = Turns(CATCHING_UP)
        self.boot = 0
        self.rooms: dict[int, LiveSpace] = {}
        self.users: dict[int, dict[Connection, None]] = {}
        self._by_key: dict[str, LiveSpace] = {}
        self._ask = ask
        self._asked: dict[int, float] = {}
        self._untold: set[int] = set()
        self._greetings = 0
        # Who is being greeted, by number of the greeting: users who came or went meanwhile.
        self._entering: dict[int, set[int]] = {}
        self._horizon: str | None = None
        self._seen: set[int] = set()
        self._look = asyncio.Event()
        self._unsure: list[Feed] = []
        self.presence, self.pokes, self.shared = Presence(self), Pokes(self), Shared()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Starts listening and looking."""
        await self._look_at_members()
        await self.bus.open(self.hear)
        self.spawn(self._forever(self._members_round))
        self.spawn(self._forever(self._heads_round))
        self.spawn(self._forever(self.presence.round))
        if self._ask is not None:
            self.spawn(self._forever(self._ask_round))

    async def close(self) -> None:
        """Ends what runs. The connections are their owner's to close."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.bus.close()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs something of the hub's; a failure is logged, and ends nothing else."""
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        why = None if task.cancelled() else task.exception()
        if why is not None and not isinstance(why, Unforeseen):
            log_failure(log, "failed", why, task=task.get_coro().__qualname__)  # type: ignore[union-attr]

    # -- connections -----------------------------------------------------------------------------------

    async def enter(self, member: Connection) -> None:
        """A connection whose user is known. Raises Busy, DatabaseUnavailable."""
        self._greetings += 1
        number, missed = self._greetings, set[int]()
        self._entering[number] = missed
        try:
            greeting = await self._greeting(member)
        finally:
            del self._entering[number]
        member.user_no = greeting.user_no
        self.users.setdefault(member.user_no, {})[member] = None
        self.counts.connections += 1
        try:
            await self._place(member, greeting, number)
            if member.user_no in missed:
                await self._greet([member])
            await self._find_feeds(member)
        except BaseException:
            self.leave(member)
            raise

    async def _find_feeds(self, member: Connection) -> None:
        await self.pokes.discover([self.rooms[space] for space in member.spaces], member)

    async def renew(self, member: Connection) -> None:
        """The same user with a new token: memberships may have come with it."""
        if member.caller.external is not None:
            await self._greet([member])

    def leave(self, member: Connection) -> None:
        """The connection is gone."""
        self.presence.leave(member)
        for subscription in list(member.subscriptions.values()):
            subscription.end()
        self.counts.subscriptions -= len(member.subscriptions)
        member.subscriptions.clear()
        for space in list(member.spaces):
            self._leave_room(member, space)
        others = self.users.get(member.user_no, {})
        if member in others:
            del others[member]
            self.counts.connections -= 1
        if not others:
            self.users.pop(member.user_no, None)
            self._asked.pop(member.user_no, None)
            self._untold.discard(member.user_no)

    def subscribe(self, member: Connection, subscription: Listener) -> None:
        """Begins to keep a device current; an earlier subscription to the same app ends."""
        self.unsubscribe(member, subscription.question.app)
        if not member.subscriptions:
            for space in member.spaces:
                self._unpoke(member, self.rooms[space])
        member.subscriptions[subscription.question.app] = subscription
        self.counts.subscriptions += 1
        subscription.fall_behind()

    def unsubscribe(self, member: Connection, app: str) -> None:
        """Ends a subscription, if there is one."""
        subscription = member.subscriptions.pop(app, None)
        if subscription is not None:
            self.counts.subscriptions -= 1
            subscription.end()
            if member.poked:
                for space in member.spaces:
                    self.rooms[space].poked[member] = None
                self.spawn(self._quietly(self._find_feeds(member)))

    def trouble(self, subscription: Listener, why: SyncdError) -> None:
        """It cannot catch up just now, and tries again."""
        subscription.member.sink.frame(refusal(subscription, told(why)))

    def refuse(self, subscription: Listener, why: SyncdError) -> None:
        """It cannot be: the device has to subscribe anew."""
        member = subscription.member
        if member.subscriptions.get(subscription.question.app) is subscription:
            self.unsubscribe(member, subscription.question.app)
            member.sink.frame(refusal(subscription, told(why)))

    # -- rooms -----------------------------------------------------------------------------------------

    async def know(self, member: Connection, spaces: Set[int]) -> bool:
        """Whether the spaces of a page are those that the member is in now. Where they were not those that it was known
        to be in, that is looked at again: who left and came back in between must not miss the coming back."""
        if spaces != member.spaces.keys():
            await self._greet([member])
        return spaces == member.spaces.keys()

    async def _greeting(self, member: Connection) -> ResolvedUser:
        external = member.caller.external
        spaces, as_of = (external.spaces, external.as_of) if external else (None, 0)
        return await self.live.greet(member.caller.user, spaces, as_of)

    async def _greet(self, members: Sequence[Connection]) -> None:
        """Looks again which spaces one user's connections are in."""
        if not members:
            return
        self._greetings += 1
        number = self._greetings
        greeting = await self._greeting(members[0])
        for member in members:
            if member in self.users.get(member.user_no, {}):
                await self._place(member, greeting, number)

    async def _place(self, member: Connection, greeting: ResolvedUser, number: int) -> None:
        """Puts a connection into the rooms of its spaces. An answer that is older than one already used is not."""
        if number < member.greeting:
            return
        member.greeting = number
        now = dict(zip(greeting.spaces, greeting.ids, strict=True))
        before = set(member.spaces)
        for space in before - now.keys():
            self._leave_room(member, space)
        for n, (space, roster) in enumerate(zip(greeting.spaces, greeting.rosters, strict=True), 1):
            if space not in before:
                self._enter_room(member, space, now[space], roster)
            if n % ROOMS_AT_ONCE == 0:
                await asyncio.sleep(0)
                if member.greeting != number or member not in self.users.get(member.user_no, ()):
                    return  # a newer answer is being used, or it left
        if before and before != now.keys():
            self._moved(member, before ^ now.keys())

    def _enter_room(self, member: Connection, space: int, space_id: str, roster: int) -> None:
        room = self.rooms.get(space)
        if room is None:
            room = self.rooms[space] = LiveSpace(space, space_id, roster)
            self._by_key[room.key] = room
        room.members[member] = None
        member.spaces[space] = space_id
        room.roster = min(room.roster, roster)
        if member.poked:
            room.poked[member] = None

    def _moved(self, member: Connection, spaces: set[int]) -> None:
        """Spaces came or went: the next page tells, and brings what is new whole."""
        for subscription in member.subscriptions.values():
            subscription.fall_behind()
        if member.poked:
            rooms = [self.rooms[space] for space in spaces if space in self.rooms]
            apps = {member.app} if member.app else {feed.app for room in rooms for feed in room.feeds.values()}
            self.pokes.tell([member], apps)

    def _leave_room(self, member: Connection, space: int) -> None:
        room = self.rooms[space]
        for subscription in member.subscriptions.values():
            self.leave_feed(subscription, space)
        self.presence.leave_room(member, room)
        room.members.pop(member, None)
        del member.spaces[space]
        self._unpoke(member, room)
        if not room.members:
            del self.rooms[space]
            # A space that was made again has the id of the one before it.
            if self._by_key.get(room.key) is room:
                del self._by_key[room.key]

    def _unpoke(self, member: Connection, room: LiveSpace) -> None:
        if room.poked.pop(member, room) is None and not room.poked:
            for name in [name for name, feed in room.feeds.items() if not feed.heard]:
                del room.feeds[name]

    async def check(self, room: LiveSpace) -> None:
        """Sends away who is no member of a space any more. Raises Busy, DatabaseUnavailable."""
        asked, began = {member.user_no for member in room.members}, self._greetings
        roster, users = await self.live.members(room.space, sorted(asked))
        # Who was greeted meanwhile may have come back since this was read.
        known = [m for m in room.members if m.user_no in asked and m.greeting <= began]
        gone = [m for m in known if m.user_no not in users]
        came = len(known) < len(room.members)
        room.roster = min(room.roster, roster) if came else roster
        for member in gone:
            self._leave_room(member, room.space)
            self._moved(member, {room.space})

    # -- feeds -----------------------------------------------------------------------------------------

    def join_feeds(self, subscription: Listener, found: Cursor) -> bool:
        """Takes a place in every feed of a cursor; False where one of them has gone on already."""
        app = key(subscription.question.app)
        for position in found.positions:
            room = self.rooms.get(position.space)
            if room is None or subscription.member not in room.members:
                return False
            feed = room.feeds.get(app)
            if feed is not None and feed.heard and feed.head > position.seq:
                return False
        if found.boot != self.boot:
            self._look.set()
            return False
        for position in found.positions:
            room = self.rooms[position.space]
            feed = room.feeds.get(app)
            if feed is None or not feed.heard:
                feed = room.feeds[app] = Feed(self, room, subscription.question.app, position.seq)
            feed.subscribers[subscription] = None
            self.look_soon(feed)
        return True

    def leave_feed(self, subscription: Listener, space: int) -> None:
        """Gives a place up."""
        room = self.rooms.get(space)
        name = key(subscription.question.app)
        feed = room.feeds.get(name) if room else None
        if room and feed and feed.subscribers.pop(subscription, feed) is None and not feed.heard:
            del room.feeds[name]

    def look_soon(self, feed: Feed) -> None:
        """A feed that was joined may have gone on between the reading and now, and its hint have found nobody."""
        self._unsure.append(feed)
        if len(self._unsure) == 1:
            self.spawn(self._look_now())

    async def _look_now(self) -> None:
        await asyncio.sleep(0)
        feeds, self._unsure = self._unsure, []
        await self._quietly(self._look_at_heads(list(dict.fromkeys(feeds))))

    # -- hints and looks ---------------------------------------------------------------------------------

    def wrote(self, space: str, app: str, seq: int) -> None:
        """A push of this process has been committed."""
        self._on_wrote(space, app)
        hint = Hint("f", key(space), key(app), seq)
        self.hear(hint)
        self.bus.tell(hint)

    def look(self) -> None:
        """Looks at members, and whether the database is the one it was, without waiting for the next time."""
        self._look.set()

    def changed_members(self) -> None:
        """Memberships were changed by this process."""
        hint = Hint("m", "", "", 0)
        self.hear(hint)
        self.bus.tell(hint)

    def hear(self, hint: Hint) -> None:
        """What this or another process says has happened."""
        if hint.kind == "m":
            self._look.set()
            return
        room = self._by_key.get(hint.space)
        if room is None:
            return
        if hint.kind == "p":
            self.presence.heard(room)
            return
        feed = room.feeds.get(hint.app)
        if feed is not None:
            feed.hint(hint.seq)
        elif room.poked:
            self.spawn(self._quietly(self.pokes.discover_new(room, next(iter(room.poked)))))

    async def _quietly(self, work: Coroutine[Any, Any, None]) -> None:
        """What fails with the database is done again by the next look."""
        try:
            await work
        except (Busy, DatabaseUnavailable):
            self.counts.failed_looks += 1

    def keep_doing(self, round_: Callable[[], Awaitable[None]]) -> None:
        """Does something again and again, whatever becomes of it."""
        self.spawn(self._forever(round_))

    async def _forever(self, round_: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await round_()
            except (Busy, DatabaseUnavailable, MembershipsUnavailable, Unforeseen):
                self.counts.failed_looks += 1
                await asyncio.sleep(MEMBERS_EVERY)
            except Exception as why:
                # A bug of ours must not make the process deaf.
                name = getattr(round_, "__name__", type(round_).__name__)
                log_failure(log, "a look failed", why, look=name)
                self.counts.failed_looks += 1
                await asyncio.sleep(MEMBERS_EVERY)

    async def _members_round(self) -> None:
        # Not wait_for(): that one loses a cancellation which comes together with what it waits for.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MEMBERS_EVERY):
                await self._look.wait()
        self._look.clear()
        await self._look_at_members()

    async def _look_at_members(self) -> None:
        """Who came, went or changed role; and whether the database is the one it was."""
        comings = await self.live.comings(self._horizon)
        news = {user for event, user in comings.changed.items() if event not in self._seen}
        for user in {-user for user in news if user < 0}:
            for member in self.users.get(user, ()):
                member.sink.invitations()
        news = {user for user in news if user > 0}
        if news:
            self._on_members(news)
        if comings.boot != self.boot:
            self.boot = comings.boot
            self._start_over()
            # Who subscribes finds out by pulling.
            news.update(user for user, members in self.users.items() if any(member.poked for member in members))
        for missed in self._entering.values():
            missed |= news
        await asyncio.gather(*(self._greet(list(self.users[user])) for user in news if user in self.users))
        # Not before: what fails is looked at again from where it was.
        self._horizon, self._seen = comings.horizon, set(comings.changed)

    def _start_over(self) -> None:
        """The database was started anew, perhaps from a backup: every cursor is looked at again."""
        for room in self.rooms.values():
            room.roster = -1
            feeds, room.feeds = list(room.feeds.values()), {}
            for subscriber in [subscriber for feed in feeds for subscriber in feed.subscribers]:
                subscriber.fall_behind()
            if room.poked:
                self.spawn(self._quietly(self.pokes.discover([room], next(iter(room.poked)))))

    async def _heads_round(self) -> None:
        await asyncio.sleep(HEADS_EVERY if self.bus.state == "up" else HEADS_EVERY_ALONE)
        await self._look_at_heads([feed for room in self.rooms.values() for feed in room.feeds.values()])
        await self.pokes.look()

    async def _look_at_heads(self, feeds: list[Feed]) -> None:
        for start in range(0, len(feeds), HEADS_AT_ONCE):
            some = feeds[start : start + HEADS_AT_ONCE]
            heads = await self.live.heads([(feed.room.space, feed.app) for feed in some])
            for feed, head in zip(some, heads, strict=True):
                feed.hint(head)

    async def _ask_round(self) -> None:
        """Asks the membership service for every connected user: nobody reads on for longer than a second."""
        started = asyncio.get_running_loop().time()
        gate = asyncio.Semaphore(ASKED_AT_ONCE)
        await asyncio.gather(*(self._ask_for(user, gate) for user in list(self.users)))
        await asyncio.sleep(max(0.05, ASKED_EVERY - (asyncio.get_running_loop().time() - started)))

    async def _ask_for(self, user: int, gate: asyncio.Semaphore) -> None:
        members = list(self.users.get(user, ()))
        if self._ask is None or not members:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        end = self._asked.setdefault(user, now) + UNKNOWN_FOR
        try:
            async with gate, asyncio.timeout_at(max(end, loop.time() + SHORTEST_ASK)):
                external = await self._ask(members[0].caller.user)
        except (MembershipsUnavailable, TimeoutError):
            if loop.time() >= end:
                for member in members:
                    member.sink.end(TRY_AGAIN_LATER, ERROR_CODES["memberships_unavailable"].cause)
            return
        self._asked[user] = now
        before = members[0].caller.external
        for member in members:
            member.caller = member.caller._replace(external=external)
        if before is None or before.spaces != external.spaces:
            self._untold.add(user)
        if user in self._untold:
            # The database is told until it has heard.
            await self._greet(members)
            self._untold.discard(user)
