"""One user who asks for the worst that may be asked for, all at once, and never waits. Runs in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

APP = "bench"
AT = "2026-01-01T10:00:00.000000Z"
ADDRESS = "127.0.2.1"
# A field of a little less than the largest change.
TEXT = "a" * ((1 << 20) - 400)
FIELDS = 12
SLOW, SOCKETS = 40, 300


class Greedy:
    """What it does goes on until it is cancelled; `said`: answers by what was asked and their status."""

    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token
        self.said: Counter[str] = Counter()

    async def run(self) -> None:
        """All of it, several of each."""
        works: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self._large_records, 2), (self._one_record, 3), (self._ones, 2), (self._pulls, 3), (self._slow_pull, 4),
            (self._slow_body, SLOW), (self._half_head, SOCKETS),
        ]  # fmt: skip
        async with asyncio.TaskGroup() as group:
            for work, times in works:
                for _ in range(times):
                    group.create_task(self._again(work))

    async def _again(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except (OSError, asyncio.IncompleteReadError):
                self.said[f"{work.__name__[1:]} cut"] += 1
            await asyncio.sleep(0.01)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port, local_addr=(ADDRESS, 0))

    def _head(self, first: str, *more: str) -> bytes:
        lines = (first, "Host: bench", f"Authorization: Bearer {self._token}", "X-Client-Id: greedy-phone",
                 "X-Sync-Protocol: 1", *more)  # fmt: skip
        return "\r\n".join((*lines, "", "")).encode()

    def _push(self, changes: list[dict[str, Any]]) -> bytes:
        return gzip.compress(json.dumps({"changes": changes, "pull": False}).encode(), 1)

    def _request(self, packed: bytes) -> bytes:
        head = self._head(
            f"POST /sync/{APP} HTTP/1.1", "Content-Type: application/json", "Content-Encoding: gzip",
            f"Content-Length: {len(packed)}",
        )  # fmt: skip
        return head + packed

    async def _ask(self, kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        at = head.index(b"content-length:") + 15
        left = int(head[at : head.index(b"\r", at)])
        while left:
            left -= len(await reader.read(min(left, 1 << 18)) or b"x" * left)
        self.said[f"{kind} {head[9:12].decode()}"] += 1
        return int(head[9:12])

    async def _large_records(self) -> None:
        """A new record of 12 MiB."""
        reader, writer = await self._open()
        with contextlib.closing(writer):
            record = str(uuid4())
            for field in range(FIELDS):
                changes = [change(record, TEXT, f"f{field}")]
                await self._ask("large record", reader, writer, self._request(self._push(changes)))

    async def _one_record(self) -> None:
        """1,000 changes of the one record of 12 MiB."""
        reader, writer = await self._open()
        with contextlib.closing(writer):
            for field in range(FIELDS):
                await self._ask(
                    "one record", reader, writer, self._request(self._push([change("one", TEXT, f"f{field}")]))
                )
            while True:
                changes = [change("one", n, f"g{n}") for n in range(1000)]
                await self._ask("1,000 changes", reader, writer, self._request(self._push(changes)))

    async def _ones(self) -> None:
        """10 KB that are 10 MB of `1,1,1`."""
        push = b'{"changes":[{"table":"t","id":"r","op":"update","fields":{"x":{"at":"%s","value":[%s1]}}}]}'
        packed = await asyncio.to_thread(gzip.compress, push % (AT.encode(), b"1," * 5_200_000), 6)
        reader, writer = await self._open()
        with contextlib.closing(writer):
            while True:
                await self._ask("bomb", reader, writer, self._request(packed))

    async def _pulls(self) -> None:
        """All that there is, from the start."""
        reader, writer = await self._open()
        with contextlib.closing(writer):
            while True:
                await self._ask("pull", reader, writer, self._head(f"GET /sync/{APP}/pull?limit=10000 HTTP/1.1"))

    async def _slow_pull(self) -> None:
        """A page that is read at 10 KB a second."""
        reader, writer = await self._open()
        with contextlib.closing(writer):
            writer.write(self._head(f"GET /sync/{APP}/pull?limit=10000 HTTP/1.1"))
            while await reader.read(1000):  # noqa: ASYNC110 (slow is what it is)
                await asyncio.sleep(0.1)

    async def _slow_body(self) -> None:
        reader, writer = await self._open()
        with contextlib.closing(writer):
            writer.write(
                self._head(f"POST /sync/{APP} HTTP/1.1", "Content-Type: application/json", "Content-Length: 90000")
            )
            while not reader.at_eof():
                writer.write(b" ")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        self.said[f"slow body {(await reader.readline())[9:12].decode()}"] += 1
                        return

    async def _half_head(self) -> None:
        reader, writer = await self._open()
        with contextlib.closing(writer):
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: ")
            self.said[f"half head {(await reader.readline())[9:12].decode()}"] += 1


def change(record: str, value: Any, field: str) -> dict[str, Any]:
    """A change of one field."""
    fields = {field: {"value": value, "at": AT}}
    return {"table": "t", "id": record, "op": "update", "changeId": str(uuid4()), "fields": fields}
