"""The WebSocket on the wire, as a protocol for uvicorn: the library's sans-I/O half reads and answers control frames,
and text frames are written here, so that a frame for a thousand listeners is framed by one join and one write each.

There is no task, queue or buffer for a connection that is silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from typing import Any

from websockets.datastructures import Headers
from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from syncd.core.error_codes import ERROR_CODES
from syncd.core.errors import DatabaseUnavailable, Malformed, NotFound, SyncdError
from syncd.edge.conversation import Conversation, Talk
from syncd.edge.gate import token_in_query
from syncd.edge.problems import problem
from syncd.edge.requests import checked_id, path_parts
from syncd.edge.wire import bound, unsent

AUTH_WITHIN = 10.0
# How long a device may take nothing at all of what waits for it, in intervals between pings.
STALLED_AFTER = 3
CLOSE_WITHIN = 5.0
SWEEP_EVERY = 0.5
HIGH_WATER, LOW_WATER = 128 * 1024, 32 * 1024
JOIN_BELOW = 16 * 1024
# Every connection would be two lines of a log.
QUIET = logging.getLogger("syncd.websocket")
QUIET.setLevel(logging.CRITICAL)
STAGES, STAGE_SECONDS = 10, 0.05
RESTARTING = ERROR_CODES["restarting"].cause


class Sockets:
    """All WebSockets of a process. Uvicorn calls it to make a protocol for a connection that wants to be one."""

    def __init__(self, talk: Callable[[], Talk], max_frame: int, ping_interval: float = 20.0) -> None:
        self._talk, self._max_frame, self.ping_interval = talk, max_frame, ping_interval
        self.open: set[Socket] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self.draining = False

    def __call__(self, config: Any, server_state: Any, app_state: Any, _loop: Any = None) -> Socket:
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep())
        return Socket(self, server_state.connections, self._max_frame)

    def talk(self) -> Talk:
        """Raises DatabaseUnavailable while the server is starting, and when it stops."""
        if self.draining:
            raise DatabaseUnavailable(RESTARTING)
        return self._talk()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            now, wall = time.monotonic(), time.time()
            for one in list(self.open):
                one.look(now, wall)

    async def drain(self, seconds: float) -> None:
        """Closes all with 1012, in stages, so that they do not all come back at once. What is in work is answered."""
        self.draining = True
        waiting = list(self.open)
        random.shuffle(waiting)
        size = max(1, len(waiting) // STAGES)
        restarts: list[asyncio.Task[None]] = []
        for start in range(0, len(waiting), size):
            restarts += [asyncio.create_task(one.restart()) for one in waiting[start : start + size]]
            await asyncio.sleep(STAGE_SECONDS if len(waiting) > size else 0)
        if restarts:
            await asyncio.wait(restarts, timeout=seconds)
        # The sweeper goes on: it ends those who take nothing, their close frame neither.


class Socket(asyncio.Protocol):
    """One connection, from its handshake on."""

    __slots__ = (
        "_address",
        "_close_by",
        "_connections",
        "_conversation",
        "_drained",
        "_frames",
        "_heard",
        "_left",
        "_opened",
        "_paused",
        "_pinged",
        "_protocol",
        "_sockets",
        "_stalled",
        "_transport",
    )

    def __init__(self, sockets: Sockets, connections: set[Any], max_frame: int) -> None:
        self._sockets, self._connections = sockets, connections
        self._protocol = ServerProtocol(max_size=max_frame, logger=QUIET)
        self._conversation: Conversation | None = None
        self._transport: Any = None
        self._address: str | None = None
        self._frames: bytearray | None = None
        self._drained: asyncio.Future[None] | None = None
        self._opened = self._heard = time.monotonic()
        self._pinged = self._stalled = self._close_by = 0.0
        self._paused = False
        self._left = 0

    # -- asyncio's side ------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._connections.add(self)
        self._sockets.open.add(self)
        bound(transport)
        transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)

    def data_received(self, data: bytes) -> None:
        self._heard = time.monotonic()
        self._pinged = 0.0
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._handshake(event)
            elif isinstance(event, Frame):
                self._frame(event)
        if self._stalled and self._protocol.state is State.OPEN:
            self._protocol.data_to_send()  # pongs for somebody who does not read
        self._flush()
        if self._protocol.close_expected():
            self._closing()

    def _closing(self) -> None:
        """A close frame was sent. What the device is still sending is read and dropped until it has seen that frame:
        a connection closed before would be reset, and the frame be lost with it."""
        self._close_by = self._close_by or time.monotonic() + CLOSE_WITHIN
        if self._conversation is None or self._protocol.close_rcvd is not None:
            self._transport.close()
        elif self._protocol.eof_sent and not self._transport.is_closing():
            self._conversation.ended = True
            self._transport.write_eof()

    def eof_received(self) -> None:
        self._protocol.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._sockets.open.discard(self)
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(ConnectionResetError())
            self._drained.exception()
        if self._conversation is not None:
            self._conversation.gone()
            if self._address is not None:
                self._conversation.talk.gate.depart(self._address)
        self._address = None

    def pause_writing(self) -> None:
        self._stalled = time.monotonic()

    def resume_writing(self) -> None:
        self._stalled = 0.0
        if self._drained is not None:
            drained, self._drained = self._drained, None
            if not drained.done():
                drained.set_result(None)

    def shutdown(self) -> None:
        """Uvicorn is stopping and has waited long enough."""
        self.close(1012, RESTARTING)
        self._transport.close()

    # -- the handshake --------------------------------------------------------------------------------------

    def _handshake(self, request: Request) -> None:
        try:
            response = self._accept(request)
        except SyncdError as why:
            response = _refusal(why)
        self._protocol.send_response(response)
        self._flush()
        if response.status_code != 101:
            self._transport.close()
            return
        # Nothing needs them any more, and a thousand idle connections would hold on to them.
        self._protocol.handshake_exc = None

    def _accept(self, request: Request) -> Response:
        path, _, query = request.path.partition("?")
        app = _app_of(path)
        if refused := token_in_query(query):
            raise refused
        talk = self._sockets.talk()
        origins, hosts = request.headers.get_all("Origin"), request.headers.get_all("Host")
        if len(origins) > 1 or len(hosts) > 1:
            raise Malformed("One Origin and one Host at most.")
        talk.gate.check_origin("".join(origins) if origins else None, "".join(hosts))
        response = self._protocol.accept(request)
        if response.status_code == 500:
            raise Malformed("The handshake's headers cannot be read.")
        if response.status_code == 101:
            peer = self._transport.get_extra_info("peername")
            address = str(peer[0]) if peer else ""
            talk.gate.arrive(address)
            self._address = address
            self._conversation = Conversation(talk, self, app)
        return response

    # -- frames ---------------------------------------------------------------------------------------------

    def _frame(self, frame: Frame) -> None:
        conversation = self._conversation
        if conversation is None or conversation.ended:
            return
        if frame.opcode is Opcode.TEXT and frame.fin:
            conversation.receive(bytes(frame.data))
        elif frame.opcode is Opcode.TEXT:
            self._frames = bytearray(frame.data)
        elif frame.opcode is Opcode.CONT and self._frames is not None:
            self._frames += frame.data
            if frame.fin:
                whole, self._frames = bytes(self._frames), None
                conversation.receive(whole)
        elif frame.opcode is Opcode.BINARY:
            conversation.end(4400, "text frames only")

    @property
    def room(self) -> bool:
        """Whether the device keeps up."""
        return not self._stalled

    async def drained(self) -> None:
        """Returns when there is room. Raises ConnectionResetError."""
        while self._stalled:
            if self._transport.is_closing():
                raise ConnectionResetError
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)
        if self._transport.is_closing():
            raise ConnectionResetError

    def send(self, *parts: bytes | bytearray) -> None:
        """Sends one text frame made of parts."""
        if self._transport.is_closing() or self._close_by:
            return
        size = sum(map(len, parts))
        if size < 126:
            header = bytes((0x81, size))
        elif size < 65536:
            header = b"\x81\x7e" + size.to_bytes(2)
        else:
            header = b"\x81\x7f" + size.to_bytes(8)
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
        if self._conversation is not None:
            self._conversation.ended = True
        with contextlib.suppress(InvalidState):
            self._protocol.send_close(code, reason[:120])
        self._flush()
        self._close_by = time.monotonic() + CLOSE_WITHIN
        self.pause(False)

    async def restart(self) -> None:
        """Answers what is in work, then closes: the device reconnects elsewhere or later."""
        if self._conversation is not None:
            self._conversation.ended = True
            await self._conversation.finish()
        self.close(1012, RESTARTING)

    def look(self, now: float, wall: float) -> None:
        """A look twice a second at what is due."""
        conversation = self._conversation
        if self._close_by:
            if now > self._close_by:
                self._transport.abort()
        elif conversation is None or conversation.member is None:
            if now - self._opened > AUTH_WITHIN:
                self.close(4408, ERROR_CODES["auth_timeout"].cause)
        elif wall > conversation.expires > 0:
            conversation.end(4401, "the token has expired")
        elif self._stalled:
            # Its pong would come after all that waits for it.
            self._heard, self._pinged = now, 0.0
            if self._stands_still(now):
                self._transport.abort()
        elif self._pinged and now - self._pinged > self._sockets.ping_interval:
            self._transport.abort()
        elif not self._pinged and now - self._heard > self._sockets.ping_interval:
            self._pinged = now
            self._protocol.send_ping(b"")
            self._flush()

    def _stands_still(self, now: float) -> bool:
        """Whether the device has taken nothing for long; a slow one may take as long as it likes."""
        left = unsent(self._transport)
        if left < self._left:
            self._stalled = now
        self._left = left
        return now - self._stalled > STALLED_AFTER * self._sockets.ping_interval

    def _flush(self) -> None:
        data = b"".join(self._protocol.data_to_send())
        if data and not self._transport.is_closing():
            self._transport.write(data)


def _app_of(path: str) -> str | None:
    """The app that an address names, None for /ws. Raises NotFound, Malformed."""
    parts = path_parts(path.encode())
    if not 1 <= len(parts) <= 2 or parts[0] != "ws":
        raise NotFound
    return None if len(parts) == 1 else checked_id("app", parts[1])


def _refusal(why: SyncdError) -> Response:
    """A problem, as for any other request."""
    answer = problem(why)
    headers = Headers([("Content-Type", answer.media_type.decode()), ("Content-Length", str(len(answer.body)))])
    headers["Connection"] = "close"
    for name, value in answer.headers:
        headers[name.decode()] = value.decode()
    return Response(answer.status, "Refused", headers, answer.body)
