"""What one WebSocket says and is told: frames in, one after the other; frames out, as its feeds bring them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import NamedTuple, Protocol

import msgspec
import structlog
from msgspec import Raw

from syncd.core.clock import format_instant
from syncd.core.errors import Busy, Fault, Malformed, SyncdError, TooMany, Unauthorized
from syncd.core.failures import log_failure
from syncd.core.ids import fault_in_client, fault_in_id
from syncd.core.principal import Principal
from syncd.core.values import InvalidValue, check_text, check_value
from syncd.edge.admission import Admission, TokenBucket
from syncd.edge.authenticator import Authenticator
from syncd.edge.bodies import UNCOUNTED, Bodies, Holder
from syncd.edge.concurrency import Place
from syncd.edge.pace import LARGEST_PAGE
from syncd.edge.problems import close_code
from syncd.live.batch import WHOLE, Batch
from syncd.live.hub import Hub
from syncd.live.member import MAX_OWN, Connection, Listener
from syncd.live.subscription import Subscription
from syncd.protocol import live_messages
from syncd.protocol.first_generation import client_of
from syncd.protocol.large import frame_in
from syncd.protocol.messages import PushBody
from syncd.protocol.pull_messages import PullPage, PullRequest
from syncd.protocol.push_answer import PushAnswer, encoded
from syncd.service.aside import aside, is_large
from syncd.service.event_ids import EventIds
from syncd.service.push import PushRequest, PushService
from syncd.store.pool import told
from syncd.store.turns import ACTING

log = structlog.get_logger("syncd.live")

MAX_SUBSCRIPTIONS = 64
# Frames that wait while an earlier one is worked on; beyond it nothing more is read from the connection.
MOST_WAITING, MOST_WAITING_BYTES = 64, 1024 * 1024
# Frames that are no message, from a device that may know no better: so many at once, and one more in so many seconds.
MOST_FORGIVEN, FORGIVEN_EVERY = 20, 5.0


class Transport(Protocol):
    """The connection itself."""

    @property
    def address(self) -> str: ...
    @property
    def room(self) -> bool: ...
    @property
    def page_bytes(self) -> int: ...
    async def drained(self) -> None: ...
    async def page_turn(self) -> None: ...
    def send(self, *parts: bytes | bytearray) -> None: ...
    async def send_page(self, head: bytes, changes: bytes | bytearray, tail: bytes) -> None: ...
    def close(self, code: int, reason: str) -> None: ...
    def pause(self, paused: bool) -> None: ...


class LiveDeps(NamedTuple):
    """What every session works with."""

    hub: Hub
    callers: Authenticator
    gate: Admission
    bodies: Bodies
    answers: Bodies
    pushes: PushService


class SocketSession:
    """One socket's. `app`: the only one it is for, None for every app."""

    __slots__ = (
        "_allowance",
        "_forgiven",
        "_holder",
        "_task",
        "_transport",
        "_waiting",
        "_waiting_bytes",
        "app",
        "ended",
        "expires",
        "member",
        "talk",
    )

    def __init__(self, talk: LiveDeps, transport: Transport, app: str | None) -> None:
        self.talk, self._transport, self.app = talk, transport, app
        self.member: Connection | None = None
        self.expires = 0.0
        self.ended = False
        self._allowance: TokenBucket | None = None
        self._forgiven: TokenBucket | None = None
        self._waiting: deque[bytes] | None = None
        self._waiting_bytes = 0
        # Large frames, until they are worked on.
        self._holder = Holder(talk.bodies, transport.address)
        self._task: asyncio.Task[None] | None = None

    # -- frames in ---------------------------------------------------------------------------------------

    def receive(self, text: bytes) -> None:
        """A frame came. They are worked on in order, one at a time."""
        if self.ended:
            return
        if self._allowance is not None and not self._allowance.take():
            self.end(*close_code(TooMany("Too many frames in a short time.")))
            return
        if text == b'{"type":"ping"}' and self.member is not None and self._transport.room:
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
            self._task = self.talk.hub.spawn(self._work())
        elif len(self._waiting) > MOST_WAITING or self._waiting_bytes > MOST_WAITING_BYTES:
            self._transport.pause(True)

    async def _work(self) -> None:
        while self._waiting:
            text = self._waiting.popleft()
            self._waiting_bytes -= len(text)
            if not self._waiting:
                self._transport.pause(False)
            if not self._transport.room:
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
        if self.member is not None:
            ACTING.set(self.member.caller.user)
        try:
            if is_large(text, self._legacy):
                message = await aside(True, frame_in, text, self.talk.pushes.limits, self._legacy)
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
        return "" if self.member is None else self.member.caller.user

    @property
    def _legacy(self) -> bool:
        """Whether the device is of the first generation, as far as it has said."""
        return self.member is not None and not self.member.fields_alone

    async def _refuse(self, why: SyncdError, text: bytes) -> None:
        """What is no message ends the connection, but that of a device that may know no better; what cannot be done is
        told, and the rest goes on."""
        unusable = isinstance(why, Unauthorized) or why.code in ("malformed_json", "invalid_message")
        if (self.member is None or unusable) and not self._forgives(why, text):
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
        if not isinstance(why, Malformed) or not (self.member is None or self._legacy):
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
        member = self.member
        if member is None:
            if not isinstance(message, live_messages.Ping):
                raise Unauthorized("The first frame must be `auth`.")
            if not self._forgive():
                self.end(4400, "too many pings before auth")
                return
            self._transport.send(live_messages.PONG)
            return
        match message:
            case live_messages.Subscribe():
                self._subscribe(member, message)
            case live_messages.Unsubscribe():
                self.talk.hub.unsubscribe(member, self._app(message.appId))
            case live_messages.PushFrame():
                await self._push(member, message, text)
            case live_messages.PresenceFrame():
                await self._present(member, message)
            case live_messages.Ping():
                self._transport.send(live_messages.PONG)

    async def _auth(self, message: live_messages.Auth) -> None:
        caller, expires = await self.talk.callers.named(b"Bearer " + message.token.encode("utf-8", "surrogateescape"))
        member = self.member
        if member is None:
            member = await self._enter(message, caller)
        elif caller.user != member.caller.user:
            self.end(4403, "a connection stays its user's")
            return
        else:
            member.caller = caller
            await self.talk.hub.renew(member)
        self.expires = expires
        self._transport.send(live_messages.auth_ok(caller.user, format_instant(time.time_ns() // 1000)))
        self._present_at_last(member)

    async def _enter(self, message: live_messages.Auth, caller: Principal) -> Connection:
        client = message.clientId or ""
        if message.clientId is not None and (wrong := fault_in_client(message.clientId)):
            if message.protocol >= 1:
                raise Malformed(f"clientId {wrong}.", code="invalid_message")
            client = ""
        self._allowance = self.talk.gate.admit(caller.user)
        member = Connection(self, caller, client, self.app)
        member.fields_alone = message.protocol >= 1
        try:
            await self.talk.hub.enter(member)
        except BaseException:
            self._dismiss(caller.user)
            raise
        return member

    def _present_at_last(self, member: Connection) -> None:
        """The hub knows it; so do we, unless it was lost meanwhile."""
        self.member = member
        if self.ended:
            self._leave()

    def _app(self, given: str | None) -> str:
        app = given if given is not None else self.app
        if app is None:
            raise Malformed("appId is needed: this connection is for every app.", faults=(Fault("/appId", "missing"),))
        if wrong := fault_in_id(app):
            raise Malformed(f"appId {wrong}.", faults=(Fault("/appId", wrong),))
        if self.app is not None and app != self.app:
            raise Malformed(
                "This connection is for another app; use /ws for every app.", faults=(Fault("/appId", "another app"),)
            )
        return app

    def _subscribe(self, member: Connection, message: live_messages.Subscribe) -> None:
        app = self._app(message.appId)
        if len(member.subscriptions) >= MAX_SUBSCRIPTIONS and app not in member.subscriptions:
            raise Malformed(f"At most {MAX_SUBSCRIPTIONS} subscriptions a connection.")
        tables = live_messages.tables_in(message.collections)
        firsts = live_messages.tables_in(message.first, "first", live_messages.MAX_FIRSTS)
        size = live_messages.page_bytes(message.bytes, LARGEST_PAGE)
        pushed = live_messages.pushed_in(message.pushed or []) if member.fields_alone else ()
        question = PullRequest(
            app, message.since or "", tables, plain=not member.fields_alone, bytes=size, firsts=firsts, pushed=pushed
        )
        try:
            subscription = Subscription(self.talk.hub, member, question)
        except SyncdError as why:
            self._transport.send(live_messages.error(why.code, why.detail, appId=app))
            return
        self.talk.hub.subscribe(member, subscription)

    async def _push(self, member: Connection, message: live_messages.PushFrame, text: bytes) -> None:
        app = self._app(message.appId)
        client = member.client or (client_of(None, member.caller.user) if self._legacy else "")
        if not client:
            raise Malformed("The `auth` frame did not name the device: `clientId`.")
        talk, caller = self.talk, member.caller
        talk.callers.rates.request(caller.user)
        talk.callers.rates.moved(caller.user, len(text), 0)
        if talk.callers.asks:
            # As for every request: what the service said a moment ago is not what it says.
            caller = caller._replace(external=await talk.callers.ask(caller.user))
        now, large = time.time_ns() // 1000, is_large(text, self._legacy)
        event = EventIds(now)
        kept = min(len(message.changes), MAX_OWN)  # no more of them are remembered
        events = await aside(large, event.after(len(message.changes) - kept).first, kept)
        body = PushBody(
            message.changes, schemaVersion=message.schemaVersion, atomic=message.atomic, pull=self._legacy,
            incarnations=message.incarnations,
        )  # fmt: skip
        # Known before the database knows: the hub may hear of the push before we do.
        member.wrote(events)
        try:
            with Place(talk.callers.limit, caller.user):
                wanted = PullRequest(app, plain=self._legacy, own=self._legacy)
                answer = await talk.pushes.push(PushRequest(caller, client, wanted, text, body, now, event))
        except SyncdError:
            member.met(events)
            raise
        taken = {result.eventId for result in answer.results[-MAX_OWN:] if result.status == "applied"}
        member.met(event for event in events if event.decode() not in taken)
        subscription = member.subscriptions.get(app)
        if subscription is not None:
            subscription.acknowledges(answer.results)
        if answer.delta is not None and answer.delta.changes and subscription is not None:
            await self._put_right(subscription, answer.delta.changes)
        self._transport.send(await aside(large, self._result, member, app, message, answer))
        talk.hub.counts.pushed(answer)
        for space, seq in answer.written.items():
            talk.hub.wrote(space, app, seq)

    async def _put_right(self, subscription: Listener, changes: bytes) -> None:
        """Tells a device of the first generation how the records are of which it shows something else after its push:
        before the result, with which it forgets that. Its place stays where its feeds have brought it."""
        self.talk.callers.rates.moved(self.user, 0, len(changes))
        tail = live_messages.changes_tail(subscription.cursor, not subscription.live)
        await self._transport.send_page(live_messages.changes_head(subscription.question.app), changes, tail)

    def _result(self, member: Connection, app: str, message: live_messages.PushFrame, answer: PushAnswer) -> bytes:
        """As a push's answer, less what came from others: its place stays where its feeds have brought it."""
        said = {"type": "push-result", "requestId": message.requestId, "appId": app,
                "results": Raw(encoded(answer.results)), "conflicts": Raw(encoded(answer.conflicts))}  # fmt: skip
        subscription = member.subscriptions.get(app)
        if subscription is not None:
            said["syncedUntil"], said["hasMore"] = subscription.cursor.decode(), not subscription.live
        elif answer.delta is not None:
            said["serverChanges"] = Raw(b"[%b]" % answer.delta.changes)
        return msgspec.json.encode(said)

    async def _present(self, member: Connection, message: live_messages.PresenceFrame) -> None:
        if not member.client:
            raise Malformed("The `auth` frame did not name the device: `clientId`.")
        state = bytes(message.state)
        if len(state) > live_messages.MAX_STATE:
            raise Malformed(f"A presence state has at most {live_messages.MAX_STATE} bytes.", code="state_too_large")
        try:
            check_text(state)
            check_value(state, self.talk.pushes.limits.max_depth)
        except InvalidValue as wrong:
            raise Malformed(f"{wrong}.", code="invalid_value", faults=(Fault("/state", str(wrong)),)) from None
        await self.talk.hub.presence.say(member, message.spaceId, state)

    # -- frames out, as the hub wants them ------------------------------------------------------------------

    @property
    def room(self) -> bool:
        return self._transport.room

    @property
    def page_bytes(self) -> int:
        return self._transport.page_bytes

    async def page_turn(self) -> None:
        await self._transport.page_turn()
        # Who is sent more than may be is not refused what it has missed: it comes more slowly.
        if pause := self.talk.callers.rates.pause(self.user):
            await asyncio.sleep(pause)

    def frame(self, frame: bytes) -> None:
        if self.member is not None:
            self._transport.send(frame)

    def invitations(self) -> None:
        if not self._legacy:
            self.frame(live_messages.INVITATIONS)

    def changes(self, subscription: Listener, batch: Batch, after: int, cursor: bytes) -> None:
        member, question = subscription.member, subscription.question
        if batch.whole:
            member.own = None
        if after == batch.after and member.own is None:
            name = (question.plain, question.tables)
            head = batch.made.get(name)
            if head is None:
                head = batch.made[name] = _head(question, batch, after, ())
        else:
            head = _head(question, batch, after, member.own or ())
            if member.own is not None:
                member.met(change.text[12:48] for change in batch.changes(False))
        if head or not question.tables:
            head = head or live_messages.changes_head(question.app)
            self._transport.send(head, live_messages.TAIL, cursor, live_messages.END)
            self.talk.callers.rates.moved(member.caller.user, 0, len(head))
            self.talk.hub.counts.deliveries += 1

    async def page(self, subscription: Listener, delta: PullPage) -> None:
        tail = live_messages.changes_tail(delta.synced_until.encode(), delta.more, delta.spaces)
        changes = self.talk.hub.shared(delta.changes)
        holder = self._held(len(changes))
        self.talk.callers.rates.moved(self.user, 0, len(changes))
        try:
            await self._transport.send_page(live_messages.changes_head(subscription.question.app), changes, tail)
        finally:
            if holder.held:
                self.talk.hub.spawn(self._taken(holder))
        if WHOLE in delta.changes:
            subscription.member.own = None

    def _held(self, size: int) -> Holder:
        """Counts a page among the answers where it is large. Raises Busy: it will be read again."""
        holder = Holder(self.talk.answers, self._transport.address, self.user)
        if size > self.talk.answers.large:
            try:
                holder.take(size)
            except TooMany as why:
                raise Busy(why.detail) from None
        return holder

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
            self.talk.hub.counts.closed += 1
            self._transport.close(code, reason)

    # -- the end -----------------------------------------------------------------------------------------

    async def finish(self) -> None:
        """Lets what is being worked on be answered."""
        if self._task is not None and self._transport.room:
            await asyncio.wait([self._task])

    def gone(self) -> None:
        """The connection is lost or closed. A push on its way is let through; nobody hears of it."""
        self.ended = True
        if self._waiting is not None:
            self._waiting.clear()
            self._waiting_bytes = 0
        if self.member is not None:
            self._leave()

    def _leave(self) -> None:
        member, self.member = self.member, None
        if member is not None:
            self.talk.hub.leave(member)
            self._dismiss(member.caller.user)

    def _dismiss(self, user: str) -> None:
        self._allowance = None
        self.talk.gate.dismiss(user)


def _head(question: PullRequest, batch: Batch, after: int, own: dict[bytes, None] | tuple[()]) -> bytes:
    """The start of a frame with what a listener takes of a batch; empty where that is nothing."""
    chosen = batch.selection(question.plain, question.tables, after=after if after > batch.after else None, own=own)
    return live_messages.changes_head(question.app) + b",".join([change.text for change in chosen]) if chosen else b""
