"""The HTTP application: an address to its endpoint, an error to its problem. Plain ASGI: what is on the
path of every push and pull is a few dictionary look-ups."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import msgspec
import structlog

from syncd.core.errors import MethodNotAllowed, NotFound, Overloaded, SyncdError, UpgradeRequired
from syncd.core.failures import log_failure
from syncd.edge.addresses import DIRECT, Addresses
from syncd.edge.answers import (
    PIECE,
    Answer,
    Receive,
    Scope,
    Send,
    answer,
    answer_unread,
    drop,
    of_a_user,
    packed,
    send_whole,
)  # fmt: skip
from syncd.edge.bytes_held import BytesHeld, Holder
from syncd.edge.direct import respond
from syncd.edge.docs import Docs
from syncd.edge.endpoints.audit import AuditEndpoint
from syncd.edge.endpoints.backup import BackupEndpoint
from syncd.edge.endpoints.demo import Demo
from syncd.edge.endpoints.invitations import InvitationsEndpoint
from syncd.edge.endpoints.me import MeEndpoint
from syncd.edge.endpoints.quota import QuotaEndpoint
from syncd.edge.endpoints.spaces import SpacesEndpoint
from syncd.edge.endpoints.sync import SyncEndpoint
from syncd.edge.metrics import Board, numbers, render
from syncd.edge.openapi import document
from syncd.edge.pace import ClientWait
from syncd.edge.page import reads_html
from syncd.edge.problems import problem, status_of
from syncd.edge.rates import Rates
from syncd.edge.requests import Disconnected, Request, checked_id
from syncd.edge.services import Backend
from syncd.edge.stream import Streams
from syncd.edge.welcome import Welcome
from syncd.store.pool import told
from syncd.store.turns import ACTING

log = structlog.get_logger("syncd.http")


class Endpoints(NamedTuple):
    """What answers what lies below each address. `demo`, `me`: None where there is none."""

    sync: SyncEndpoint
    spaces: SpacesEndpoint
    invitations: InvitationsEndpoint
    quota: QuotaEndpoint
    audit: AuditEndpoint
    backup: BackupEndpoint
    docs: Docs
    welcome: Welcome
    demo: Demo | None = None
    me: MeEndpoint | None = None


class HttpApplication:
    """The ASGI application. `version` is what /health tells; `ended`: connections and requests
    that a bound ended, by the code of the reason."""

    def __init__(
        self, endpoints: Endpoints, backend: Backend, board: Board, ended: dict[str, int],
        *, bodies: BytesHeld, answers: BytesHeld, rates: Rates, version: str, addresses: Addresses = DIRECT,
    ) -> None:  # fmt: skip
        self._addresses = addresses
        self._endpoints, self._backend, self._board, self._ended = endpoints, backend, board, ended
        self._bodies, self._answers, self._rates, self._version = bodies, answers, rates, version
        self._openapi = document(version)
        self.streams = Streams()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._backend.services()
        except SyncdError as why:
            # Serving anyway: /readyz says what is missing, and the first request that can will connect.
            log.warning("not ready", code=why.code)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._backend.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, self._bodies, self._addresses)
        accept = request.headers.get(b"accept-encoding", b"")
        try:
            parts = request.parts()
            if len(parts) == 3 and parts[0] == "sync" and parts[2] == "stream":
                await self._stream(request, parts[1], scope, receive, send)
                return
            if parts[0] == "backup":
                services = await self._backend.services()
                await self._endpoints.backup.serve(request, parts, services, scope, receive, self._metered(send))
                self._moved(request, 0)
                return
            result = await self._answer(request, parts)
        except Disconnected:
            return
        except SyncdError as why:
            result = self._refused(request, told(why))
        except Exception as why:
            result = problem(SyncdError(log_failure(log, "failed", why).detail), request.root)
        finally:
            request.release()
        if ACTING.get():
            result = of_a_user(result)
        if request.unread and await request.goes_on():
            if len(result.body) <= PIECE:
                self._moved(request, 0)
                await answer_unread(send, receive, result, 2 * self._bodies.largest)
                return
            await drop(receive, 2 * self._bodies.largest)
        if len(result.body) > PIECE:
            sending = self._send_large(send, request, result, accept)
            del result  # it is let go of as soon as it is compressed
            went = await sending
        elif respond(send, result := await packed(result, accept)):
            went = len(result.body)
        else:
            went = await send_whole(send, result)
        self._moved(request, went)

    def _refused(self, request: Request, why: SyncdError) -> Answer:
        """The answer to what was refused, which is counted, and logged where it is the server's trouble."""
        if status_of(why) in (408, 413, 429, 503, 507):
            self._ended[why.code] = self._ended.get(why.code, 0) + 1
        if status_of(why) in (500, 503) and not isinstance(why, Overloaded):
            log.warning("refused", code=why.code, method=request.method)
        return problem(why, request.root)

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
            return await send_whole(send, result, holder.waits(ClientWait(request.end)))
        except SyncdError as why:
            self._ended[why.code] = self._ended.get(why.code, 0) + 1
            return await answer(send, of_a_user(problem(why, request.root)))
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
        live = (await self._backend.services()).live
        await self.streams.serve(request, checked_id("app", app), live, scope, receive, self._metered(send))

    async def _answer(self, request: Request, parts: tuple[str, ...]) -> Answer:
        at = self._endpoints
        match parts[0]:
            case "sync" if len(parts) > 1:
                return await at.sync.handle(request, parts, await self._backend.services())
            case "spaces" if len(parts) == 3 and parts[2] == "audit":
                return await at.audit.handle(request, parts[1], await self._backend.services())
            case "spaces" if len(parts) > 2 and parts[2] == "invitations":
                return await at.invitations.links(request, parts, (await self._backend.services()).spaces)
            case "spaces":
                return await at.spaces.handle(request, parts, (await self._backend.services()).spaces)
            case "invitations":
                return await at.invitations.invitations(request, parts, (await self._backend.services()).spaces)
            case "blocks":
                return await at.invitations.blocks(request, parts, (await self._backend.services()).spaces)
            case "quota" if len(parts) == 1:
                return await at.quota.handle(request, await self._backend.services())
            case "me" if len(parts) == 1 and at.me is not None:
                return await at.me.handle(request, await self._backend.services())
            case "demo" if at.demo is not None:
                return await at.demo.handle(request, parts, (await self._backend.services()).spaces)
            case "docs":
                return at.docs.handle(request, parts)
            case "ws" if len(parts) <= 2:
                raise UpgradeRequired
            case name if len(parts) == 1:
                return await self._about(request, name)
        raise NotFound

    async def _about(self, request: Request, name: str) -> Answer:
        if not name and request.method in ("GET", "HEAD") and reads_html(request):
            return self._endpoints.welcome.answer(request)
        pages = {"health", "healthz", "readyz", "openapi.json", "metrics"}
        if name not in pages:
            raise NotFound
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed("GET")
        if name == "openapi.json":
            servers = {"servers": [{"url": request.root}]} if request.root else {}
            return Answer(msgspec.json.encode(self._openapi | servers))
        if name == "metrics":
            hub = (await self._backend.services()).live.hub
            text = render(self._board, lambda: numbers(hub.counts, hub.bus, self._ended))
            return Answer(text, media_type=b"text/plain; version=1.0.0; charset=utf-8")
        if name != "readyz":
            return Answer(msgspec.json.encode({"status": "ok", "version": self._version, "time": time.time()}))
        wrong = await self._backend.ready()
        if wrong:
            body = msgspec.json.encode({"status": "not ready", "reasons": wrong})
            return Answer(body, 503, headers=[(b"retry-after", b"2")])
        return Answer(b'{"status":"ready"}')
