"""A WebSocket server that does as a test says: what it answers to each frame, when it refuses, when it closes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Any

import pytest
from syncd_client import LivePolicy
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

Frame = dict[str, Any]
QUICK = LivePolicy(
    first=0.01,
    longest=0.05,
    restart_spread=0.05,
    ping_interval=0.2,
    poll_interval=0.05,
    socket_interval=0.3,
    refused_interval=0.2,
    watch_interval=0.05,
    push_interval=0.0,
)


def changes(*wires: Frame, cursor: str = "c1", more: bool = False, app: str = "app", **spaces: list[str]) -> Frame:
    """A frame of changes."""
    return {
        "type": "changes",
        "appId": app,
        "changes": list(wires),
        "syncedUntil": cursor,
        "hasMore": more,
        "spaces": spaces,
    }


def result(push: Frame, status: str = "applied", **other: Any) -> Frame:
    """The answer to a push that took, or repeated, everything."""
    results = [{"changeId": change["changeId"], "status": status} for change in push["changes"]]
    return {"type": "push-result", "requestId": push["requestId"], "results": results, "conflicts": []} | other


def refuse(push: Frame, code: str, detail: str = "No.") -> Frame:
    """A push that is refused whole."""
    return {"type": "error", "requestId": push["requestId"], "code": code, "detail": detail}


class LiveScript:
    """The server's part. `on` is what it does with a frame of a type; by default it agrees with everything, and a
    subscription begins with what was taken since the one before.

    A handler gets the frame and the connection, and returns the frames to send. `refuse_with`: the HTTP
    status of each handshake, None to accept; `refuse_saying`: headers of that answer. `mute`: it accepts
    sockets and never says a word.
    """

    def __init__(self) -> None:
        self.heard: list[Frame] = []
        self.taken: list[Frame] = []
        self.paths: list[str] = []
        self.headers: list[Any] = []
        self.sockets: list[ServerConnection] = []
        self.refuse_with: int | None = None
        self.refuse_saying: dict[str, str] = {}
        self.mute = False
        self.cursor = "c1"
        self.time = "2026-01-01T00:00:00.000000Z"
        self.on: dict[str, Callable[[Frame, ServerConnection], Any]] = {}
        self._server: Server | None = None
        self.port = 0
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def frames(self, kind: str) -> list[Frame]:
        """What was heard of one type."""
        return [frame for frame in self.heard if frame["type"] == kind]

    async def say(self, *frames: Frame) -> None:
        """Sends frames on the newest socket."""
        for frame in frames:
            await self.sockets[-1].send(json.dumps(frame))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Closes every socket."""
        for socket in self.sockets:
            await socket.close(code, reason)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[LiveScript]:
        """On a free port, the same one each time."""
        async with serve(
            self._talk, "127.0.0.1", self.port, process_request=self._greet, close_timeout=0.2
        ) as self._server:
            self.port = self._server.sockets[0].getsockname()[1]
            yield self

    def _greet(self, connection: ServerConnection, request: Request) -> Response | None:
        self.paths.append(request.path)
        self.headers.append(request.headers)
        if self.refuse_with is None:
            return None
        response = connection.respond(HTTPStatus(self.refuse_with), "No sockets here.")
        for name, value in self.refuse_saying.items():
            response.headers.pop(name, None)
            response.headers[name] = value
        return response

    async def _talk(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        with contextlib.suppress(Exception):
            async for text in socket:
                frame = json.loads(text)
                self.heard.append(frame)
                if self.mute:
                    continue
                for answer in self._answer(frame, socket):
                    await socket.send(json.dumps(answer))

    def _answer(self, frame: Frame, socket: ServerConnection) -> list[Frame]:
        if frame["type"] in self.on:
            said = self.on[frame["type"]](frame, socket)
            return said if isinstance(said, list) else [said] if said else []
        match frame["type"]:
            case "auth":
                return [{"type": "auth-ok", "userId": "u", "serverTime": self.time}]
            case "subscribe":
                taken, self.taken = self.taken, []
                return [changes(*taken, cursor=self.cursor, joined=["_personal:u"])]
            case "push":
                client = self.frames("auth")[-1]["clientId"]
                self.taken += [change | {"clientId": client} for change in frame["changes"]]
                return [result(frame)]
            case _:
                return []

    def once(self, kind: str, *handlers: Callable[[Frame, ServerConnection], Any]) -> None:
        """Handles the next frames of a type with these, one each; then it agrees again."""
        left = list(handlers)

        def handle(frame: Frame, socket: ServerConnection) -> Any:
            handler = left.pop(0)
            if not left:
                del self.on[kind]
            return handler(frame, socket)

        self.on[kind] = handle

    def closing(self, code: int) -> Callable[[Frame, ServerConnection], None]:
        """A handler that closes the socket."""

        def handle(frame: Frame, socket: ServerConnection) -> None:
            task = asyncio.get_running_loop().create_task(socket.close(code))
            self._tasks.append(task)

        return handle


async def until(check: Callable[[], Any], what: str = "", patience: float = 60.0) -> None:
    """Waits until `check` holds."""
    deadline = time.monotonic() + patience
    while not check():
        assert time.monotonic() < deadline, f"it never came to that: {what or check}"
        await asyncio.sleep(0.01)


@pytest.fixture
async def live_script() -> AsyncIterator[LiveScript]:
    async with LiveScript().running() as script:
        yield script
