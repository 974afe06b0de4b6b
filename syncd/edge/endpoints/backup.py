"""`GET /backup/export` and `POST /backup/import`: what a user wrote, as a stream out of one snapshot, and back."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from typing import IO, Any

import msgspec
import structlog

from syncd.core.errors import MethodNotAllowed, NotFound, TooMany, UnsupportedMedia
from syncd.core.principal import Principal
from syncd.edge import answers
from syncd.edge.answers import Answer, Receive, Send, answer
from syncd.edge.authenticator import Authenticator
from syncd.edge.pace import SLOW_FOR, ClientWait, slowest
from syncd.edge.requests import Request
from syncd.edge.services import Services
from syncd.edge.wire import LOOK_EVERY, TRANSPORT, bound, sent
from syncd.store.backup import Backups
from syncd.transfer.export import Format, Scope, export
from syncd.transfer.export_reader import ExportReader
from syncd.transfer.importer import Importer, ImportReport

log = structlog.get_logger("syncd.backup")

# How long a client may take nothing at all: its snapshot is held open meanwhile.
MOVES_WITHIN = 60.0
# How long to wait for one's own last one to end: it may have been given up a moment ago.
PATIENCE = 2.0
# Imports that are on their way in, each into a temporary file; and how long one that is there waits for its turn.
UPLOADS, UPLOADED_PATIENCE = 16, 300.0
SPOOL = 1 << 20
NDJSON, ZIP = b"application/x-ndjson", b"application/zip"
MEDIA: dict[bytes, Format] = {NDJSON: "ndjson", b"application/jsonl": "ndjson", ZIP: "zip"}


class TransferSlots:
    """One of a user at a time, and so many in all: what is left is for everybody else. Whose client is slow loses the
    place when somebody waits for one."""

    def __init__(self, most: int, slow_for: float = SLOW_FOR) -> None:
        self._most, self._slow_for = most, slow_for
        self._taken, self._freed = dict[str, ClientWait](), asyncio.Event()

    @asynccontextmanager
    async def place(
        self, user: str, patience: float = PATIENCE, leave: Callable[[], None] = lambda: None
    ) -> AsyncIterator[ClientWait]:
        """Waits so many seconds for one. `leave` ends what is done in it. Raises TooMany."""
        try:
            async with asyncio.timeout(patience):
                while user in self._taken or len(self._taken) >= self._most:
                    self._freed.clear()
                    in_the_way = [self._taken[user]] if user in self._taken else self._taken.values()
                    if slow := slowest(in_the_way, time.monotonic()):
                        slow.leave()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._freed.wait(), LOOK_EVERY)
        except TimeoutError:
            raise TooMany("Other exports and imports are under way; wait for their end.") from None
        wait = self._taken[user] = ClientWait(leave, self._slow_for)
        try:
            yield wait
        finally:
            del self._taken[user]
            self._freed.set()


class BackupEndpoint:
    """Both ways. `most`: bytes of an import; `at_once`: how many exports and imports a worker has under way."""

    def __init__(
        self,
        authenticator: Authenticator,
        backups: Backups,
        restorer: Importer,
        *,
        skew: float,
        most: int,
        at_once: int,
    ) -> None:
        self._authenticator, self._backups, self._restorer = authenticator, backups, restorer
        self._skew, self._most = int(skew * 1_000_000), most
        self._uploads, self._working = TransferSlots(UPLOADS), TransferSlots(at_once)

    async def serve(
        self,
        request: Request,
        parts: tuple[str, ...],
        services: Services,
        scope: answers.Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Answers an address below /backup. Raises SyncdError before an answer has begun."""
        match parts[1:]:
            case ("export",):
                if request.method != "GET":
                    raise MethodNotAllowed("GET")
                caller = await self._authenticator.caller(request)
                request.pause()
                transport = scope.get(TRANSPORT)
                async with self._working.place(caller.user, leave=request.end) as wait:
                    whole = await self._export(request, caller, transport, receive, send, wait)
                if whole:
                    if request.unread:
                        await answers.drop(receive, self._most)
                    await services.audit.say(caller.user, "export", None, caller.noted)
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
            case ("import",):
                if request.method != "POST":
                    raise MethodNotAllowed("POST")
                caller = await self._authenticator.caller(request)
                request.pause()
                async with self._uploads.place(caller.user, leave=request.end) as wait:
                    report = await self._import(request, caller, services, wait)
                await services.audit.say(
                    caller.user,
                    "import",
                    None,
                    {"imported": report.imported, "refused": report.refused, **caller.noted},
                )
                await answer(send, Answer(msgspec.json.encode(report)), request.headers.get(b"accept-encoding", b""))
            case _:
                raise NotFound

    async def _export(
        self, request: Request, caller: Principal, transport: Any, receive: Receive, send: Send, wait: ClientWait
    ) -> bool:
        """Sends all but the end of the body. False: it was cut short, or the client has gone."""
        form = wanted(request.headers.get(b"accept", b""))
        if adopt := caller.adopt:
            await self._backups.adopt(caller.user, adopt)
        async with AsyncExitStack() as stack:
            snapshot = await stack.enter_async_context(self._backups.snapshot(caller.user))
            data = await stack.enter_async_context(aclosing(export(snapshot, Scope("user", caller.user), form)))
            first = await anext(data)
            if transport is not None:
                bound(transport)
            await send({"type": "http.response.start", "status": 200, "headers": headers(form)})
            try:
                return await _pump(first, data, request, receive, send, transport, wait)
            except Exception as why:
                # Without its end mark and the end of the body nobody takes it for whole.
                log.warning("export cut short", error=getattr(why, "code", type(why).__name__))
                if transport is not None:
                    transport.abort()
                return False

    async def _import(self, request: Request, caller: Principal, services: Services, wait: ClientWait) -> ImportReport:
        media = request.headers.get(b"content-type", NDJSON).split(b";")[0].strip().lower()
        if media not in MEDIA:
            raise UnsupportedMedia("An export is application/x-ndjson or application/zip.")
        with tempfile.TemporaryFile() as file:
            await _spool(request.parts_of_body(self._most), file, wait)
            # A slow line holds up nobody but its own user: the others' places are for what uses the database.
            async with self._working.place(caller.user, UPLOADED_PATIENCE):
                source = await asyncio.to_thread(partial(ExportReader, own=True), file, MEDIA[media], self._most)
                await asyncio.to_thread(source.verify)
                latest = time.time_ns() // 1000 + self._skew
                elsewhere = self._authenticator.managed_elsewhere
                return await self._restorer.as_user(
                    source, caller, latest, managed_elsewhere=elsewhere, wrote=services.wrote, full=services.log.full
                )


