"""`GET /sync/{app}/stream`: what a socket's subscription brings, as server-sent events, one table each."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from syncd.core.errors import Busy, SyncdError, TooMany
from syncd.core.pieces import in_turns
from syncd.edge.admission import UserAllowance, token_in_query
from syncd.edge.answers import Receive, Scope, Send
from syncd.edge.bytes_held import BytesHeld, Holder
from syncd.edge.live_deps import LiveDeps
from syncd.edge.pace import KEEPS_UP_BELOW, LARGEST_PAGE, ClientWait, PageSize
from syncd.edge.rechecking import asked_again
from syncd.edge.requests import Request, page_bytes, query_values
from syncd.edge.wire import LOOK_EVERY, TRANSPORT, bound, sent, taken
from syncd.live.batch import Batch
from syncd.live.connection import Connection, Subscription
from syncd.protocol import live_messages
from syncd.protocol.pull_messages import PullPage, PullRequest
from syncd.service.aside import SMALL, aside
from syncd.store.turns import ACTING

HEARTBEAT_EVERY = 15.0
# How long a client may take nothing at all of what waits for it.
MOVES_WITHIN = 60.0
# The same while the server is stopping.
CLOSE_WITHIN = 5.0
# What may still be under way when the next events are sent.
LEFT = 16 * 1024
# Small pages are not counted.
UNBOUNDED = BytesHeld(1)
NEWLINES = bytes.maketrans(b"\n\r", b"  ")


class _Placed(msgspec.Struct):
    table: str


class Stream:
    """One stream. It is a sink of the hub's: events go into a short queue, and out as the client takes them. `answers`:
    where large pages are counted until they are taken, for this address and user."""

    def __init__(self, answers: BytesHeld | None = None, address: str = "", user: str = "") -> None:
        self._answers, self._address, self._user = answers, address, user
        # Of pages: those that wait, and those that are on their way.
        self._waiting, self._under_way = list[Holder](), list[Holder]()
        # Ends the connection of a client that is slow.
        self.leave: Callable[[], None] = lambda: None
        self._events: deque[bytes] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self._taken = asyncio.Event()
        self.over = asyncio.Event()
        self.ended: str | None = None
        # Where the client stands that has all that was sent.
        self.cursor = b""
        self.pages = PageSize()

    @property
    def keeps_up(self) -> bool:
        return self._size < KEEPS_UP_BELOW

    @property
    def page_bytes(self) -> int:
        return self.pages.bytes

    async def page_turn(self) -> None:
        while self._size:
            if self.ended is not None:
                raise ConnectionResetError
            self._taken.clear()
            await self._taken.wait()

    def changes(self, subscription: Subscription, batch: Batch, after: int, cursor: bytes) -> None:
        wanted = subscription.request
        chosen = batch.selection(wanted.plain, wanted.tables, after=after if after > batch.after else None)
        self._send(_grouped((change.table, change.text) for change in chosen), cursor, False)

    async def page(self, subscription: Subscription, delta: PullPage) -> None:
        size, cursor = len(delta.changes), delta.synced_until.encode()
        holder = self._held(size)
        try:
            # Each of its changes is looked at, which is long for a large one: everybody else's would wait.
            events = await aside(size > SMALL, _page_events, delta.changes, self.cursor, cursor, delta.more)
        except BaseException:
            holder.give_back()
            raise
        if self.ended is not None:
            holder.give_back()
            return
        if delta.joined or delta.left or delta.unreadable or delta.roles_until:
            self._put(b"event: spaces\ndata: %s\n\n" % delta.spaces)
        if holder.held:
            holder.waits(ClientWait(self.leave)).begin(time.monotonic())
            self._waiting.append(holder)
        for event in events:
            self._put(event)
        self.cursor = cursor
        if not delta.changes:
            self.heartbeat(cursor)

    def _held(self, size: int) -> Holder:
        """Counts a page among the answers where it is large. Raises Busy: it will be read again."""
        if self._answers is None or size <= self._answers.large:
            return Holder(UNBOUNDED, "")
        try:
            return Holder(self._answers, self._address, self._user).take(size)
        except TooMany as why:
            raise Busy(why.detail) from None

    def let_go(self) -> None:
        """It is over: what was on its way is not any more."""
        for holder in (*self._waiting, *self._under_way):
            holder.give_back()

    def _send(self, groups: dict[str, list[bytes]], cursor: bytes, more: bool) -> None:
        for event in _events(groups, self.cursor, cursor, more):
            self._put(event)
        self.cursor = cursor

    def heartbeat(self, cursor: bytes | None = None) -> None:
        """A heartbeat; with a cursor it also says how far the stream has come."""
        name = b"id: %s\n" % cursor if cursor else b""
        self._put(b"event: heartbeat\n%sdata: {}\n\n" % name)

    def frame(self, frame: bytes) -> None:
        """Errors are events too; what else is for sockets is not sent."""
        if frame.startswith(b'{"type":"error"'):
            self._put(b"event: error\ndata: %s\n\n" % frame)

    def invitations(self) -> None:
        """A stream is of one app's changes."""

    def end(self, code: int, reason: str) -> None:
        self.ended = reason
        for waited_for in (self._news, self._taken, self.over):
            waited_for.set()

    def _put(self, event: bytes) -> None:
        self._events.append(event)
        self._size += len(event)
        self._news.set()

    async def next(self, seconds: float) -> bytes:
        """What has come, after waiting for it for so long at most."""
        if not self._events:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), seconds)
        found = b"".join(self._events)
        self._events.clear()
        self._under_way += self._waiting
        self._waiting.clear()
        return found

    def taken(self) -> None:
        """What `next` gave is on its way."""
        self._size = sum(map(len, self._events))
        for holder in self._under_way:
            holder.give_back()
        self._under_way.clear()
        self._taken.set()


