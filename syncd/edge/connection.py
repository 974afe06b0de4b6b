"""A connection from `accept` on: Uvicorn's HTTP protocol within bounds that hold before it is known who is there.

The head of a request is counted while it comes, by the bytes that go into the parser: what the parser keeps to itself
counts too, a header without an end or a trailer. A refusal is answered at once; what is still coming is then read and
dropped for some seconds, because a connection that is closed before would be reset, and the answer be lost with it.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from functools import lru_cache
from typing import Any, NamedTuple, cast

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from syncd.core.errors import HeadersTooLarge, Malformed, Overloaded, SyncdError, TooMany, TooSlow, UrlTooLong
from syncd.core.failures import log_failure
from syncd.edge.addresses import DIRECT, Addresses
from syncd.edge.admission import Admission
from syncd.edge.answers import Answer
from syncd.edge.concurrency import ConcurrencyLimit
from syncd.edge.problems import problem
from syncd.edge.wire import TRANSPORT, unsent

log = structlog.get_logger("syncd.http")

LOOK_EVERY = 0.5
# How much is read and dropped after a refusal, and for how long.
DROP_BYTES, DROP_SECONDS = 1 << 20, 5.0
# Requests of one connection that wait for the answer to an earlier one.
MOST_PIPELINED = 16
# Parts of a body, chunks or reads: so many, and one more for so many bytes. Each costs as much as a small request.
MOST_PARTS, BYTES_OF_A_PART = 4096.0, 128
# Of a body that is dropped where there is no time for its request.
SMALL = 64 * 1024
_CURSOR = re.compile(rb"[?&]since=([^&#]*)")
_REASONS = {400: b"Bad Request", 408: b"Request Timeout", 414: b"URI Too Long", 429: b"Too Many Requests",
            431: b"Request Header Fields Too Large", 503: b"Service Unavailable"}  # fmt: skip


class Bounds(NamedTuple):
    """Of a request's head: bytes of all headers together with the address, how many headers, bytes of an address
    without its cursor; and seconds that a head, and a reader who takes nothing, may take."""

    head: int = 64 * 1024
    headers: int = 100
    url: int = 8 * 1024
    head_seconds: float = 10.0
    idle_seconds: float = 75.0


class Connections:
    """All HTTP connections of a process. Uvicorn calls it to make the protocol of one that was accepted.

    `ended`: how many connections were refused or ended, by the code of the reason; `limit`: of the requests in work.
    """

    def __init__(
        self, admission: Admission, bounds: Bounds, limit: ConcurrencyLimit | None = None,
        addresses: Addresses = DIRECT,
    ) -> None:  # fmt: skip
        self.admission, self.bounds, self.limit = admission, bounds, limit or ConcurrencyLimit()
        self.addresses = addresses
        self.open: set[HttpConnection] = set()
        self.ended: dict[str, int] = {}
        self._sweeper: asyncio.Task[None] | None = None

    def __call__(self, config: Any, server_state: Any, app_state: Any, _loop: Any = None) -> HttpConnection:
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep())
        return HttpConnection(self, config, server_state, app_state, _loop)

    def count(self, code: str) -> None:
        """One more was ended."""
        self.ended[code] = self.ended.get(code, 0) + 1

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            now = time.monotonic()
            for one in list(self.open):
                try:
                    one.look(now)
                except Exception as why:
                    # One that cannot be looked at must not keep the others from being looked at, for ever.
                    log_failure(log, "a look failed", why, look="connection")


class HttpConnection(HttpToolsProtocol):
    """One connection. Puts the transport into each request's scope, under TRANSPORT."""

    def __init__(self, all_: Connections, config: Any, server_state: Any, app_state: Any, _loop: Any) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._all, self._bounds = all_, all_.bounds
        self._address: str | None = None
        # When the head that is awaited or coming has to be whole.
        self._due = math.inf
        # Whether that is only because it is idle.
        self._idles = False
        # Bytes that came since the last head was whole, or the last part of a body.
        self._kept = 0
        self._refusal: SyncdError | None = None
        # Parts that the body may still come in.
        self._parts_left = MOST_PARTS
        # Once refused: how much more is dropped, and until when.
        self._drops, self._drop_by = 0, math.inf
        # What the client had not taken at the last look, and since when that is so.
        self._left, self._moved = 0, 0.0
        # The request that is coming will not be worked on.
        self._passed_over = False
        # The request whose turn it is; Uvicorn's `cycle` is the last that came, which may wait behind it.
        self._current: Any = None
        self._application, self.app = self.app, self._begin

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """A request's turn comes. Before, it counts nowhere: what it waits for may have no end."""
        self._current = cycle
        self._all.limit.coming.add(self)
        super()._start_asgi_task(cycle, app)

    async def _begin(self, scope: Any, receive: Any, send: Any) -> None:
        """In a request's task."""
        self._all.limit.coming.discard(self)
        await self._application(scope, receive, send)

    # -- asyncio's side ---------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """It was accepted."""
        super().connection_made(transport)
        self._all.open.add(self)
        peer = transport.get_extra_info("peername")
        self._address = self._all.addresses.accepted(str(peer[0]) if peer else "")
        self._due = time.monotonic() + self._bounds.head_seconds
        if refused := self._all.admission.arrive(self._address):
            self.refuse(refused)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        super().connection_lost(exc)
        self._all.limit.coming.discard(self)
        self.pipeline.clear()
        if self._current is not None:
            # Uvicorn tells only the last that came, so that this one would wait, or write to what is closed.
            self._current.disconnected = True
            self._current.message_event.set()
        self._all.open.discard(self)
        if self._address is not None:
            self._all.admission.depart(self._address)
            self._address = None

    def handle_websocket_upgrade(self) -> None:
        """From here on it is the socket's, which says when it is closed."""
        if self.cycle is not None and not self.cycle.response_complete:
            # Two would write to one connection, and the first not be told of its end.
            self.refuse(Malformed("A WebSocket cannot wait for the answer to an earlier request."))
            return
        self._all.open.discard(self)
        self._address = None
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._refusal is not None:
            self._drops -= len(data)
            if self._drops < 0:
                self.transport.abort()
            return
        if self._due == math.inf and (self.cycle is None or self.cycle.response_complete):
            self._due = time.monotonic() + self._bounds.head_seconds
        self._kept += len(data)
        super().data_received(data)
        if self._kept > self._bounds.head and self._refusal is None:
            self.refuse(HeadersTooLarge() if self.headers else UrlTooLong())

    # -- the parser's side ------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        if len(self.pipeline) >= MOST_PIPELINED:
            raise self._refused(TooMany("Too many requests wait for the answer to an earlier one."))
        if self._idles:
            self._due, self._idles = time.monotonic() + self._bounds.head_seconds, False
        super().on_message_begin()
        cast(dict[str, Any], self.scope)[TRANSPORT] = self.transport

    def on_headers_complete(self) -> None:
        """The head is whole."""
        bounds, url = self._bounds, len(self.url)
        if url > bounds.url and (url > bounds.head or _length(self.url) > bounds.url):
            raise self._refused(UrlTooLong())
        if len(self.headers) > bounds.headers or (self._kept > bounds.head and self._head() > bounds.head):
            raise self._refused(HeadersTooLarge())
        self._due, self._kept, self._parts_left = math.inf, 0, MOST_PARTS
        if self._all.limit.full and self._can_be_passed_over():
            # What is to be refused is not begun: nine tenths of what that costs are Uvicorn's.
            self._passed_over, self._due = True, time.monotonic() + bounds.head_seconds
            return
        super().on_headers_complete()

    def _can_be_passed_over(self) -> bool:
        """Whether a request can be refused by its head alone, and its connection go on: for a device of its own, not a
        page, which could not read it; with a small body."""
        if not self.url.startswith(b"/sync/") or not self.parser.should_keep_alive() or self.flow.write_paused:
            return False
        if self.pipeline or (self.cycle is not None and not self.cycle.response_complete):
            return False
        head = dict(self.headers)
        length = head.get(b"content-length", b"0")
        others = {b"origin", b"upgrade", b"expect", b"transfer-encoding"}
        return length.isdigit() and int(length[:9]) <= SMALL and len(length) < 9 and not others & head.keys()

    def _head(self) -> int:
        """Bytes of the head."""
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._kept = 0
        self._parts_left += len(body) / BYTES_OF_A_PART - 1
        if self._parts_left < 0:
            raise self._refused(Malformed("The body comes in too many chunks, each of a few bytes."))
        if self._passed_over:
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is whole."""
        if self._passed_over:
            self._pass_over()
            return
        super().on_message_complete()
        self._kept = 0
        if self.cycle is not None and self.cycle.response_complete:
            # It was answered before, and Uvicorn's timer has been ended by what came since.
            self._due, self._idles = time.monotonic() + self._bounds.idle_seconds, True

    # -- the end ----------------------------------------------------------------------------------------------

    def _refused(self, why: SyncdError) -> SyncdError:
        self._refusal = why
        return why

    def send_400_response(self, msg: str) -> None:
        """Uvicorn's way out when the parser, or one of the above, stops."""
        self.refuse(self._refusal or Malformed("This is not HTTP/1.1."))

    def _pass_over(self) -> None:
        """Says that there is no time for a request."""
        self._passed_over, self._kept = False, 0
        self._due, self._idles = time.monotonic() + self._bounds.idle_seconds, True
        why = self._all.limit.refuse()
        self._all.count(why.code)
        self.transport.write(self._said(_overloaded(why.retry_after)))

    def _said(self, answer: Answer, *last: bytes) -> bytes:
        lines = [b"HTTP/1.1 %d %b" % (answer.status, _REASONS.get(answer.status, b"Refused"))]
        lines += [b"%b: %b" % header for header in (*self.server_state.default_headers, *answer.headers)]
        lines += [b"content-type: " + answer.media_type, b"content-length: %d" % len(answer.body), *last]
        return b"\r\n".join([*lines, b"", answer.body])

    def refuse(self, why: SyncdError) -> None:
        """Answers, unless an answer is under way, and ends the connection."""
        self._refusal = why
        self._all.count(why.code)
        self._unset_keepalive_if_required()
        if self.cycle is not None and not self.cycle.response_complete:
            if self.cycle is not self._current or self.cycle.response_started:
                self.transport.close()
                return
            # Its worker is told that its client has gone, and answers nothing.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(self._said(problem(why), b"connection: close"))
        self._drops, self._drop_by = DROP_BYTES, time.monotonic() + DROP_SECONDS
        self.transport.write_eof()

    def look(self, now: float) -> None:
        """A look twice a second at what is due."""
        if now > self._drop_by:
            self.transport.abort()
        elif now > self._due:
            self._due = math.inf
            if self._kept:
                self.refuse(TooSlow())
            else:
                self._all.count("idle")
                self.transport.close()
        elif self.transport.get_write_buffer_size():
            self._look_at_reader(now)
        else:
            self._left = 0

    def _look_at_reader(self, now: float) -> None:
        """What waits for a client that takes nothing of it, whether its answer is done or not, is given up."""
        left = unsent(self.transport)
        if left != self._left:
            self._left, self._moved = left, now
        elif now - self._moved > self._bounds.idle_seconds:
            self._all.count("stalled")
            self.transport.abort()


@lru_cache
def _overloaded(retry_after: int | None) -> Answer:
    return problem(Overloaded(retry_after=retry_after))


def _length(url: bytes) -> int:
    """How long an address is without its cursor."""
    return len(url) - sum(map(len, _CURSOR.findall(url)))
