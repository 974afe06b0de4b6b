"""A request: its headers, its query, its body within limits."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import NoReturn
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from syncd.core.errors import Fault, Malformed, NotFound, TooLarge, TooSlow, UnsupportedMedia
from syncd.core.ids import STEPS, fault_in_client, fault_in_id
from syncd.edge.addresses import DIRECT, Addresses
from syncd.edge.answers import Receive, Scope
from syncd.edge.bytes_held import BytesHeld, Holder
from syncd.edge.concurrency import Place
from syncd.edge.direct import whole_body
from syncd.edge.pace import Arrival, ClientWait
from syncd.edge.unpacking import unpacked
from syncd.edge.wire import HOST, LEAVE, TRANSPORT
from syncd.protocol import live_messages
from syncd.store.turns import ACTING

# Devices ask at the same few addresses again and again.
REMEMBERED, MAX_REMEMBERED = 1024, 256
MAX_TABLES = 100
# Of a body that nobody reads; the server drops it without being asked.
SMALL = 64 * 1024
# Of a body that names one thing. It is read where everybody waits.
MAX_SMALL_BODY = 64 * 1024
ONCE = (b"authorization", b"host", b"x-client-id", b"x-sync-protocol", b"content-encoding", b"content-type")


class Disconnected(Exception):
    """The client went away before its body was whole. There is nobody to answer."""


class Request:
    """One HTTP request. What is held of its body counts among `bodies` until `release`. `unread`: its body has not come
    to its end; `came`: bytes of it, as they travelled."""

    def __init__(self, scope: Scope, receive: Receive, bodies: BytesHeld, addresses: Addresses = DIRECT) -> None:
        self.method: str = scope["method"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.query_string: bytes = scope["query_string"]
        self._scope, self._receive, self._bodies, self._addresses = scope, receive, bodies, addresses
        self._max_body = bodies.largest
        self._holder: Holder | None = None
        self._place: Place | None = None
        self._names_each_once = len(self.headers) == len(scope["headers"])
        self.unread, self._slow, self._given_up, self.came = True, False, False, 0

    @property
    def peer(self) -> str:
        """Where its connection comes from; empty where that is not known."""
        client = self._scope.get("client")
        return str(client[0]) if client else ""

    @property
    def proxied(self) -> bool:
        """Whether a proxy that is trusted has sent it on."""
        return self._addresses.is_proxy(self.peer)

    @property
    def address(self) -> str:
        """The address that it counts for."""
        return self._addresses.of(self.peer, self._scope["headers"])

    @property
    def scope(self) -> Scope:
        """As the server gave it, or the application that syncd is mounted in."""
        found: Scope = self._scope.get(HOST, self._scope)
        return found

    @property
    def root(self) -> str:
        """What stands before syncd's addresses on this server, as it is sent; empty where it is not mounted."""
        return str(self._scope.get("root_path", ""))

    @property
    def counted(self) -> bool:
        """Whether its connection was counted for its client's address when it was accepted."""
        return TRANSPORT in self._scope and not self.proxied

    def end(self) -> None:
        """Ends its connection; of a host's server, what is waited for of this request."""
        self._given_up = True
        if (transport := self._scope.get(TRANSPORT)) is not None:
            transport.abort()
        elif (leave := self._scope.get(LEAVE)) is not None:
            leave()

    def begin(self, place: Place) -> None:
        """It is in work from here on, until `pause` or `release`. Raises Overloaded, TooMany."""
        place.enter()
        self._place = place

    def pause(self) -> None:
        """It waits for its client, or takes as long as it likes within other bounds."""
        if self._place is not None:
            self._place.leave()

    def release(self) -> None:
        """It was answered: nothing is held any more."""
        self.pause()
        if self._holder is not None:
            self._holder.give_back()

    @property
    def legacy(self) -> bool:
        """Whether it comes from a client of the first generation: it does not say which protocol it speaks."""
        return self.headers.get(b"x-sync-protocol", b"").strip() != b"1"

    def parts(self) -> tuple[str, ...]:
        """The segments of the path, each decoded by itself: an id may hold an encoded slash.

        Raises NotFound, and Malformed: also for a header that is there twice: a proxy may go by the other.
        """
        if not self._names_each_once:
            seen = [name for name, _ in self._scope["headers"]]
            if twice := next((name for name in ONCE if seen.count(name) > 1), None):
                raise Malformed(f"The header {twice.decode()} is there twice.")
        raw: bytes = self._scope.get("raw_path") or quote(self._scope["path"]).encode()
        return _parts(raw) if len(raw) <= MAX_REMEMBERED else _parts.__wrapped__(raw)

    def query(self) -> dict[str, list[str]]:
        """The query's values by name."""
        return query_values(self.query_string)

    def header(self, name: bytes) -> str:
        """A header as text, empty where it is missing."""
        try:
            return self.headers.get(name, b"").decode()
        except UnicodeDecodeError:
            raise Malformed(f"The header {name.decode()} is not UTF-8.") from None

    async def body(self, *, text: bool = False, most: int | None = None) -> bytes:
        """The whole body, decompressed; `text`: JSON that calls itself plain text will do; `most`: bytes of it, where
        less than of others is taken. Raises TooLarge, TooSlow, TooMany, Busy, UnsupportedMedia, Malformed,
        Disconnected."""
        if most is not None:
            self._max_body = min(most, self._max_body)
        media = self.headers.get(b"content-type", b"application/json").split(b";")[0].strip().lower()
        if media != b"application/json" and not media.endswith(b"+json") and not (text and media == b"text/plain"):
            raise UnsupportedMedia("The body must be application/json.")
        coding = self.headers.get(b"content-encoding", b"identity").strip().lower()
        if coding not in (b"identity", b"gzip", b"zstd", b""):
            raise UnsupportedMedia("The body's encoding must be gzip, zstd or none.")
        length = self.headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._max_body:
            self._too_large()
        holder = self._holder = Holder(self._bodies, self.address, ACTING.get())
        self.pause()
        raw = await self._read(holder)
        if self._place is not None:
            self._place.enter()
        if coding in (b"identity", b""):
            return raw
        # Never more than the limit and a byte, however much there is in it.
        body = await unpacked(raw, coding, self._max_body + 1, self._bodies.largest)
        if len(body) > self._max_body:
            self._too_large()
        holder.take(len(body))
        holder.give_back(len(raw))
        return body

    async def parts_of_body(self, most: int) -> AsyncIterator[bytes]:
        """The body as it comes, of at most `most` bytes. Raises TooLarge, TooSlow, UnsupportedMedia, Disconnected."""
        if self.headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
            raise UnsupportedMedia("A body of this kind must not be encoded.")
        length = self.headers.get(b"content-length", b"")
        arrival, more = self._arrival(), True
        while more:
            if arrival.size > most or (length.isdigit() and int(length) > most):
                raise TooLarge(f"The body is larger than {most} bytes.")
            part, more = await self._next(arrival)
            yield part

    async def goes_on(self) -> bool:
        """Whether so much of a body that nobody read is still to come that its connection is not worth keeping. What is
        there by now is dropped."""
        length = self.headers.get(b"content-length", b"" if b"transfer-encoding" in self.headers else b"0")
        closes = self.headers.get(b"connection", b"").lower() == b"close"
        if length == b"0" or (length.isdigit() and int(length) <= SMALL and not closes and not self._slow):
            return False
        with contextlib.suppress(TimeoutError):
            while self.unread:
                async with asyncio.timeout(0):
                    self.unread = bool((await self._receive()).get("more_body"))
        return self.unread

    async def _read(self, holder: Holder) -> bytes:
        whole = whole_body(self._receive) if self.unread else None
        if whole is not None:
            self.came, self.unread = len(whole), False
            if self.came > self._max_body:
                self._too_large()
            holder.take(self.came)
            return whole
        arrival, parts, more, wait = self._arrival(), list[bytes](), True, None
        while more:
            if wait is not None:
                wait.begin(time.monotonic())
            part, more = await self._next(arrival)
            if wait is not None:
                wait.end(len(part), time.monotonic())
            if arrival.size > self._max_body:
                self._too_large()
            holder.take(len(part))
            parts.append(part)
            if wait is None and more:
                wait = holder.waits(ClientWait(self.end))
        if wait is not None:
            wait.over()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _arrival(self) -> Arrival:
        return Arrival(time.monotonic(), self._bodies.slowest)

    async def _next(self, arrival: Arrival) -> tuple[bytes, bool]:
        """The next part of the body, and whether there is more. Raises TooSlow, Disconnected."""
        try:
            # Most bodies are there already: nothing has to be waited for.
            async with asyncio.timeout(max(0, arrival.left(time.monotonic()))):
                message = await self._receive()
        except TimeoutError:
            self._slow = True
            raise TooSlow from None
        if message["type"] == "http.disconnect":
            if LEAVE in self._scope and self._given_up:
                self._slow = True
                raise TooSlow
            raise Disconnected
        part: bytes = message.get("body", b"")
        self.came += len(part)
        arrival.came(len(part), time.monotonic())
        self.unread = bool(message.get("more_body"))
        return part, self.unread

    def _too_large(self) -> NoReturn:
        way = "; send it in parts" if self._max_body == self._bodies.largest else ""
        raise TooLarge(f"The body is larger than {self._max_body} bytes{way}.")


