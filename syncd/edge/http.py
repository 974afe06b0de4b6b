"""The HTTP application: an address to its endpoint, an error to its problem. Plain ASGI: what is on the
path of every push and pull is a few dictionary look-ups."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog

from syncd.core.errors import (
    DatabaseUnavailable,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    SyncdError,
    UpgradeRequired,
)
from syncd.edge.answers import PIECE, Answer, Receive, Scope, Send, answer, answer_unread, packed, send_whole
from syncd.edge.bodies import Bodies, Holder
from syncd.edge.docs import Docs
from syncd.edge.endpoints.audit import AuditEndpoint
from syncd.edge.endpoints.backup import BackupEndpoint
from syncd.edge.endpoints.demo import Demo
from syncd.edge.endpoints.invitations import InvitationsEndpoint
from syncd.edge.endpoints.quota import QuotaEndpoint
from syncd.edge.endpoints.spaces import SpacesEndpoint
from syncd.edge.endpoints.sync import Service, SyncEndpoint
from syncd.edge.metrics import Board, numbers, render
from syncd.edge.openapi import document
from syncd.edge.page import reads_html
from syncd.edge.problems import problem, status_of
from syncd.edge.rates import Rates
from syncd.edge.requests import Disconnected, Request, checked_id
from syncd.edge.socket_session import LiveDeps
from syncd.edge.stream import Streams
from syncd.edge.welcome import Welcome
from syncd.service.spaces import SpaceService
from syncd.store.turns import ACTING

log = structlog.get_logger("syncd.http")


class Backend:
    """What the endpoints work with, once it is there. `open` raises SyncdError until it can be."""

    def __init__(
        self,
        open_: Callable[[], Awaitable[tuple[Service, SpaceService, LiveDeps]]],
        ready: Callable[[], Awaitable[list[str]]],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self._open, self.ready, self.close = open_, ready, close
        self._opened: tuple[Service, SpaceService, LiveDeps] | None = None
        self._opening = asyncio.Lock()

    async def opened(self) -> tuple[Service, SpaceService, LiveDeps]:
        if self._opened is None:
            async with self._opening:
                if self._opened is None:
                    self._opened = await self._open()
        return self._opened

    def talk(self) -> LiveDeps:
        """What live connections work with. Raises DatabaseUnavailable until it is there."""
        if self._opened is None:
            raise DatabaseUnavailable
        return self._opened[2]


class HttpApplication:
    """The ASGI application. `version` is what /health tells; `ended`: connections and requests
    that a bound ended, by the code of the reason."""

    def __init__(
        self, sync: SyncEndpoint, spaces: SpacesEndpoint, invitations: InvitationsEndpoint, backend: Backend,
        board: Board, ended: dict[str, int],
        *, bodies: Bodies, answers: Bodies, rates: Rates, version: str,
    ) -> None:  # fmt: skip
        self._sync, self._spaces, self._invitations, self._backend = sync, spaces, invitations, backend
        self._bodies, self._answers, self._version, self._board = bodies, answers, version, board
        self._ended, self._rates = ended, rates
        self._openapi = msgspec.json.encode(document(version))
        self.streams = Streams()
        self.docs = Docs()
        self.welcome: Welcome | None = None
        self.demo: Demo | None = None
        self.quota: QuotaEndpoint | None = None
        self.audit: AuditEndpoint | None = None
        self.backup: BackupEndpoint | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._backend.opened()
        except SyncdError as why:
            # Serving anyway: /readyz says what is missing, and the first request that can will connect.
            log.warning("not ready", code=why.code)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._backend.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, self._bodies)
        accept = request.headers.get(b"accept-encoding", b"")
        try:
            parts = request.parts()
            if len(parts) == 3 and parts[0] == "sync" and parts[2] == "stream":
                await self._stream(request, parts[1], scope, receive, send)
                return
            if parts[0] == "backup" and self.backup is not None:
                await self.backup.serve(
                    request, parts, (await self._backend.opened())[0], scope, receive, self._metered(send)
                )
                self._moved(request, 0)
                return
            result = await self._answer(request, parts)
        except Disconnected:
            return
        except SyncdError as why:
            if status_of(why) in (408, 413, 429, 503, 507):
                self._ended[why.code] = self._ended.get(why.code, 0) + 1
            if status_of(why) in (500, 503) and not isinstance(why, Overloaded):
                log.warning("refused", code=why.code, method=request.method)
            result = problem(why)
            if await request.goes_on():
                request.release()
                self._moved(request, 0)
                await answer_unread(send, receive, result, 2 * self._bodies.largest)
                return
        except Exception as why:
            result = _failed(why)
        finally:
            request.release()
        if len(result.body) > PIECE:
            sending = self._send_large(send, request, result, accept)
            del result  # it is let go of as soon as it is compressed
            went = await sending
        else:
            went = await answer(send, result, accept)
        self._moved(request, went)

    async def _send_large(self, send: Send, request: Request, result: Answer, accept: bytes) -> int:
        """As `answer`, within the bounds of what is on its way; what cannot be read now is refused, while the answer to
        what was done is given."""
        holder = Holder(self._answers, request.address, ACTING.get())
        size = len(result.body)
        try:
            if request.method == "GET" and size > self._answers.large:
                holder.take(size)
            else:
                holder.hold(size)
            result = await packed(result, accept)
            holder.give_back(size - len(result.body))
            return await send_whole(send, result)
        except SyncdError as why:
            self._ended[why.code] = self._ended.get(why.code, 0) + 1
            return await answer(send, problem(why))
        finally:
            holder.give_back()

    def _moved(self, request: Request, went: int) -> None:
        """Counts what a request and its answer were, of a user who is known."""
        if user := ACTING.get():
            self._rates.moved(user, request.came, went)

    def _metered(self, send: Send) -> Send:
        """For an answer that is as long as it likes: counts it as it goes."""

        async def counted(message: Any) -> None:
            if user := ACTING.get():
                self._rates.moved(user, 0, len(message.get("body", b"")))
            await send(message)

        return counted

    async def _stream(self, request: Request, app: str, scope: Scope, receive: Receive, send: Send) -> None:
        if request.method != "GET":
            raise MethodNotAllowed("GET")
        talk = (await self._backend.opened())[2]
        await self.streams.serve(request, checked_id("app", app), talk, scope, receive, self._metered(send))

    async def _answer(self, request: Request, parts: tuple[str, ...]) -> Answer:
        match parts[0]:
            case "sync" if len(parts) > 1:
                return await self._sync.handle(request, parts, (await self._backend.opened())[0])
            case "spaces" if len(parts) == 3 and parts[2] == "audit" and self.audit is not None:
                return await self.audit.handle(request, parts[1])
            case "spaces":
                return await self._spaces.handle(request, parts, (await self._backend.opened())[1])
            case "invitations":
                return await self._invitations.invitations(request, parts, (await self._backend.opened())[1])
            case "blocks":
                return await self._invitations.blocks(request, parts, (await self._backend.opened())[1])
        if parts == ("quota",) and self.quota is not None:
            return await self.quota.handle(request, (await self._backend.opened())[0])
        if parts[0] == "demo" and self.demo is not None:
            return await self.demo.handle(request, parts, (await self._backend.opened())[1])
        if parts[0] == "docs":
            return self.docs.handle(request, parts)
        if parts[0] == "ws" and len(parts) <= 2:
            raise UpgradeRequired
        if len(parts) == 1:
            return await self._about(request, parts[0])
        raise NotFound

    async def _about(self, request: Request, name: str) -> Answer:
        if not name and self.welcome is not None and request.method in ("GET", "HEAD") and reads_html(request):
            return self.welcome.answer(request)
        pages = {"health", "healthz", "readyz", "openapi.json", "metrics"}
        if name not in pages:
            raise NotFound
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed("GET")
        if name == "openapi.json":
            return Answer(self._openapi)
        if name == "metrics":
            hub = (await self._backend.opened())[2].hub
            text = render(self._board, lambda: numbers(hub.counts, hub.bus, self._ended))
            return Answer(text, media_type=b"text/plain; version=1.0.0; charset=utf-8")
        if name != "readyz":
            return Answer(msgspec.json.encode({"status": "ok", "version": self._version, "time": time.time()}))
        wrong = await self._backend.ready()
        if wrong:
            body = msgspec.json.encode({"status": "not ready", "reasons": wrong})
            return Answer(body, 503, headers=[(b"retry-after", b"2")])
        return Answer(b'{"status":"ready"}')


def _failed(why: Exception) -> Answer:
    """What is answered where something went wrong that should not. Its text may hold what was sent, so that only its
    kind and place are logged."""
    place = why.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_qualname}:{place.tb_lineno}" if place else ""
    log.error("failed", error=type(why).__name__, where=where)
    return problem(SyncdError())
