"""The WebSocket on the wire, as a protocol for uvicorn: the library's sans-I/O half reads and answers control frames,
and text frames are written here, so that a frame for a thousand listeners is framed by one join and one write each.

There is no task, queue or buffer for a connection that is silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any

from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State

from syncd.core.error_codes import ERROR_CODES
from syncd.core.errors import SyncdError, TooMany
from syncd.edge.bytes_held import UNCOUNTED, Holder
from syncd.edge.deflate import DEFLATE_FROM, packed_page, payload, takes_packed
from syncd.edge.handshake import answer, headers_of, refusal
from syncd.edge.heartbeat import Heartbeat
from syncd.edge.incoming_frames import PIECE, Frames, PartsAllowance, text_header
from syncd.edge.live_deps import SocketGroup
from syncd.edge.pace import FIRST_PAGE, KEEPS_UP_BELOW, Arrival, Window
from syncd.edge.problems import close_code
from syncd.edge.socket_session import SocketSession
from syncd.edge.wire import bound, unsent

CLOSE_WITHIN = 5.0
# What a device catches up with waits for the buffer to be almost empty, so that pages are as large as its line is quick
# when they are read.
HIGH_WATER, LOW_WATER = 32 * 1024, 16 * 1024
JOIN_BELOW = 16 * 1024
# Smaller pages say nothing about a line.
MARKED_FROM = 8 * 1024
RESTARTING = ERROR_CODES["restarting"].cause


class Socket(asyncio.Protocol):
    """One connection, from its handshake on."""

    __slots__ = (
        "_arrival",
        "_close_by",
        "_connections",
        "_deaf",
        "_drained",
        "_frames",
        "_full",
        "_given",
        "_heartbeat",
        "_holder",
        "_parts",
        "_paused",
        "_peer",
        "_protocol",
        "_session",
        "_sockets",
        "_transport",
        "_window",
        "address",
    )

    def __init__(self, sockets: SocketGroup, connections: set[Any], max_frame: int) -> None:
        self._sockets, self._connections = sockets, connections
        self._protocol = Frames(max_frame)
        self._session: SocketSession | None = None
        self._transport: Any = None
        self._peer = self.address = ""
        self._frames: bytearray | None = None
        self._drained: asyncio.Future[None] | None = None
        now = time.monotonic()
        self._heartbeat = Heartbeat(now)
        # What comes before it is known who it is.
        self._arrival: Arrival | None = Arrival(now)
        self._close_by = 0.0
        self._paused = self._full = self._deaf = False
        self._parts = PartsAllowance(now)
        # Bytes that were given to the transport.
        self._given = 0
        self._window: Window | None = None
        # What has come of a message that is not whole.
        self._holder: Holder | None = None

    # -- asyncio's side ------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if peer else ""
        self.address = self._sockets.addresses.accepted(self._peer)
        self._connections.add(self)
        self._sockets.open.add(self)
        bound(transport)
        transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return  # until it is closed
        now = time.monotonic()
        self._heartbeat.came(now)
        if self._arrival is not None:
            self._arrival.came(len(data), now)
        for start in range(0, len(data), PIECE):
            if not self._receive(data[start : start + PIECE] if len(data) > PIECE else data):
                return
        self._hold()
        if not self.keeps_up and self._protocol.state is State.OPEN:
            self._protocol.data_to_send()  # pongs for somebody who does not read
        self._flush()
        if self._protocol.close_expected():
            self._closing()

    def _receive(self, data: bytes) -> bool:
        """Takes bytes in; False where no more are to come."""
        self._parts.came(len(data), self._heartbeat.heard, known=self._arrival is None)
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._handshake(event)
            elif isinstance(event, Frame) and self._may(event):
                self._frame(event)
        return not self._deaf

    def _may(self, frame: Frame) -> bool:
        """Whether a frame is within bounds. Messages are counted by their user's allowance, when it is known."""
        session = self._session
        whole = frame.opcode is Opcode.TEXT and frame.fin
        if whole and session is not None and session.connection is not None and not session.ended:
            return True
        if self._parts.take():
            return True
        if not self._deaf:
            self._deaf = True
            self.close(*close_code(TooMany("Too many frames in a short time.")))
        return False

    def _hold(self) -> None:
        """Counts what has come of a message that is not whole."""
        size = len(self._protocol.reader.buffer) + (len(self._frames) if self._frames is not None else 0)
        if self._holder is None or self._session is None or (size <= UNCOUNTED and not self._holder.held):
            return
        try:
            self._holder.set(size if size > UNCOUNTED and not self._close_by else 0, self._session.user)
        except SyncdError as why:
            self._frames = None
            self._session.end(*close_code(why))

    def _closing(self) -> None:
        """A close frame was sent. What the device is still sending is read and dropped until it has seen that frame:
        a connection closed before would be reset, and the frame be lost with it."""
        self._close_by = self._close_by or time.monotonic() + CLOSE_WITHIN
        if self._session is None or self._protocol.close_rcvd is not None:
            self._transport.close()
        elif self._protocol.eof_sent and not self._transport.is_closing():
            self._session.ended = True
            self._transport.write_eof()

    def eof_received(self) -> None:
        """The client sends no more."""
        self._protocol.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._sockets.open.discard(self)
        self._wake()
        if self._session is not None:
            self._session.gone()
        if self._holder is not None:
            self._holder.give_back()
        # It was counted when it was accepted, and one of a proxy's for its client's address after that.
        self._sockets.admission.depart(self.address)

    def pause_writing(self) -> None:
        """The kernel takes no more for now."""
        self._full = True
        self._heartbeat.filled(time.monotonic())

    def resume_writing(self) -> None:
        """It takes more again."""
        self._full = False
        self._wake()

    def _wake(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def shutdown(self) -> None:
        """Uvicorn is stopping and has waited long enough."""
        self.close(1012, RESTARTING)
        self._transport.close()

    # -- the handshake --------------------------------------------------------------------------------------

    def _handshake(self, request: Request) -> None:
        try:
            response, deps, app = answer(request, self._protocol, self._sockets.deps)
            self._count_client(request)
        except SyncdError as why:
            response = refusal(why)
        else:
            if response.status_code == 101:
                self._session = SocketSession(deps, self, app)
                self._holder = Holder(deps.bodies, self.address)
        self._protocol.send_response(response)
        self._flush()
        if response.status_code != 101:
            self._transport.close()
            return
        # Nothing needs them any more, and a thousand idle connections would hold on to them.
        self._protocol.handshake_exc = None

    def _count_client(self, request: Request) -> None:
        """Counts a connection that came through a proxy for its client's address. Raises TooMany."""
        if self.address:
            return
        self.address = self._sockets.addresses.of(self._peer, headers_of(request))
        if refused := self._sockets.admission.join(self.address):
            raise refused

    @property
    def scope(self) -> None:
        """A connection of syncd's own: it has none."""

    # -- frames ---------------------------------------------------------------------------------------------

    def _frame(self, frame: Frame) -> None:
        session = self._session
        if session is None or session.ended:
            return
        if frame.opcode is Opcode.TEXT and frame.fin:
            session.receive(bytes(frame.data))
        elif frame.opcode is Opcode.TEXT:
            self._frames = bytearray(frame.data)
        elif frame.opcode is Opcode.CONT and self._frames is not None:
            self._frames += frame.data
            if frame.fin:
                whole, self._frames = bytes(self._frames), None
                session.receive(whole)
        elif frame.opcode is Opcode.PONG and self._window is not None:
            self._window.came(bytes(frame.data), self._heartbeat.heard)
            self._wake()
        elif frame.opcode is Opcode.BINARY:
            session.end(4400, "text frames only")

    @property
    def keeps_up(self) -> bool:
        """Whether the device keeps up."""
        return not self._full or self._transport.get_write_buffer_size() < KEEPS_UP_BELOW

    @property
    def page_bytes(self) -> int:
        """How large the next page should be."""
        return FIRST_PAGE if self._window is None else self._window.size.bytes

    @property
    def taken(self) -> int:
        """Bytes that the device has taken of what it was sent."""
        return self._given - unsent(self._transport)

    async def drained(self) -> None:
        """Returns when almost nothing waits in this process. Raises ConnectionResetError."""
        while self._full and not self._transport.is_closing():
            await self._news()
        if self._transport.is_closing():
            raise ConnectionResetError

    async def page_turn(self) -> None:
        """Returns when the next page may go. Raises ConnectionResetError."""
        await self.drained()
        while self._window is not None and (patience := self._window.patience(time.monotonic())):
            try:
                async with asyncio.timeout(patience):
                    await self._news()
            except TimeoutError:
                self._window.give_up()
            await self.drained()

    async def _news(self) -> None:
        """Waits until something may have changed for who waits for room."""
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._drained)

    async def send_page(self, head: bytes, changes: bytes | bytearray, tail: bytes) -> None:
        """Sends a text frame that others wait behind: packed where the device takes it so, and marked."""
        size = len(head) + len(changes) + len(tail)
        parts: list[bytes | bytearray] = [head, changes, tail]
        packs = size >= DEFLATE_FROM and takes_packed(self._protocol.extensions)
        if packs:
            parts = [*payload(head, await packed_page(changes), tail)]
        if size < MARKED_FROM:
            self._send(parts, packs)
            return
        if self._window is None:
            self._window = Window()
        before, after = self._window.begin(size, time.monotonic())
        self._parts.asked(2)
        self._write(b"\x89" + bytes((len(before),)) + before)
        self._send(parts, packs)
        self._write(b"\x89" + bytes((len(after),)) + after)

    def send(self, *parts: bytes | bytearray) -> None:
        """Sends one text frame made of parts."""
        self._send(parts, False)

    def _send(self, parts: Sequence[bytes | bytearray], packs: bool) -> None:
        if self._transport.is_closing() or self._close_by:
            return
        size = sum(map(len, parts))
        header = text_header(size, packs)
        self._given += len(header) + size
        if size < JOIN_BELOW:
            self._transport.write(b"".join((header, *parts)))
        else:
            # What is shared by many listeners is not copied for each.
            self._transport.writelines([header, *parts])

    def pause(self, paused: bool) -> None:
        """Stops or goes on reading what the device sends."""
        if paused != self._paused and not self._transport.is_closing():
            self._paused = paused
            (self._transport.pause_reading if paused else self._transport.resume_reading)()

    def close(self, code: int, reason: str) -> None:
        """Sends a close frame, and ends the connection when it is answered, or after a few seconds."""
        if self._close_by or self._transport.is_closing():
            return
        if self._session is not None:
            self._session.ended = True
        with contextlib.suppress(InvalidState):
            self._protocol.send_close(code, reason[:120])
        # What still comes is not unpacked any more.
        self._protocol.extensions = []
        self._flush()
        self._close_by = time.monotonic() + CLOSE_WITHIN
        self.pause(False)

    def abort(self) -> None:
        """Ends the connection at once, with all that waits for the device."""
        self._transport.abort()

    async def restart(self) -> None:
        """Answers what is in work, then closes: the device reconnects elsewhere or later."""
        if self._session is not None:
            self._session.ended = True
            await self._session.finish()
        self.close(1012, RESTARTING)

    def look(self, now: float, wall: float) -> None:
        """A look twice a second at what is due."""
        session = self._session
        if self._close_by:
            if now > self._close_by:
                self._transport.abort()
        elif session is None or session.connection is None:
            if self._arrival is not None and self._arrival.left(now) <= 0:
                self.close(4408, ERROR_CODES["auth_timeout"].cause)
        elif wall > session.expires > 0:
            session.end(4401, "the token has expired")
        else:
            self._arrival = None
            self._look_at_line(now)

    def _look_at_line(self, now: float) -> None:
        """Pings who is silent; ends who does not answer, or takes nothing of what waits."""
        interval, heartbeat, window = self._sockets.ping_interval, self._heartbeat, self._window
        if heartbeat.asked or self._full:
            on_its_way = 0.0 if window is None else window.seconds
            if heartbeat.gone(now, interval, self.taken, self._full, on_its_way):
                self._transport.abort()
        elif now - heartbeat.heard > interval:
            left = unsent(self._transport)
            taken = self._given - left
            self._protocol.send_ping(b"")
            self._parts.asked(1)
            self._flush()
            # What is neither here nor there is on its way, in a proxy perhaps.
            heartbeat.ask(now, taken, self._given, behind=left > 0 or (window is not None and window.waits))

    def _flush(self) -> None:
        if data := b"".join(self._protocol.data_to_send()):
            self._write(data)

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._given += len(data)
            self._transport.write(data)