@lru_cache(maxsize=REMEMBERED)
def _parts(raw: bytes) -> tuple[str, ...]:
    return path_parts(raw.split(b"?")[0])


def path_parts(path: bytes) -> tuple[str, ...]:
    """The segments of a path, each decoded once, by itself. Raises NotFound, Malformed.

    The first one says what is asked for, and is compared as it was sent: a proxy that keeps /metrics to itself compares
    it too. A step (`.`, `..`) was meant for somebody who takes it out: what it would leave is not what was asked for.
    """
    segments = path.split(b"/")[1:]
    if not segments or b"%" in segments[0]:
        raise NotFound
    try:
        parts = tuple(unquote_to_bytes(part).decode() if b"%" in part else part.decode() for part in segments)
    except UnicodeDecodeError:
        raise Malformed("The address is not UTF-8.") from None
    if step := next((part for part in parts if part in STEPS), None):
        raise Malformed(f"The address has {step} for a segment; no id may be that.")
    return parts


def query_values(query_string: bytes, *, legacy: bool = False) -> dict[str, list[str]]:
    """A query's values by name; for the first generation with replacements for what is no text. Raises Malformed."""
    errors = "replace" if legacy else "strict"
    try:
        pairs = parse_qsl(query_string.decode("ascii", errors), keep_blank_values=True, errors=errors)
    except ValueError:
        raise Malformed("The query is not URL-encoded UTF-8.") from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def checked_id(name: str, text: str) -> str:
    """An id out of an address or header. Raises Malformed with the parameter's name."""
    if wrong := fault_in_id(text):
        raise Malformed(f"{name} {wrong}.", faults=(Fault(f"/{name}", wrong),))
    return text


def checked_client(text: str) -> str:
    """A device's id. Raises Malformed."""
    if wrong := fault_in_client(text):
        raise Malformed(f"clientId {wrong}.", faults=(Fault("/clientId", wrong),))
    return text


def page_bytes(text: str, most: int) -> int:
    """About how large a page may be, as a query gives it: `most` at most. Raises Malformed."""
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise Malformed("bytes must be a number.", faults=(Fault("/bytes", "must be a number"),))
    return live_messages.page_bytes(int(text), most)


def checked_tables(name: str, texts: list[str], most: int) -> tuple[str, ...]:
    """The tables that a query's `name` gives, each text one or several with commas between. Raises Malformed."""
    return live_messages.tables_in_texts(texts, name, most)
