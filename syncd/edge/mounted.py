"""syncd in somebody else's ASGI server: requests and sockets as that server gives them, below a path of its own.

What our own connections bound below ASGI (see `connection.py`) is that server's to bound. What an application can see
is bounded here, by the same parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from syncd.core.errors import SyncdError
from syncd.edge.answers import Receive, Scope, Send
from syncd.edge.asgi_socket import AsgiSocket
from syncd.edge.handshake import app_of, check_page
from syncd.edge.http import HttpApplication
from syncd.edge.pace import SLOWEST
from syncd.edge.problems import problem
from syncd.edge.requests import Disconnected
from syncd.edge.services import Backend
from syncd.edge.sockets import Sockets
from syncd.edge.wire import HOST, LEAVE
from syncd.store.turns import ACTING

# Between two connections of HTTP/1.1; other versions have no such headers.
HOP_BY_HOP = (b"connection", b"upgrade", b"transfer-encoding")
REFUSAL = "websocket.http.response"
# What a proxy keeps for operators, by its path as it was sent: spelled with escapes that nobody needs it is not there.
OPERATORS = (b"/metrics", b"/readyz")
SPELLED = re.compile(rb"%(?:2[DEF]|3\d|[46][1-9A-F]|[57][0-9A]|5F|7E)", re.IGNORECASE)


class MountedApplication:
    """The ASGI application. `prefix`: what stands before syncd's addresses where the host does not say so in
    `root_path`; `patience`: how many seconds a client may take nothing of an answer."""

    def __init__(self, http: HttpApplication, sockets: Sockets, backend: Backend, prefix: str, patience: float) -> None:
        self._http, self._sockets, self._backend = http, sockets, backend
        self._prefix, self._patience = prefix, patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request or a WebSocket."""
        # Some servers run one after the other in one context.
        acting = ACTING.set("")
        try:
            if scope["type"] == "http":
                await self._request(scope, receive, send)
            elif scope["type"] == "websocket":
                await self._socket(scope, receive, send)
        finally:
            ACTING.reset(acting)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, self._patience)
        # Where it is not below the prefix there is nothing, which the application says as of any other address.
        root, path = placed(scope, self._prefix) or ("", b"/%")
        inner = {**scope, "root_path": root, "raw_path": path, LEAVE: exchange.end, HOST: scope}
        with contextlib.suppress(Disconnected):
            await self._http(inner, exchange.receive, exchange.send)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (await receive())["type"] != "websocket.connect":
            return
        sockets, headers = self._sockets, scope["headers"]
        client = scope.get("client")
        address = sockets.addresses.of(str(client[0]) if client else "", headers)
        crowded = sockets.admission.arrive(address)
        root = ""
        try:
            root, path = placed(scope, self._prefix) or ("", b"/%")
            app = app_of(path, scope["query_string"].decode("ascii", "replace"))
            if crowded:
                raise crowded
            await self._backend.services()
            deps = sockets.deps()
            check_page(deps.admission, headers)
            socket = AsgiSocket(sockets, scope, receive, send, address, sockets.max_frame)
            await socket.serve(deps, app)
        except SyncdError as why:
            await _refuse(scope, send, why, root)
        finally:
            sockets.admission.depart(address)


async def _refuse(scope: Scope, send: Send, why: SyncdError, root: str) -> None:
    """A problem, as for any other request, where the server can send one; else a 403 without one."""
    if REFUSAL not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008, "reason": why.code})
        return
    answer = problem(why, root)
    headers = [(b"content-type", answer.media_type), *answer.headers]
    headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": f"{REFUSAL}.start", "status": answer.status, "headers": headers})
    await send({"type": f"{REFUSAL}.body", "body": answer.body})


def placed(scope: Scope, prefix: str = "") -> tuple[str, bytes] | None:
    """Of a request's path, as it was sent: what stands before syncd's addresses, and the address. None where it is not
    below `prefix`."""
    raw: bytes = (scope.get("raw_path") or quote(scope["path"]).encode()).split(b"?")[0]
    root, outer = str(scope.get("root_path", "")).rstrip("/"), str(scope.get("app_root_path", ""))
    # A server that was told what a proxy has taken out may say so in the path or not.
    found = after(raw, root)
    if found is None and outer:
        found = after(raw, root.removeprefix(outer))
    address = after(raw if found is None else found, prefix)
    if address is None or (address in OPERATORS and SPELLED.search(raw)):
        return None
    return quote(root + prefix), address


def after(raw: bytes, lead: str) -> bytes | None:
    """What follows `lead`, which is decoded, in a path that is not; None where it begins otherwise."""
    if not lead:
        return raw or b"/"
    wanted, end = lead.encode(), 0
    while end < len(raw):
        end = raw.find(b"/", end + 1)
        end = len(raw) if end < 0 else end
        head = unquote_to_bytes(raw[:end])
        if head == wanted:
            return raw[end:] or b"/"
        if len(head) >= len(wanted):
            return None
    return None


class Exchange:
    """A request and its answer, through a server of somebody else's: neither is waited for without an end.

    `patience`: how many seconds a client may take nothing of an answer, besides what its bytes take on a slow line.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, patience: float) -> None:
        self._receive, self._send, self._patience = receive, send, patience
        self._plain = str(scope.get("http_version", "1.1")).startswith("1")
        self._no_body = scope["method"] == "HEAD"
        self._waits: set[asyncio.Timeout] = set()
        self._over = False

    def end(self) -> None:
        """Waits for the client no longer."""
        self._over = True
        for wait in self._waits:
            wait.reschedule(asyncio.get_running_loop().time())
        self._waits.clear()

    @contextlib.contextmanager
    def _waiting(self, wait: asyncio.Timeout) -> Iterator[None]:
        self._waits.add(wait)
        try:
            yield
        finally:
            self._waits.discard(wait)

    async def receive(self) -> Any:
        """The next part of the request; where the client is not waited for any more, that it has gone."""
        if not self._over:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None) as wait:
                    with self._waiting(wait):
                        return await self._receive()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Sends a part of the answer. Raises Disconnected."""
        if message["type"] == "http.response.start" and not self._plain:
            headers = [header for header in message["headers"] if header[0] not in HOP_BY_HOP]
            message = {**message, "headers": headers}
        elif self._no_body and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        if self._over:
            raise Disconnected
        try:
            async with asyncio.timeout(self._patience + len(message.get("body", b"")) / SLOWEST) as wait:
                with self._waiting(wait):
                    await self._send(message)
        except (TimeoutError, OSError):
            raise Disconnected from None