def _page_events(changes: bytes, before: bytes, cursor: bytes, more: bool) -> list[bytes]:
    """The events of a page; it is long work where that is large."""
    raw = msgspec.json.decode(b"[%s]" % changes, type=list[msgspec.Raw])
    placed = ((msgspec.json.decode(one, type=_Placed).table, bytes(one)) for one in in_turns(raw))
    return list(in_turns(_events(_grouped(placed), before, cursor, more), 1))


def _events(groups: dict[str, list[bytes]], before: bytes, cursor: bytes, more: bool) -> Iterator[bytes]:
    """Until the last of them the cursor is the one before: who is cut off in between gets all of them again."""
    for n, (table, texts) in enumerate(groups.items(), 1):
        last = n == len(groups)
        data = b'{"table":%s,"changes":[%s],"syncedUntil":"%s","hasMore":%s}' % (
            msgspec.json.encode(table), b",".join(texts).translate(NEWLINES), cursor if last else before,
            b"false" if last and not more else b"true",
        )  # fmt: skip
        yield b"event: changes\nid: %s\ndata: %s\n\n" % (cursor if last else before, data)


def _grouped(pairs: Iterable[tuple[str, bytes]]) -> dict[str, list[bytes]]:
    groups: dict[str, list[bytes]] = {}
    for table, text in pairs:
        groups.setdefault(table, []).append(text)
    return groups