def wanted(accept: bytes) -> Format:
    """The format that an Accept header asks for; lines, where it does not say."""
    kinds = [part.split(b";")[0].strip() for part in accept.lower().split(b",")]
    return next((MEDIA[kind] for kind in kinds if kind in MEDIA), "ndjson")


def headers(form: Format) -> list[tuple[bytes, bytes]]:
    """The headers of an export."""
    media, ending = (ZIP, b"zip") if form == "zip" else (NDJSON, b"jsonl")
    return [
        (b"content-type", media),
        (b"content-disposition", b'attachment; filename="syncd-export.%s"' % ending),
        (b"cache-control", b"no-store"),
        (b"vary", b"accept"),
        (b"x-accel-buffering", b"no"),
    ]


async def _pump(
    first: bytes, data: AsyncIterator[bytes], request: Request, receive: Receive, send: Send, transport: Any,
    wait: ClientWait,
) -> bool:  # fmt: skip
    """Sends as the client takes it; False when it has gone, or takes nothing. Raises what the reading raises."""
    hung_up = asyncio.create_task(_hung_up(request, receive))
    try:
        part = first
        while True:
            sending = send({"type": "http.response.body", "body": part, "more_body": True})
            wait.begin(time.monotonic())
            taken = await sent(sending, transport, lambda: MOVES_WITHIN)
            wait.end(len(part), time.monotonic())
            if not taken or hung_up.done():
                return False
            try:
                part = await anext(data)
            except StopAsyncIteration:
                return True
    finally:
        hung_up.cancel()


async def _hung_up(request: Request, receive: Receive) -> None:
    """Until the client has gone. A body that nobody asked for is dropped meanwhile."""
    while (message := await receive())["type"] != "http.disconnect":
        request.unread = bool(message.get("more_body"))


async def _spool(parts: AsyncIterator[bytes], file: IO[bytes], wait: ClientWait) -> None:
    """The body into a file, in a thread: a disk may be slow."""
    held = bytearray()
    wait.begin(time.monotonic())
    async for part in parts:
        wait.end(len(part), time.monotonic())
        held += part
        if len(held) >= SPOOL:
            await asyncio.to_thread(file.write, bytes(held))
            held.clear()
        wait.begin(time.monotonic())
    wait.over()
    await asyncio.to_thread(file.write, bytes(held))
