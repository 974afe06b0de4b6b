"""Performs what the live core decides: asks the database, sends, waits, and runs the core's processes as tasks."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Set
from contextvars import Context
from typing import Any, NamedTuple, TypeVar

import structlog

from syncd.bus.hints import Bus
from syncd.core.errors import Busy, CursorLost, DatabaseUnavailable, MembershipsUnavailable
from syncd.core.failures import log_failure
from syncd.core.principal import External
from syncd.live import effects, frames
from syncd.live.available import find_feeds, find_new_feeds
from syncd.live.catching_up import catch_up
from syncd.live.connection import SKIPS, Subscription
from syncd.live.effects import Effect, Start, Steps
from syncd.live.reading import check_joined_heads, read_feed, read_presence
from syncd.live.state import LiveState
from syncd.protocol.cursor import Cursor, Position
from syncd.service.pull import check_history, position, pull
from syncd.store.live import Live
from syncd.store.log import Log
from syncd.store.pool import Unforeseen, told
from syncd.store.turns import ACTING, Turns

log = structlog.get_logger("syncd.live")

T = TypeVar("T")
Ask = Callable[[str], Awaitable[External]]

# A thousand listeners take some ten milliseconds; others get their turn in between.
AT_ONCE = 256
CATCHING_UP = 6
ASKED_AT_ONCE, SHORTEST_ASK = 32, 1.0


class Outside(NamedTuple):
    """What effects are performed with. `ask`: where memberships come from a service, the spaces of a user now;
    `on_members`: is told who came, went or changed role, by number, also of users without a connection here."""

    log: Log
    live: Live
    bus: Bus
    ask: Ask | None
    on_members: Callable[[Set[int]], None]


class Runner:
    """Performs the effects of one `LiveState`. `members_due`: is set when the membership changes are to be polled."""

    def __init__(self, state: LiveState, outside: Outside) -> None:
        self.state, self._log, self._live, self._bus = state, outside.log, outside.live, outside.bus
        self._ask, self._on_members = outside.ask, outside.on_members
        self.members_due = asyncio.Event()
        self._turns, self._asking = Turns(CATCHING_UP), asyncio.Semaphore(ASKED_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._catching_up: dict[Subscription, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Ends all tasks."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- processes -------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs something as a task; a failure is logged, and ends nothing else."""
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        why = None if task.cancelled() else task.exception()
        if why is not None and not isinstance(why, Unforeseen):
            log_failure(log, "failed", why, task=task.get_coro().__qualname__)  # type: ignore[union-attr]

    async def run(self, process: Steps[T]) -> T:
        """Runs a process of the core to its end: performs its calls, and what it decides between them."""
        answer: Any = None
        failure: Exception | None = None
        try:
            while True:
                try:
                    call = process.send(answer) if failure is None else process.throw(failure)
                except StopIteration as end:
                    value: T = end.value
                    return value
                finally:
                    self.perform()
                try:
                    answer, failure = await self._answer(call), None
                except Exception as why:
                    answer, failure = None, why
        finally:
            process.close()
            self.perform()

    async def quietly(self, process: Steps[None]) -> None:
        """The same; what fails with the database is done again by the next poll."""
        try:
            await self.run(process)
        except (Busy, DatabaseUnavailable):
            self.state.counts.failed_looks += 1

    # -- effects ---------------------------------------------------------------------------------------

    def perform(self) -> None:
        """Performs what the core has decided. To be called after everything that it is told."""
        todo = self.state.effects
        while todo:
            effect = todo.popleft()
            try:
                self._perform(effect)
            except Exception as why:
                # A bug of ours must not keep the rest from being done.
                log_failure(log, "failed", why, effect=type(effect).__name__)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case effects.StartReading(feed):
                feed.hinted_at = time.monotonic()
                self.spawn(self.run(read_feed(self.state, feed)))
            case effects.Delivered(feed):
                now = time.monotonic()
                self.state.counts.lag(now - feed.hinted_at)
                feed.hinted_at = now
            case effects.Send(connections, frame):
                for connection in connections:
                    if connection.sink.keeps_up:
                        connection.sink.frame(frame)
            case effects.StartCatchingUp(subscription):
                self._catching_up[subscription] = self.spawn(self._catch_up(subscription))
            case effects.StopCatchingUp(subscription):
                if (task := self._catching_up.pop(subscription, None)) is not None:
                    task.cancel()
            case effects.Publish(hint):
                self._bus.publish(hint)
            case effects.PollMembers():
                self.members_due.set()
            case effects.MembersChanged(users):
                self._on_members(users)
            case effects.Refuse() | effects.TellInvited() | effects.Close():
                _tell(effect)
            case _:
                self._start(effect)

    def _start(self, effect: Start) -> None:
        """Begins a process that nobody waits for."""
        state = self.state
        match effect:
            case effects.StartFinding(spaces, connection, all_new):
                find = find_new_feeds if all_new else find_feeds
                self.spawn(self.quietly(find(state, spaces, connection)))
            case effects.StartCheckingHeads():
                self.spawn(self.quietly(check_joined_heads(state)))
            case effects.StartReadingPresence():
                self.spawn(self.run(read_presence(state)))
            case effects.StartWritingPresence():
                self.spawn(self.run(state.presence.write()))

    async def _catch_up(self, subscription: Subscription) -> None:
        ACTING.set(subscription.connection.caller.user)
        try:
            await self.run(catch_up(self.state, subscription))
        finally:
            # One that was stopped ends when another may have begun.
            if self._catching_up.get(subscription) is asyncio.current_task():
                del self._catching_up[subscription]

    # -- calls -----------------------------------------------------------------------------------------

    async def _answer(self, call: effects.Call[Any]) -> Any:
        """What a process asked for. Raises Busy, DatabaseUnavailable, and as the call says."""
        match call:
            case effects.ReadFeed(query):
                return await self._live.read(query)
            case effects.Deliver():
                return await self._deliver(call)
            case effects.ReadPage(subscription):
                return await self._read_page(subscription)
            case effects.SendPage(subscription, page):
                return await subscription.connection.sink.page(subscription, page)
            case effects.Rest():
                return await asyncio.sleep(0)
            case effects.Wait(seconds):
                return await asyncio.sleep(seconds)
            case effects.BackOff(seconds):
                return await asyncio.sleep(seconds * random.uniform(0.5, 1))
            case effects.Together(processes):
                return await asyncio.gather(*map(self.run, processes))
            case effects.AskService(user, until):
                return await self._ask_service(user, until)
            case _:
                return await self._ask_database(call)

    async def _ask_database(self, call: effects.Call[Any]) -> Any:
        live = self._live
        match call:
            case effects.ResolveUser(caller):
                spaces, as_of = caller.external or (None, 0)
                return await live.resolve_user(caller.user, spaces, as_of)
            case effects.CheckMembers(space, users):
                return await live.members(space, users)
            case effects.ReadMembershipChanges(horizon):
                return await live.membership_changes(horizon)
            case effects.ReadHeads(feeds):
                return await live.heads(feeds)
            case effects.FindFeeds(seen_by, spaces):
                return await (live.feeds_of(spaces) if seen_by is None else live.feeds(seen_by, spaces))
            case effects.ReadPresence(user, space, seconds):
                return await live.presence(user, space, seconds)
            case effects.WritePresence(items):
                return await live.put_presence(items)
            case effects.ReadPositions(user, cursor):
                places = await self._log.cursors.at(user, cursor.since())
                return None if places is None else [Position(*place) for place in places]
        raise TypeError(type(call).__name__)

    async def _deliver(self, delivery: effects.Deliver) -> None:
        """To one listener after the other. Nothing is made for each of them but its cursor."""
        offer, batch = self.state.offer, delivery.batch
        for n, subscription in enumerate(delivery.subscribers, 1):
            sink = subscription.connection.sink
            after = offer(delivery, subscription, sink.keeps_up)
            if after != SKIPS:
                sink.changes(subscription, batch, after, subscription.cursor)
            if n % AT_ONCE == 0:
                self.perform()
                await asyncio.sleep(0)

    async def _read_page(self, subscription: Subscription) -> effects.Missed:
        connection, state = subscription.connection, self.state
        await connection.sink.page_turn()
        async with self._turns.place():
            state.counts.catch_ups += 1
            size = min(subscription.request.bytes, connection.sink.page_bytes)
            request = subscription.request._replace(
                since=subscription.cursor.decode(), bytes=size, roles=subscription.roles
            )
            page = await pull(self._log, state.key, connection.caller, request)
            reached = request.reached(page.synced_until)
            found = position(reached, connection.caller.user, state.key)
            if not isinstance(found, Cursor):
                raise CursorLost
            subscription.request = subscription.request.reached(subscription.request.since)
            pushed = subscription.to_confirm(found.boot)
            await check_history(self._log, connection.caller, connection.client, pushed)
            if not page.more:
                subscription.confirmed(found.boot, pushed)
        return effects.Missed(page, found)

    async def _ask_service(self, user: str, until: float) -> External | None:
        """Nothing, where the service is silent; raises MembershipsUnavailable where it has been for too long."""
        loop = asyncio.get_running_loop()
        if self._ask is None:
            return None
        try:
            async with self._asking, asyncio.timeout_at(max(until, loop.time() + SHORTEST_ASK)):
                return await self._ask(user)
        except (MembershipsUnavailable, TimeoutError):
            if loop.time() >= until:
                raise MembershipsUnavailable from None
            return None


def _tell(effect: effects.Refuse | effects.TellInvited | effects.Close) -> None:
    match effect:
        case effects.Refuse(subscription, why):
            subscription.connection.sink.frame(frames.refusal(subscription, told(why)))
        case effects.TellInvited(connections):
            for connection in connections:
                connection.sink.invitations()
        case effects.Close(connections, code, reason):
            for connection in connections:
                connection.sink.end(code, reason)
