"""A tiny HTTP server that answers as it is told: an identity provider's keys, or a membership service."""

from __future__ import annotations

import asyncio
import json
import re
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

USER = re.compile(r"/users/([^/]+)/memberships")


class Provider:
    """`body` is what it answers (JSON, or bytes as they are), `by_user` what it answers about a user, and
    `by_path` at an address.

    `silent` never answers, `dribble` sends a byte a second, `key` is what a header `x-service-key` must say. `asked`
    counts the requests, `at_once` says how many of them were answered at the same time at most, each after `pause`.
    """

    def __init__(self, body: Any = None) -> None:
        self.body: Any = body
        self.by_user: dict[str, Any] = {}
        self.by_path: dict[str, Any] = {}
        self.status = 200
        self.headers = ""
        self.silent = self.dribble = False
        self.key = ""
        self.pause = 0.0
        self.asked = self.at_once = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/answer"

    async def up(self) -> None:
        """Listens, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Refuses connections, and ends those there are."""
        if self._server is not None:
            self._server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._answer((await reader.readuntil(b"\r\n\r\n")).decode(), writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _answer(self, request: str, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        if self.silent:
            await asyncio.sleep(600)
        self.at_once = max(self.at_once, len(self._tasks))
        await asyncio.sleep(self.pause)
        address = urlsplit(request.split()[1])
        named = USER.fullmatch(address.path)
        user = unquote(named[1]) if named else parse_qs(address.query).get("userId", [""])[0]
        told = self.by_user.get(user, self.by_path.get(address.path, self.body))
        body = told if isinstance(told, bytes) else json.dumps(told).encode()
        known = not self.key or f"x-service-key: {self.key}\r\n" in request
        head = f"HTTP/1.1 {self.status if known else 403} Told\r\nContent-Length: {len(body)}\r\n"
        head += f"{self.headers}Connection: close\r\n\r\n"
        writer.write(head.encode())
        for at in range(0, len(body), 1 if self.dribble else len(body) or 1):
            writer.write(body[at:] if not self.dribble else body[at : at + 1])
            await writer.drain()
            if self.dribble:
                await asyncio.sleep(1)
        writer.close()
        await writer.wait_closed()

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.down()
