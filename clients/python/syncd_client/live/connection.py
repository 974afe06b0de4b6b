"""One live connection, performed: the socket, the file, and the tasks between them."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Never

from ..data.change import Packed
from ..data.events import Presence
from ..error_codes import TEXTS
from ..errors import SyncdError
from ..store import copied, outbox
from ..store.choice import known, revision
from ..store.store import get_meta
from ..sync import apply, partial
from ..sync.reply import Page
from ..sync.tokens import claim
from .endpoint import Endpoint
from .exchange_lock import ExchangeLock
from .reconnect import Ending, failed
from .session import (
    Authenticated,
    Complaint,
    Delivered,
    LiveSession,
    Meaning,
    PushAnswered,
    PushRefused,
    SubscribeRefused,
    Want,
    read_frame,
)
from .socket import FAILURES, LiveSocket, explain, open_socket
from .tasks import in_thread, until_one_fails

log = logging.getLogger("syncd_client")
_COPIED = Ending("offline", "device_copied", TEXTS["device_copied"][0], opened=True)
_CHOSEN = Ending("offline", "restarted", "The replica began again, or keeps something else.", opened=True)
_LAST = 2**62
_RENEW_PAUSE = 1.0  # seconds between two questions for a token at least


def now() -> float:
    """The loop's clock, in seconds."""
    return asyncio.get_running_loop().time()


class ConnectionOver(Exception):
    """The connection is of no use any more, for the reason given."""

    def __init__(self, ending: Ending) -> None:
        self.ending = ending
        super().__init__(ending.detail)