class Streams:
    """The endpoint."""

    def __init__(self) -> None:
        self.open: set[Stream] = set()
        self._draining = False

    async def serve(
        self, request: Request, app: str, deps: LiveDeps, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serves one stream until the client, its token or the server ends. Raises SyncdError before it begins."""
        if refused := token_in_query(request.query_string.decode("ascii", "replace")):
            raise refused
        caller, expires = await deps.authenticator.authenticate(
            request.headers.get(b"authorization", b""), request.scope
        )
        ACTING.set(caller.user)
        address = "" if request.counted else request.address
        try:
            if refused := deps.admission.join(address):
                raise refused
            bucket = deps.admission.admit(caller.user)
            connection = Connection(Stream(deps.answers, request.address, caller.user), caller, "", app)
            try:
                await self._serve(request, app, deps, connection, bucket, expires, scope, receive, send)
            finally:
                bucket.listening.discard(connection)
                deps.admission.dismiss(caller.user)
        finally:
            deps.admission.part(address)

    async def _serve(
        self, request: Request, app: str, deps: LiveDeps, connection: Connection, bucket: UserAllowance, expires: float,
        scope: Scope, receive: Receive, send: Send,
    ) -> None:  # fmt: skip
        stream = connection.sink
        assert isinstance(stream, Stream)
        wanted = _pull_request(request, app)
        subscription = deps.hub.subscription(connection, wanted)
        stream.cursor = subscription.cursor
        await deps.hub.connect(connection)
        if self._draining:
            stream.end(1012, "restarting")
        self.open.add(stream)
        deps.hub.counts.streams += 1
        hung_up = asyncio.create_task(_hung_up(receive))
        try:
            if await _turn(bucket, connection, hung_up):
                deps.hub.subscribe(subscription)
                with asked_again(deps, connection, request.headers.get(b"authorization", b""), request.scope):
                    await _pump(stream, expires, hung_up, send, scope.get(TRANSPORT))
        finally:
            hung_up.cancel()
            stream.end(0, "over")
            stream.let_go()
            self.open.discard(stream)
            deps.hub.counts.streams -= 1
            deps.hub.gone(connection)

    def drain(self) -> None:
        """Ends all of them, and those that come; their clients come back with the last id."""
        self._draining = True
        for stream in list(self.open):
            stream.end(1012, "restarting")


async def _turn(bucket: UserAllowance, connection: Connection, hung_up: asyncio.Task[None]) -> bool:
    """Waits until one more subscription may begin; False where the client hangs up meanwhile. Raises TooMany, and Busy
    where the server stops."""
    assert isinstance(connection.sink, Stream)
    bucket.check(len(connection.spaces))
    bucket.listening.add(connection)
    over = asyncio.ensure_future(connection.sink.over.wait())
    seconds = bucket.begin(len(connection.spaces))
    await asyncio.wait([hung_up, over], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    over.cancel()
    if hung_up.done():
        return False
    if connection.sink.ended is not None:
        raise Busy("The server is restarting.")
    # Others that waited as well count only now.
    bucket.check(len(connection.spaces))
    return True


async def _pump(stream: Stream, expires: float, hung_up: asyncio.Task[None], send: Send, transport: Any) -> None:
    if transport is not None:
        bound(transport)
        stream.leave = transport.abort
    headers: list[Any] = [
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    sent = time.monotonic()
    while stream.ended is None and not hung_up.done() and time.time() < expires:
        body = await stream.next(LOOK_EVERY)
        if body:
            began = time.monotonic()
            if not await _sent(stream, body, send, transport):
                return
            sent = time.monotonic()
            stream.pages.took(len(body), sent - began)
            stream.taken()
        elif time.monotonic() - sent > HEARTBEAT_EVERY:
            stream.heartbeat()
    await _sent(stream, b"", send, transport, more=False)


async def _sent(stream: Stream, body: bytes, send: Send, transport: Any, *, more: bool = True) -> bool:
    """Sends it, and returns when the client has almost all of it; False when it took nothing for too long."""

    async def sending() -> None:
        await send({"type": "http.response.body", "body": body, "more_body": more})
        if transport is not None:
            await taken(transport, LEFT)

    return await sent(sending(), transport, lambda: MOVES_WITHIN if stream.ended is None else CLOSE_WITHIN)


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _pull_request(request: Request, app: str) -> PullRequest:
    query = query_values(request.query_string, legacy=request.legacy)
    if request.legacy:
        last = request.headers.get(b"last-event-id", b"").decode(errors="replace")
    else:
        last = request.header(b"last-event-id")
    since = last or query.get("since", [""])[-1]
    tables = live_messages.tables_in(",".join(query.get("collections", []) + query.get("collection", [])))
    given = query.get("bytes", [""])[-1]
    size = page_bytes(given, LARGEST_PAGE) if given else LARGEST_PAGE
    roles = None if request.legacy else query.get("roles", [None])[-1]
    return PullRequest(app, since, tables, plain=request.legacy, bytes=size, roles=roles)


__all__ = ["Stream", "Streams", "SyncdError"]
