"""A device on a WebSocket: frames out, frames in, no merging. What came is kept in order; a wait says for what."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import psutil
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.harness import Server
from tests.support.processes import workers_of

Json = dict[str, Any]
F = TypeVar("F")
WITHIN = 60.0
STILL = {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}


class Socket:
    """A connection that was accepted. `frames`: everything that came; `code`, `reason`: of its end, once it ended."""

    def __init__(self, connection: ClientConnection, server: Server) -> None:
        self.connection, self.server = connection, server
        self.frames: list[Json] = []
        self.code: int | None = None
        self.reason = ""
        self._seen = 0
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in self.connection:
                assert isinstance(text, str)
                self.frames.append(json.loads(text))
                self._news.set()
        self.code, self.reason = self.connection.close_code, self.connection.close_reason or ""
        self._news.set()

    async def send(self, *frames: Json | str | bytes) -> None:
        """Frames as they are: an object as JSON, text, or bytes as a binary frame."""
        for frame in frames:
            await self.connection.send(json.dumps(frame) if isinstance(frame, dict) else frame)

    async def until(self, condition: Callable[[], F], within: float = WITHIN) -> F:
        """Waits until something holds that what came has to do with."""
        deadline = time.monotonic() + within
        while not (found := condition()):
            left = deadline - time.monotonic()
            assert left > 0, f"it never came; what did: {self.frames[-6:]}"
            assert self.code is None, f"closed with {self.code} {self.reason}; what came: {self.frames[-6:]}"
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, 0.2)):
                    await self._news.wait()
        return found

    def all(self, kind: str, **members: Any) -> list[Json]:
        """The frames of a type, and with these members, that have come so far."""
        wanted = {"type": kind, **members}
        return [frame for frame in self.frames if frame.items() >= wanted.items()]

    async def next(self, kind: str, within: float = WITHIN, **members: Any) -> Json:
        """The next frame like that, after the last one that was asked for; what lies between is passed over."""

        def look() -> Json | None:
            for place in range(self._seen, len(self.frames)):
                if self.frames[place].items() >= {"type": kind, **members}.items():
                    self._seen = place + 1
                    return self.frames[place]
            return None

        found = await self.until(look, within)
        assert found is not None
        return found

    async def ask(self, frame: Json, kind: str, **members: Any) -> Json:
        """Sends a frame, and waits for the next one of a type."""
        await self.send(frame)
        return await self.next(kind, **members)

    async def auth(self, user: str, client: str | None = "c1", token: str = "", **members: Any) -> Json:
        """Says who it is; the answer."""
        frame = {"type": "auth", "token": token or self.server.token(user), **members}
        return await self.ask(frame | ({} if client is None else {"clientId": client}), "auth-ok")

    async def subscribe(self, app: str = "notes", since: str = "", **members: Any) -> list[Json]:
        """Begins to listen; the frames that bring what was missed."""
        await self.send({"type": "subscribe", "appId": app, "since": since, **members})
        pages = [await self.next("changes", appId=app)]
        while pages[-1]["hasMore"]:
            pages.append(await self.next("changes", appId=app))
        return pages

    async def push(self, *changes: Json, app: str = "notes", **members: Any) -> Json:
        """Pushes, and waits for the result, which must come."""
        request = f"{id(self)}-{len(self.frames)}-{time.monotonic_ns()}"
        frame = {"type": "push", "requestId": request, "appId": app, "changes": list(changes), **members}
        await self.send(frame)
        answers = await self.until(lambda: [f for f in self.frames if f.get("requestId") == request])
        assert answers[0]["type"] == "push-result", answers
        return answers[0]

    def changes(self, app: str = "notes") -> list[Json]:
        """All changes that have come, in order."""
        return [change for frame in self.all("changes", appId=app) for change in frame["changes"]]

    async def brings(self, record: str, app: str = "notes", within: float = WITHIN) -> Json:
        """Waits for a change of a record, which may have come already."""
        found = await self.until(lambda: [c for c in self.changes(app) if c["id"] == record], within)
        return found[0]

    async def fence(self) -> None:
        """Returns when everything that was sent has been worked on."""
        await self.send({"type": "unsubscribe", "appId": "no-app-of-anybody"})
        await self.ask({"type": "ping", "n": 1}, "pong")

    async def ends(self, within: float = WITHIN) -> int:
        """Waits for its end; the close code."""
        async with asyncio.timeout(within):
            await asyncio.shield(self._reading)
        assert self.code is not None
        return self.code

    async def close(self) -> None:
        if self.code is None:
            await self.connection.close()
        await asyncio.wait([self._reading])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def opened(server: Server, path: str = "/ws", **more: Any) -> Socket:
    """A connection, before it said who it is. Raises InvalidStatus where it is refused."""
    options = {"proxy": None, "compression": None, "max_size": None, "ping_interval": None, "close_timeout": 10, **more}
    connection = await connect(server.url.replace("http", "ws", 1) + path, **options)
    return Socket(connection, server)


async def refusal(server: Server, path: str = "/ws", **more: Any) -> httpx.Response:
    """What is answered to a connection that is not accepted."""
    try:
        socket = await opened(server, path, **more)
    except InvalidStatus as refused:
        answer = refused.response
        return httpx.Response(
            answer.status_code, headers=list(answer.headers.raw_items()), content=bytes(answer.body or b"")
        )
    await socket.close()
    raise AssertionError("it was accepted")


@asynccontextmanager
async def socket_of(
    server: Server, user: str, client: str | None = "c1", path: str = "/ws", token: str = "", **members: Any
) -> AsyncIterator[Socket]:
    """A connection of a user, closed at the end."""
    async with await opened(server, path) as socket:
        await socket.auth(user, client, token, **members)
        yield socket


@contextmanager
def only(server: Server, place: int) -> Iterator[None]:
    """While it lasts one worker alone takes connections: the others stand still, so keep it short."""
    others = [worker for n, worker in enumerate(workers_of(server)) if n != place]
    for worker in others:
        os.kill(worker.pid, signal.SIGSTOP)
    try:
        for worker in others:
            stands_still(worker)
        yield
    finally:
        for worker in others:
            os.kill(worker.pid, signal.SIGCONT)


def states(process: psutil.Process) -> Iterator[str]:
    """Of its threads. One that ends while it is looked at is not among them."""
    for thread in process.threads():
        with contextlib.suppress(psutil.NoSuchProcess):
            yield psutil.Process(thread.id).status()


def stands_still(process: psutil.Process, within: float = 30.0) -> None:
    """Returns when all threads of a process that was told to stop have: until then it may take a connection."""
    deadline = time.monotonic() + within
    while not STILL.issuperset(states(process)):
        assert time.monotonic() < deadline, "it does not stop"
        time.sleep(0.001)


def connections_of(worker: psutil.Process) -> set[int]:
    """The other ends' ports of the connections that a worker holds."""
    return {c.raddr.port for c in worker.net_connections("tcp") if c.raddr and c.status == "ESTABLISHED"}


@asynccontextmanager
async def socket_on(
    server: Server, place: int, user: str, client: str = "c1", path: str = "/ws", **members: Any
) -> AsyncIterator[Socket]:
    """A connection of a user to one of the workers."""
    with only(server, place):
        socket = await opened(server, path)
    port = socket.connection.local_address[1]
    assert port in connections_of(workers_of(server)[place])
    async with socket:
        await socket.auth(user, client, **members)
        yield socket