class Connection:
    """From the handshake to the end of one socket. `on_live` is told each time that it has caught up."""

    def __init__(
        self,
        endpoint: Endpoint,
        exchange_lock: ExchangeLock,
        announced: dict[str | None, Any],
        on_open: Callable[[], Awaitable[None]],
        on_live: Callable[[], None],
        on_trouble: Callable[[Ending], Awaitable[None]],
    ) -> None:
        self._end, self._exchange_lock, self._announced = endpoint, exchange_lock, announced
        self._client, self._new = endpoint.identity.client_id, True
        self._on_open, self._on_live, self._on_trouble = on_open, on_live, on_trouble
        self._wake, self._answered = asyncio.Event(), asyncio.Event()
        self._unannounced = dict(announced)
        self._presences: set[Presence] = set()
        self._heard = 0.0
        self._listening_since: float | None = None
        self._last = 0
        self._baseline, self._attempt = partial.Baseline(), 0
        self._sent = self._allowed = 0.0
        self._cursor_lost = False
        self._held: Ending | None = None
        self._timers: set[asyncio.TimerHandle] = set()
        self._socket: LiveSocket
        self._session: LiveSession
        self.opened_at: float | None = None

    def nudge(self) -> None:
        """Something was written, or there is something else to look at. From the loop only."""
        self._wake.set()

    def announce(self, space: str | None, state: Any) -> None:
        """Announces this device's presence. From the loop only."""
        self._unannounced[space] = state
        self._wake.set()

    async def run(self) -> Ending:
        """Connects and stays until the connection is over. Says why it is."""
        try:
            token = await self._end.fresh()
        except SyncdError as error:
            return failed(error)
        try:
            ending = await self._open(token)
            unanswered = self.opened_at is not None and self._session.awaiting is not None
            if unanswered:
                self._end.pace.failed()
            return replace(ending, unanswered=unanswered)
        finally:
            for timer in self._timers:
                timer.cancel()
            for presence in self._presences:
                self._end.hub.publish(Presence(presence.space, presence.user, presence.client, None))

    async def _open(self, token: str) -> Ending:
        """One socket from its handshake to its end."""
        try:
            async with open_socket(self._end, self._client) as self._socket:
                await self._talk(token)
        except ConnectionOver as over:
            return over.ending
        except FAILURES as error:
            return explain(error, self.opened_at is not None)

    async def _talk(self, token: str) -> Never:
        """Introduces itself; then reads, writes and renews the token until one of them fails."""
        restarting, self._last, self._baseline = await in_thread(self._recall)
        self._session = LiveSession(self._end.app, self._client, self._end.schema_version, restarting)
        await self._socket.send(self._session.auth(token))
        async with asyncio.timeout(self._end.policy.open_timeout):
            while self._session.user is None:
                accepted = await self._receive()
        await until_one_fails(self._read(), self._write(), self._renew(token, accepted), self._listen_for_life())
        raise AssertionError("a connection ends by an exception")

    def _recall(self) -> tuple[bool, int, partial.Baseline]:
        with self._end.store.read() as db:
            last = db.execute("SELECT coalesce(max(position), 0) FROM outbox").fetchone()[0]
            return bool(get_meta(db, "restarting", 0)), last, partial.baseline(db)

    # -- reading -----------------------------------------------------------------------------------

    async def _read(self) -> Never:
        while True:
            await self._receive()

    async def _receive(self) -> Meaning:
        """Takes one frame: what it says is in the file, in one transaction, before the session learns of it."""
        self._listening_since = now()
        text = await self._socket.recv()
        self._listening_since = None
        self._heard = now()
        async with self._exchange_lock.applying:
            meaning = await in_thread(self._take, text)
            self._session.learn(meaning)
        await self._follow(meaning)
        self._wake.set()
        return meaning

    def _take(self, text: str | bytes) -> Meaning:
        meaning = read_frame(text, self._end.app, self._session.awaiting, self._session.trust_cursor)
        match meaning:
            case Delivered():
                self._apply(meaning.page, ())
            case PushAnswered():
                self._apply(meaning.page, meaning.pushed)
                with self._end.store.write() as db:
                    copied.acknowledge(db)
            case Authenticated():
                self._end.identity.claim_user(meaning.user)
            case SubscribeRefused(cursor_lost=True):
                with self._end.store.write() as db:
                    partial.begin_restart(db)
                    self._baseline = partial.baseline(db)
        return meaning

    def _apply(self, page: Page, pushed: tuple[Packed, ...]) -> None:
        with self._end.store.write() as db:
            taken = partial.current(db, page, self._baseline)
            done = apply.apply_page(db, taken, pushed, self._session.checked)
            if self._session.push_held and self._held is not None:
                apply.note_trouble(db, self._held.trouble, self._held.code, self._held.detail)
        if done.erased:
            self._end.store.scrub()
        self._end.publish(page, done)
        for conflict in done.conflicts:
            self._end.hub.publish(conflict)
        if taken is not page:
            raise ConnectionOver(_CHOSEN)
        if page.cursor is not None:
            self._baseline = self._baseline._replace(known=None)  # the frames that follow are of all that is chosen

    async def _follow(self, meaning: Meaning) -> None:
        """Acts on a frame's meaning for the connection itself."""
        match meaning:
            case Authenticated() if self.opened_at is None:
                self.opened_at = self._heard
                await self._on_open()
            case Delivered():
                self._publish_if_live()
            case PushAnswered():
                self._attempt = 0
                self._answered.set()
                self._publish_if_live()
            case PushRefused():
                self._answered.set()
                if meaning.again:
                    await self._hold(meaning)
            case SubscribeRefused(again=True):
                await self._hold(meaning)
            case SubscribeRefused(cursor_lost=True) if not self._cursor_lost:
                self._cursor_lost = True
            case SubscribeRefused() | Complaint() if not self._session.caught_up:
                self._complain(meaning.code, meaning.detail)
            case Complaint():
                log.warning("the server did not take a frame: %s %s", meaning.code, meaning.detail)
            case Presence() if meaning.client != self._client:
                self._note_presence(meaning)

    def _publish_if_live(self) -> None:
        if self._session.caught_up and not self._session.push_held:
            self._on_live()

    def _complain(self, code: str, detail: str) -> Never:
        """An error that a fresh connection may do without, and that would only come again on this one."""
        renew = code in ("unauthorized", "forbidden")
        raise ConnectionOver(Ending("refused", code, detail, opened=self.opened_at is not None, renew=renew))

    async def _hold(self, refused: PushRefused | SubscribeRefused) -> None:
        """The server is busy: the same again after a pause, on this connection."""
        self._attempt += 1
        policy = self._end.policy
        pause = min(policy.longest, policy.first * 2.0 ** min(self._attempt, 30)) * (0.5 + random.random() / 2)
        pause = max(pause, policy.bounded(refused.retry_after))
        self._timers = {timer for timer in self._timers if not timer.cancelled()}
        self._timers.add(asyncio.get_running_loop().call_later(pause, self._resume))
        self._held = Ending("busy", refused.code, refused.detail, opened=True)
        await self._on_trouble(self._held)

    def _resume(self) -> None:
        self._session.resume()
        self._wake.set()

    def _note_presence(self, presence: Presence) -> None:
        place = Presence(presence.space, presence.user, presence.client, None)
        if presence.state is None:
            self._presences.discard(place)
        else:
            self._presences.add(place)
        self._end.hub.publish(presence)

    # -- writing -----------------------------------------------------------------------------------

    async def _write(self) -> Never:
        while True:
            self._wake.clear()
            if self._session.caught_up:
                await self._announce_all()
            packed, unread = await in_thread(self._pack)
            match self._session.next(bool(packed), unread):
                case Want.UNSUBSCRIBE:
                    _, self._last, _ = await in_thread(self._recall)
                    await self._socket.send(self._session.unsubscribe())
                case Want.PUSH:
                    await self._push()
                case Want.SUBSCRIBE:
                    async with self._exchange_lock.pushing:
                        await self._subscribe()
                case Want.FIX:
                    await self._fix()
                case Want.WAIT:
                    await self._wake.wait()

    def _pack(self) -> tuple[list[Packed], bool]:
        """The next push, and whether some of it is for a space that the server has not named yet. What is written while
        the backlog is sent waits until the subscription is made. Raises ConnectionOver where the choice has changed."""
        last = _LAST if self._session.subscribed else self._last
        limits = self._end.limits
        with self._end.store.read() as db:
            if revision(db) != self._baseline.revision:
                raise ConnectionOver(_CHOSEN)
            packed = outbox.pack(db, last, limits.push_changes, self._end.pace.size)
            return packed, bool(outbox.unread(db, packed))

    def _present(self) -> Sequence[str]:
        """The incarnations of the file that a push names. Raises ConnectionOver where it has another client id now."""
        incarnation = self._end.identity.incarnation
        if incarnation is None:
            return ()
        with self._end.store.write() as db:
            names = incarnation.present(db, renew=self._new)
            client = get_meta(db, "client")
        self._new = False
        if client != self._client:
            raise ConnectionOver(_COPIED)
        return names

    async def _push(self) -> None:
        async with self._exchange_lock.pushing:
            packed, unread = await in_thread(self._pack)  # again: another may have had the lock
            if packed and not (unread and self._session.subscribed):
                self._answered.clear()
                frame = self._session.push(packed, await in_thread(self._present)).encode()
                self._sent, self._allowed = now(), now() + self._end.pace.allowance(len(frame))
                await self._socket.send(frame, text=True)
                await self._await_answer()
                self._end.pace.took(len(frame), now() - self._sent)
                await asyncio.sleep(self._end.policy.push_interval)

    async def _await_answer(self) -> None:
        """Waits for the answer while the push may be on its way, and as long as anything is heard from the server."""
        timeout = self._end.policy.answer_timeout
        self._heard = now()
        while not self._answered.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(max(self._heard, self._allowed) + timeout - now()):
                    await self._answered.wait()
            if not self._answered.is_set() and now() >= max(self._heard, self._allowed) + timeout:
                detail = f"A push had no answer for {timeout:g} s."
                raise ConnectionOver(Ending("offline", "no_answer", detail, opened=True))

    async def _subscribe(self) -> None:
        cursor, acknowledged, roles, chosen = await in_thread(self._place)
        first = self._end.limits.first
        await self._socket.send(self._session.subscribe(cursor, first, acknowledged, roles, chosen))

    def _place(self) -> tuple[str, list[str], str, Mapping[str, list[str]]]:
        with self._end.store.read() as db:
            self._baseline = self._baseline._replace(known=known(db))
            cursor, roles = str(get_meta(db, "cursor", "")), str(get_meta(db, "roles", ""))
            return cursor, apply.acknowledged(db), roles, partial.asked(db)

    async def _fix(self) -> None:
        """Sends over HTTP a push that was refused whole: its answer names the culprit, which is set aside."""
        try:
            async with self._exchange_lock.alone():
                report = await self._end.exchange("push")
        except SyncdError as error:
            raise ConnectionOver(failed(error)) from error
        self._session.fixed()
        if self._end.identity.client_id != self._client:
            raise ConnectionOver(_COPIED)
        if report.restarted:
            raise ConnectionOver(Ending("offline", "restarted", "The replica began again over HTTP.", opened=True))

    async def _announce_all(self) -> None:
        while self._unannounced:
            space, state = self._unannounced.popitem()
            await self._socket.send(self._session.presence(space, state))
            await asyncio.sleep(self._end.policy.push_interval)

    # -- the line ----------------------------------------------------------------------------------

    async def _listen_for_life(self) -> Never:
        """Pings a silent server, and ends the connection when that is not answered by as much as a byte."""
        policy = self._end.policy
        while True:
            quiet = now() - self._last_sign()
            if quiet < policy.ping_interval:
                await asyncio.sleep(max(policy.ping_interval - quiet, policy.ping_interval / 10))
                continue
            asked = now()
            async with asyncio.timeout(policy.ping_timeout):
                await self._socket.ping()
            await asyncio.sleep(policy.ping_timeout)
            if self._last_sign() < asked:
                detail = "The connection was silent and is taken for dead."
                raise ConnectionOver(Ending("offline", "silent", detail, opened=True))

    def _last_sign(self) -> float:
        """When the server last showed life, by the loop's clock.

        That is now while a frame is applied and nothing is read, or a push fills the line.
        """
        if self._listening_since is None:
            return now()
        heard = max(self._listening_since, self._socket.heard)
        return heard if self._session.awaiting is None else max(heard, min(self._allowed, now()))

    # -- the token ---------------------------------------------------------------------------------

    async def _renew(self, token: str, accepted: Meaning) -> None:
        """Replaces the token in place before it ends, by the server's clock where that is known."""
        known = accepted.server_time if isinstance(accepted, Authenticated) else None
        ahead = (time.time() if known is None else known / 1e6) - time.monotonic()
        while self._end.renewable and isinstance(expiry := claim(token, "exp"), int | float):
            left = max(0.0, expiry - time.monotonic() - ahead)
            await asyncio.sleep(max(_RENEW_PAUSE, left - min(self._end.policy.renew_before, left / 2)))
            try:
                fresh = await self._end.fresh()
            except SyncdError as error:
                log.warning("the token could not be renewed yet: %s", error.code)
                continue
            if fresh != token:
                token = fresh
                await self._socket.send(self._session.auth(token))
