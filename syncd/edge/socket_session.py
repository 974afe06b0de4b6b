"""What one WebSocket says and is told: frames in, one after the other; frames out, as its feeds bring them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque

import structlog

from syncd.core.clock import format_instant
from syncd.core.errors import Busy, Malformed, SyncdError, TooMany, Unauthorized
from syncd.core.failures import log_failure
from syncd.core.ids import fault_in_client
from syncd.core.principal import Principal
from syncd.edge.admission import TokenBucket, UserAllowance
from syncd.edge.bytes_held import UNCOUNTED, Holder
from syncd.edge.live_deps import LiveDeps, Transport
from syncd.edge.pace import ClientWait
from syncd.edge.problems import close_code
from syncd.edge.rechecking import asked_again
from syncd.edge.socket_commands import SocketCommands
from syncd.live import frames
from syncd.live.batch import WHOLE, Batch
from syncd.live.connection import Connection, Subscription
from syncd.protocol import live_messages
from syncd.protocol.large import frame_in
from syncd.protocol.pull_messages import PullPage
from syncd.service.aside import aside, is_large
from syncd.store.pool import told
from syncd.store.turns import ACTING

log = structlog.get_logger("syncd.live")

# Frames that wait while an earlier one is worked on; beyond it nothing more is read from the connection.
MOST_WAITING, MOST_WAITING_BYTES = 64, 1024 * 1024
# Frames that are no message, from a device that may know no better: so many at once, and one more in so many seconds.
MOST_FORGIVEN, FORGIVEN_EVERY = 20, 5.0


class SocketSession:
    """One socket's. `app`: the only one it is for, None for every app."""

    __slots__ = (
        "_bucket",
        "_forgiven",
        "_gone",
        "_holder",
        "_rechecks",
        "_task",
        "_transport",
        "_waiting",
        "_waiting_bytes",
        "app",
        "connection",
        "deps",
        "ended",
        "expires",
    )

    def __init__(self, deps: LiveDeps, transport: Transport, app: str | None) -> None:
        self.deps, self._transport, self.app = deps, transport, app
        self.connection: Connection | None = None
        self.expires = 0.0
        self.ended = False
        self._bucket: UserAllowance | None = None
        self._forgiven: TokenBucket | None = None
        self._waiting: deque[bytes] | None = None
        self._waiting_bytes = 0
        # Large frames, until they are worked on.
        self._holder = Holder(deps.bodies, transport.address)
        self._task: asyncio.Task[None] | None = None
        # Ends the wait of a subscription for its turn.
        self._gone: asyncio.Event | None = None
        self._rechecks: contextlib.ExitStack | None = None

    # -- frames in ---------------------------------------------------------------------------------------

    def receive(self, text: bytes) -> None:
        """A frame came. They are worked on in order, one at a time."""
        if self.ended:
            return
        if self._bucket is not None and not self._bucket.take():
            self.end(*close_code(TooMany("Too many frames in a short time.")))
            return
        if text == b'{"type":"ping"}' and self.connection is not None and self._transport.keeps_up:
            self._transport.send(live_messages.PONG)
            return
        if len(text) > UNCOUNTED:
            try:
                self._holder.user = self._holder.user or self.user
                self._holder.take(len(text))
            except SyncdError as why:
                self.end(*close_code(why))
                return
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(text)
        self._waiting_bytes += len(text)
        if self._task is None:
            self._task = self.deps.hub.spawn(self._work())
        elif len(self._waiting) > MOST_WAITING or self._waiting_bytes > MOST_WAITING_BYTES:
            self._transport.pause(True)

    async def _work(self) -> None:
        while self._waiting:
            text = self._waiting.popleft()
            self._waiting_bytes -= len(text)
            if not self._waiting:
                self._transport.pause(False)
            if not self._transport.keeps_up:
                # An answer to each frame of a device that reads none would be an answer too many.
                try:
                    await self._transport.drained()
                except ConnectionResetError:
                    break
            await self._one(text)
            if len(text) > UNCOUNTED:
                self._holder.give_back(min(len(text), self._holder.held))
        self._holder.give_back()
        self._waiting = None
        self._task = None

    async def _one(self, text: bytes) -> None:
        if self.connection is not None:
            ACTING.set(self.connection.caller.user)
        try:
            if is_large(text, self._legacy):
                message = await aside(True, frame_in, text, self.deps.pushes.limits, self._legacy)
            else:
                message = live_messages.incoming(text, legacy=self._legacy)
            await self._obey(message, text)
        except SyncdError as why:
            await self._refuse(told(why), text)
        except Exception as why:
            await self._refuse(SyncdError(log_failure(log, "failed", why).detail), text)

    @property
    def user(self) -> str:
        """Whose it is, "" before that is known."""
        return "" if self.connection is None else self.connection.caller.user

    @property
    def _legacy(self) -> bool:
        """Whether the device is of the first generation, as far as it has said."""
        return self.connection is not None and not self.connection.fields_alone

    async def _refuse(self, why: SyncdError, text: bytes) -> None:
        """What is no message ends the connection, but that of a device that may know no better; what cannot be done is
        told, and the rest goes on."""
        unusable = isinstance(why, Unauthorized) or why.code in ("malformed_json", "invalid_message")
        if (self.connection is None or unusable) and not self._forgives(why, text):
            self.end(*close_code(why))
            return
        errors = [fault.wire() for fault in why.faults] or None
        named = await asyncio.to_thread(live_messages.names, text) if is_large(text) else live_messages.names(text)
        self._transport.send(
            live_messages.error(why.code, why.detail, errors=errors, retryAfter=why.retry_after, **named)
        )

    def _forgives(self, why: SyncdError, text: bytes) -> bool:
        """Whether a frame that is no message is only told of: before the connection has said what it speaks, and where
        it is of the first generation. What was to say it, and cannot be read, is not."""
        if not isinstance(why, Malformed) or not (self.connection is None or self._legacy):
            return False
        return (is_large(text) or not live_messages.is_auth(text)) and self._forgive()

    def _forgive(self) -> bool:
        """Whether one more is within bounds."""
        if self._forgiven is None:
            self._forgiven = TokenBucket(1 / FORGIVEN_EVERY, MOST_FORGIVEN * FORGIVEN_EVERY)
        return self._forgiven.take()

    async def _obey(self, message: live_messages.Incoming, text: bytes) -> None:
        if isinstance(message, live_messages.Auth):
            await self._auth(message)
            return
        connection = self.connection
        if connection is None:
            if not isinstance(message, live_messages.Ping):
                raise Unauthorized("The first frame must be `auth`.")
            if not self._forgive():
                self.end(4400, "too many pings before auth")
                return
            self._transport.send(live_messages.PONG)
            return
        commands = SocketCommands(self.deps, self._transport, connection, self.app)
        match message:
            case live_messages.Subscribe():
                commands.check(message, self._bucket)
                if await self._may_begin(connection):
                    # Others that waited as well count only now.
                    commands.subscribe(message, self._bucket)
            case live_messages.Unsubscribe():
                commands.unsubscribe(message, self._bucket)
            case live_messages.PushFrame():
                await commands.push(message, text)
            case live_messages.PresenceFrame():
                await commands.present(message)
            case live_messages.Ping():
                self._transport.send(live_messages.PONG)

    async def _may_begin(self, connection: Connection) -> bool:
        """Waits, where a subscription of a user in very many spaces would hold up others; False where the connection is
        over by then, or the server stops. Raises TooMany."""
        if self._bucket is not None and (pause := self._bucket.begin(len(connection.spaces))):
            self._gone = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._gone.wait()
        return self.connection is connection and not self.ended

    async def _auth(self, message: live_messages.Auth) -> None:
        token = message.token.encode("utf-8", "surrogateescape")
        authorization, scope = b"Bearer " + token, self._transport.scope
        caller, expires = await self.deps.authenticator.authenticate(authorization, scope)
        connection = self.connection
        if connection is None:
            connection = await self._enter(message, caller)
        elif caller.user != connection.caller.user:
            self.end(4403, "a connection stays its user's")
            return
        else:
            connection.caller = caller
            await self.deps.hub.renew(connection)
            if self.connection is not connection:
                return  # it was lost meanwhile
        self.expires = expires
        self._transport.send(live_messages.auth_ok(caller.user, format_instant(time.time_ns() // 1000)))
        if self.connection is None:
            self._present_at_last(connection)
        self._recheck(connection, authorization)

    def _recheck(self, connection: Connection, authorization: bytes) -> None:
        """Asks again and again whose it is, where what was said has no end of its own."""
        if self._rechecks is not None:
            self._rechecks.close()
        if self.deps.authenticator.recheck(authorization) and self.connection is connection:
            self._rechecks = contextlib.ExitStack()
            self._rechecks.enter_context(asked_again(self.deps, connection, authorization, self._transport.scope))

    async def _enter(self, message: live_messages.Auth, caller: Principal) -> Connection:
        client = message.clientId or ""
        if message.clientId is not None and (wrong := fault_in_client(message.clientId)):
            if message.protocol >= 1:
                raise Malformed(f"clientId {wrong}.", code="invalid_message")
            client = ""
        self._bucket = self.deps.admission.admit(caller.user)
        connection = Connection(self, caller, client, self.app)
        connection.fields_alone = message.protocol >= 1
        try:
            await self.deps.hub.connect(connection)
        except BaseException:
            self._dismiss(caller.user)
            raise
        self._bucket.listening.add(connection)
        return connection

    def _present_at_last(self, connection: Connection) -> None:
        """The hub knows it; so do we, unless it was lost meanwhile."""
        self.connection = connection
        if self.ended:
            self._leave()

    # -- frames out, as the hub wants them ------------------------------------------------------------------

    @property
    def keeps_up(self) -> bool:
        return self._transport.keeps_up

    @property
    def page_bytes(self) -> int:
        return self._transport.page_bytes

    async def page_turn(self) -> None:
        await self._transport.page_turn()
        # A device that is sent more than may be is not refused what it has missed: that comes more slowly.
        if pause := self.deps.authenticator.rates.pause(self.user):
            await asyncio.sleep(pause)

    def frame(self, frame: bytes) -> None:
        if self.connection is not None:
            self._transport.send(frame)

    def invitations(self) -> None:
        if not self._legacy:
            self.frame(live_messages.INVITATIONS)

    def changes(self, subscription: Subscription, batch: Batch, after: int, cursor: bytes) -> None:
        head = frames.changes(subscription, batch, after)
        if head is not None:
            self._transport.send(head, live_messages.TAIL, cursor, live_messages.END)
            self.deps.authenticator.rates.moved(subscription.connection.caller.user, 0, len(head))
            self.deps.hub.counts.deliveries += 1

    async def page(self, subscription: Subscription, delta: PullPage) -> None:
        tail = live_messages.changes_tail(delta.synced_until.encode(), delta.more, delta.spaces)
        changes = self.deps.hub.large_texts(delta.changes)
        holder = self._held(len(changes))
        self.deps.authenticator.rates.moved(self.user, 0, len(changes))
        try:
            await self._transport.send_page(live_messages.changes_head(subscription.request.app), changes, tail)
        finally:
            if holder.held:
                self._wait_for_device(holder)
        if WHOLE in delta.changes:
            subscription.connection.own = None

    def _held(self, size: int) -> Holder:
        """Counts a page among the answers where it is large. Raises Busy: it will be read again."""
        holder = Holder(self.deps.answers, self._transport.address, self.user)
        if size > self.deps.answers.large:
            try:
                holder.take(size)
            except TooMany as why:
                raise Busy(why.detail) from None
        return holder

    def _wait_for_device(self, holder: Holder) -> None:
        """Counts a page until the device has taken it. One that is slow is cut off where others wait for the room."""
        line, before = self._transport, self._transport.taken
        holder.waits(ClientWait(line.abort, moving=lambda: line.taken - before)).begin(time.monotonic())
        self.deps.hub.spawn(self._taken(holder))

    async def _taken(self, holder: Holder) -> None:
        """Counts it no longer when the device has taken it, or is gone."""
        try:
            with contextlib.suppress(ConnectionResetError):
                await self._transport.page_turn()
        finally:
            holder.give_back()

    def end(self, code: int, reason: str) -> None:
        if not self.ended:
            self.ended = True
            self.deps.hub.counts.closed += 1
            self._transport.close(code, reason)

    # -- the end -----------------------------------------------------------------------------------------

    async def finish(self) -> None:
        """Lets what is being worked on be answered; what waits for its turn does not wait for it."""
        if self._gone is not None:
            self._gone.set()
        if self._task is not None and self._transport.keeps_up:
            await asyncio.wait([self._task])

    def gone(self) -> None:
        """The connection is lost or closed. A push on its way is let through; nobody hears of it."""
        self.ended = True
        if self._waiting is not None:
            self._waiting.clear()
            self._waiting_bytes = 0
        if self._gone is not None:
            self._gone.set()
        if self.connection is not None:
            self._leave()

    def _leave(self) -> None:
        connection, self.connection = self.connection, None
        if self._rechecks is not None:
            self._rechecks.close()
        if connection is not None:
            self.deps.hub.gone(connection)
            if self._bucket is not None:
                self._bucket.listening.discard(connection)
            self._dismiss(connection.caller.user)

    def _dismiss(self, user: str) -> None:
        self._bucket = None
        self.deps.admission.dismiss(user)
