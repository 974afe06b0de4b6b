"""A WebSocket of somebody else's ASGI server, as a session knows sockets: what `websocket.py` is for our own.

The server reads and writes frames, answers pings, and bounds what it holds of a message that is not whole. What ASGI
lets an application see is bounded here: sizes of whole messages, frames before `auth`, time until `auth`, and what
waits for a device that does not read.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque

from syncd.core.error_codes import ERROR_CODES
from syncd.core.errors import TooLarge, TooMany
from syncd.edge.answers import Receive, Scope, Send
from syncd.edge.heartbeat import STALLED_AFTER
from syncd.edge.incoming_frames import MOST_BEFORE_AUTH, PartsAllowance
from syncd.edge.live_deps import LiveDeps, SocketGroup
from syncd.edge.pace import GRACE, KEEPS_UP_BELOW, SLOWEST, SLOWEST_BODY, PageSize
from syncd.edge.problems import close_code
from syncd.edge.socket_session import SocketSession
from syncd.edge.websocket import CLOSE_WITHIN, MARKED_FROM, RESTARTING
from syncd.protocol.live_messages import is_auth

# A message is only seen when it is whole: the largest token has as long as its bytes may take.
AUTH_WITHIN = GRACE + MOST_BEFORE_AUTH / SLOWEST_BODY
# How long the answer to what is in work is waited for after a device has gone.
FINISH_WITHIN = 30.0


class AsgiSocket:
    """One connection, from its acceptance on. `address`: what it counts for; `most`: bytes of a message."""

    __slots__ = (
        "_auth_by", "_close_by", "_close_with", "_given", "_line", "_most", "_most_after_auth", "_news", "_out",
        "_over", "_pages", "_parts", "_reading", "_receive", "_send", "_sending", "_session", "_sockets", "_waiting",
        "_writer", "address", "scope",
    )  # fmt: skip

    def __init__(
        self, sockets: SocketGroup, scope: Scope, receive: Receive, send: Send, address: str, most: int
    ) -> None:
        self._sockets, self.scope, self._receive, self._send = sockets, scope, receive, send
        self.address, self._most_after_auth, self._most = address, most, min(most, MOST_BEFORE_AUTH)
        self._session: SocketSession | None = None
        # What ends the wait for the device's next message.
        self._line: asyncio.Timeout | None = None
        self._reading = asyncio.Event()
        self._reading.set()
        now = time.monotonic()
        self._auth_by, self._parts = now + AUTH_WITHIN, PartsAllowance(now)
        # Frames that the server has not taken yet, what it has in hand, and who writes while there are any.
        self._out: deque[bytes] = deque()
        self._waiting = self._given = 0
        self._sending: tuple[float, int] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._news: asyncio.Future[None] | None = None
        self._pages = PageSize()
        self._close_with: tuple[int, str] | None = None
        self._close_by, self._over = 0.0, False

    async def serve(self, deps: LiveDeps, app: str | None) -> None:
        """Accepts it, and serves it until it is over."""
        await self._send({"type": "websocket.accept"})
        session = self._session = SocketSession(deps, self, app)
        self._sockets.open.add(self)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None) as self._line:
                    await self._listen(session)
        finally:
            self._end(session)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_WITHIN):
                await session.finish()

    async def _listen(self, session: SocketSession) -> None:
        while True:
            await self._reading.wait()
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return
            if message["type"] == "websocket.receive" and not session.ended:
                self._frame(session, message.get("text"))

    def _frame(self, session: SocketSession, text: str | None) -> None:
        if text is None:
            session.end(4400, "text frames only")
            return
        data = text.encode("utf-8", "surrogatepass")
        if len(data) > self._most:
            session.end(*close_code(TooLarge(f"A frame has at most {self._most} bytes.")))
            return
        if session.connection is None:
            # What follows `auth` may come at once.
            if self._most != self._most_after_auth and is_auth(data):
                self._most = self._most_after_auth
            self._parts.came(len(data), time.monotonic(), known=False)
            if not self._parts.take():
                session.end(*close_code(TooMany("Too many frames in a short time.")))
                return
        session.receive(data)

    def _end(self, session: SocketSession) -> None:
        self._over, self._line = True, None
        self._sockets.open.discard(self)
        self._out.clear()
        self._waiting = 0
        if self._writer is not None:
            self._writer.cancel()
        self._wake()
        session.gone()

    # -- frames out -----------------------------------------------------------------------------------------

    @property
    def keeps_up(self) -> bool:
        """Whether the device keeps up."""
        return self._waiting < KEEPS_UP_BELOW

    @property
    def page_bytes(self) -> int:
        """How large the next page should be."""
        return self._pages.bytes

    @property
    def taken(self) -> int:
        """Bytes that the server has taken of what the device was sent."""
        return self._given - self._waiting

    async def drained(self) -> None:
        """Returns when nothing waits for the server. Raises ConnectionResetError."""
        while self._waiting and not self._over:
            if self._news is None:
                self._news = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._news)
        if self._over or self._close_by:
            raise ConnectionResetError

    async def page_turn(self) -> None:
        """Returns when the next page may go. Raises ConnectionResetError."""
        await self.drained()

    def send(self, *parts: bytes | bytearray) -> None:
        """Sends one text frame made of parts."""
        if self._over or self._close_by:
            return
        frame = b"".join(parts)
        self._out.append(frame)
        self._waiting += len(frame)
        self._given += len(frame)
        self._write_on()

    async def send_page(self, head: bytes, changes: bytes | bytearray, tail: bytes) -> None:
        """Sends a text frame that others wait behind."""
        self.send(head, changes, tail)

    def _write_on(self) -> None:
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        """While anything waits, and no longer: a silent connection costs no task."""
        try:
            while self._out:
                await self._write_one(self._out.popleft())
            if self._close_with is not None:
                code, reason = self._close_with
                self._sending = time.monotonic(), 0
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except Exception:
            self.abort()  # it has gone, and each server says so in its own way
        finally:
            self._writer, self._sending = None, None
            self._wake()

    async def _write_one(self, frame: bytes) -> None:
        began = time.monotonic()
        self._sending = began, len(frame)
        await self._send({"type": "websocket.send", "text": frame.decode()})
        self._waiting -= len(frame)
        if len(frame) >= MARKED_FROM:
            self._pages.took(len(frame), time.monotonic() - began)
        if not self._waiting:
            self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)

    # -- the end ----------------------------------------------------------------------------------------------

    def pause(self, paused: bool) -> None:
        """Stops or goes on taking what the device sends: the server then stops reading."""
        (self._reading.clear if paused and not self._close_by else self._reading.set)()

    def close(self, code: int, reason: str) -> None:
        """Closes it behind what was sent, and ends it when that is answered, or after a few seconds."""
        if self._close_by or self._over:
            return
        if self._session is not None:
            self._session.ended = True
        self._close_with, self._close_by = (code, reason[:120]), time.monotonic() + CLOSE_WITHIN
        self._reading.set()
        self._write_on()

    def abort(self) -> None:
        """Ends it at once, with all that waits for the device."""
        if self._line is not None and not self._line.expired():
            self._line.reschedule(asyncio.get_running_loop().time())

    async def restart(self) -> None:
        """Answers what is in work, then closes: the device reconnects elsewhere or later."""
        if self._session is not None:
            self._session.ended = True
            await self._session.finish()
        self.close(1012, RESTARTING)

    def look(self, now: float, wall: float) -> None:
        """A look twice a second at what is due."""
        session = self._session
        if session is None:
            return
        if self._close_by:
            if now > self._close_by:
                self.abort()
        elif session.connection is None:
            if now > self._auth_by:
                self.close(4408, ERROR_CODES["auth_timeout"].cause)
        elif wall > session.expires > 0:
            session.end(4401, "the token has expired")
        elif self._sending is not None:
            since, size = self._sending
            if now - since > STALLED_AFTER * self._sockets.ping_interval + size / SLOWEST:
                self.abort()
