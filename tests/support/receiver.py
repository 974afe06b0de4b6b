"""A receiver of webhooks: a real socket, which answers as it is told and remembers what came."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple


class Posted(NamedTuple):
    """A request that came: its headers, by small names, and its body."""

    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)["data"]

    def is_signed_with(self, secret: str) -> bool:
        """As Standard Webhooks say."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        said = b".".join((self.headers["webhook-id"].encode(), self.headers["webhook-timestamp"].encode(), self.body))
        wanted = base64.b64encode(hmac.new(key, said, hashlib.sha256).digest()).decode()
        return self.headers["webhook-signature"] == f"v1,{wanted}"


class Receiver:
    """`answers`: what is sent for the requests to come, the last one for all that follow. b"" answers nothing. Where
    `may_answer` is cleared, requests come and wait for it."""

    def __init__(self) -> None:
        self.posted: list[Posted] = []
        self.answers = [b"HTTP/1.1 204 No Content\r\n\r\n"]
        self.endless = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.url = ""
        self._came = asyncio.Condition()

    async def until(self, count: int, seconds: float = 60) -> list[Posted]:
        """Waits until so many requests came."""
        async with asyncio.timeout(seconds), self._came:
            await self._came.wait_for(lambda: len(self.posted) >= count)
        return self.posted

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = dict(line.split(": ", 1) for line in head[1:] if line)
            headers = {name.lower(): value for name, value in fields.items()}
            body = await reader.readexactly(int(headers["content-length"]))
            async with self._came:
                self.posted.append(Posted(headers, body))
                self._came.notify_all()
            await self.may_answer.wait()
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if not answer:
                await reader.read()
                return
            writer.write(answer)
            while self.endless:
                writer.write(b"x" * 65536)
                await writer.drain()
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """One at an address of its own, until the block ends."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.handle, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hooks?of=test"
    async with server:
        yield receiver
