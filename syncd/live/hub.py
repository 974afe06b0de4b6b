"""The hub: what the edge and the rest of a process tell the live core, and the polls that go on by themselves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Set
from typing import Any

import structlog

from syncd.bus.hints import Bus, Hint
from syncd.core.clock import EPOCH_TEXT
from syncd.core.errors import Busy, DatabaseUnavailable, MembershipsUnavailable
from syncd.core.failures import log_failure
from syncd.live.available import poll_feeds
from syncd.live.connection import Connection, Subscription
from syncd.live.large_texts import LargeTexts
from syncd.live.memberships import ask_service, connect, poll_members, renew
from syncd.live.reading import poll_heads
from syncd.live.runner import Ask, Outside, Runner
from syncd.live.state import LiveState
from syncd.protocol.pull_messages import PullRequest
from syncd.service.counts import Counts
from syncd.service.pull import position
from syncd.store.live import Live
from syncd.store.log import Log
from syncd.store.pool import Unforeseen

log = structlog.get_logger("syncd.live")

MEMBERS_EVERY = 0.5
HEADS_EVERY, HEADS_EVERY_ALONE = 2.0, 0.5
PRESENCE_REPEATED_EVERY, PRESENCE_READ_EVERY = 10.0, 5.0
ASKED_EVERY = 1.0


class Hub:
    """The live half of a server process.

    `ask`: where memberships come from a service, the spaces of a user now. `on_members`: is told who came, went or
    changed role, by number, also of users without a connection here. `on_committed`: is told (space, app) of each push
    of this process.
    """

    def __init__(
        self, log_: Log, live: Live, bus: Bus, cursor_key: bytes, ask: Ask | None = None, *,
        counts: Counts | None = None, on_members: Callable[[Set[int]], None] = lambda users: None,
        on_committed: Callable[[str, str], None] = lambda space, app: None,
    ) -> None:  # fmt: skip
        self.log, self.live, self.bus = log_, live, bus
        self.counts = counts or Counts()
        self.state = LiveState(cursor_key, self.counts)
        self.large_texts = LargeTexts()
        self._runner = Runner(self.state, Outside(log_, live, bus, ask, on_members))
        self._asks, self._on_committed = ask is not None, on_committed

    async def open(self) -> None:
        """Starts listening and polling."""
        await self._runner.run(poll_members(self.state))
        await self.bus.open(self.receive)
        for poll in (self._poll_members, self._poll_heads, self._poll_presence, self._repeat_presence):
            self.keep_doing(poll)
        if self._asks:
            self.keep_doing(self._ask_service)

    async def close(self) -> None:
        """Ends what runs. The connections are their owner's to close."""
        await self._runner.close()
        await self.bus.close()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs something beside; a failure is logged, and ends nothing else."""
        return self._runner.spawn(work)

    # -- what connections do ---------------------------------------------------------------------------

    async def connect(self, connection: Connection) -> None:
        """A connection whose caller is known. Raises Busy, DatabaseUnavailable."""
        await self._runner.run(connect(self.state, connection))

    async def renew(self, connection: Connection) -> None:
        """The same user with a new token: memberships may have come with it. Raises Busy, DatabaseUnavailable."""
        await self._runner.run(renew(self.state, connection))

    def gone(self, connection: Connection) -> None:
        """A connection is lost or closed."""
        self.state.gone(connection)
        self._runner.perform()

    def subscription(self, connection: Connection, request: PullRequest) -> Subscription:
        """A subscription from where the device stands. Its cursor is checked here, so a bad one is told at once. Raises
        BadCursor."""
        at = position(request, connection.caller.user, self.state.key)
        cursor = EPOCH_TEXT if request.plain and at == 0 else request.since
        return Subscription(connection, request, cursor.encode())

    def subscribe(self, subscription: Subscription) -> None:
        """Begins to keep a device current; an earlier subscription to the same app ends."""
        self.state.subscribe(subscription)
        self._runner.perform()

    def unsubscribe(self, connection: Connection, app: str) -> None:
        """Ends a subscription, if there is one."""
        self.state.unsubscribe(connection, app)
        self._runner.perform()

    def say(self, connection: Connection, space_id: str, state: bytes) -> None:
        """A device says where it is in a space, as JSON text, and hears of the others from now on. Raises NotFound."""
        self.state.presence.say(connection, space_id, state)
        self._runner.perform()

    # -- what happened ---------------------------------------------------------------------------------

    def receive(self, hint: Hint) -> None:
        """What this or another process says has happened."""
        self.state.receive(hint)
        self._runner.perform()

    def committed(self, space: str, app: str, seq: int) -> None:
        """A push of this process has been committed."""
        self._on_committed(space, app)
        self.state.committed(space, app, seq)
        self._runner.perform()

    def members_were_changed(self) -> None:
        """Memberships were changed by this process."""
        self.state.members_were_changed()
        self._runner.perform()

    # -- polls -----------------------------------------------------------------------------------------

    def keep_doing(self, poll: Callable[[], Awaitable[None]]) -> None:
        """Does something again and again, whatever becomes of it."""
        self.spawn(self._forever(poll))

    async def _forever(self, poll: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await poll()
            except (Busy, DatabaseUnavailable, MembershipsUnavailable, Unforeseen):
                self.counts.failed_looks += 1
                await asyncio.sleep(MEMBERS_EVERY)
            except Exception as why:
                # A bug of ours must not make the process deaf.
                name = getattr(poll, "__name__", type(poll).__name__)
                log_failure(log, "a look failed", why, look=name)
                self.counts.failed_looks += 1
                await asyncio.sleep(MEMBERS_EVERY)

    async def _poll_members(self) -> None:
        due = self._runner.members_due
        # Not wait_for(): that one loses a cancellation which comes together with what it waits for.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MEMBERS_EVERY):
                await due.wait()
        due.clear()
        await self._runner.run(poll_members(self.state))

    async def _poll_heads(self) -> None:
        await asyncio.sleep(HEADS_EVERY if self.bus.state == "up" else HEADS_EVERY_ALONE)
        await self._runner.run(poll_heads(self.state))
        await self._runner.run(poll_feeds(self.state))

    async def _poll_presence(self) -> None:
        await asyncio.sleep(PRESENCE_READ_EVERY)
        self.state.presence.poll()
        self._runner.perform()

    async def _repeat_presence(self) -> None:
        await asyncio.sleep(PRESENCE_REPEATED_EVERY)
        self.state.presence.repeat()
        self._runner.perform()

    async def _ask_service(self) -> None:
        """Asks the membership service for every connected user: nobody reads on for longer than a second."""
        clock = asyncio.get_running_loop().time
        started = clock()
        users = list(self.state.users)
        await asyncio.gather(*(self._runner.run(ask_service(self.state, user, started)) for user in users))
        await asyncio.sleep(max(0.05, ASKED_EVERY - (clock() - started)))
