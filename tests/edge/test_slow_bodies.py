"""Bodies on a bad line: what moves arrives however long it takes; what does not is 408, and the client sees that."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from typing import Any

import pytest

from tests.support.device import Device
from tests.support.harness import PATH, Server
from tests.support.wire import edit, unique

pytestmark = pytest.mark.waits


class Upload:
    """A request whose body is sent by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
        self.reader, self.writer, self.body = reader, writer, body

    @classmethod
    async def begun(cls, server: Server, user: str, body: bytes, *more: str, path: str = "/sync/notes") -> Upload:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        lines = [
            f"POST {PATH}{path} HTTP/1.1",
            "Host: localhost",
            f"Authorization: Bearer {server.token(user)}",
            "X-Client-Id: slow",
            "X-Sync-Protocol: 1",
            f"Content-Length: {len(body)}",
            *more,
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        return cls(reader, writer, body)

    async def drip(self, rate: float, upto: int | None = None) -> None:
        """Sends the body, so many bytes a second, until it is sent or there is an answer."""
        step, upto = max(1, int(rate / 4)), len(self.body) if upto is None else upto
        answered = asyncio.ensure_future(self.reader.read(1))
        for at in range(0, upto, step):
            self.writer.write(self.body[at : min(at + step, upto)])
            await self.writer.drain()
            await asyncio.wait({answered}, timeout=step / rate)
            if answered.done():
                break
        self.first = await answered

    async def answer(self) -> tuple[int, dict[str, Any]]:
        """Status and body; the connection has been ended in order, or would have raised."""
        head = self.first + await self.reader.readuntil(b"\r\n\r\n")
        size = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        body = json.loads(await self.reader.readexactly(size))
        if head.split()[1] == b"408":
            assert b"\r\nconnection: close" in head.lower()
            assert b"\r\nretry-after: " in head.lower()
        self.writer.close()
        return int(head.split()[1]), body


def push_of(size: int, record: str) -> bytes:
    change = edit(record, text=secrets.token_hex(size // 2))
    return json.dumps({"changes": [change], "pull": False}).encode()


async def moves(server: Server, user: str) -> None:
    """A push that takes longer than a minute."""
    upload = await Upload.begun(server, user, push_of(140_000, "moves"))
    await upload.drip(2_000)
    status, body = await upload.answer()
    assert (status, body["results"][0]["status"]) == (200, "applied"), body


async def hardly_moves(server: Server, user: str) -> None:
    began = time.monotonic()
    upload = await Upload.begun(server, user, push_of(140_000, "drips"))
    await upload.drip(40)
    status, body = await upload.answer()
    assert (status, body["code"]) == (408, "too_slow"), body
    assert 9 < time.monotonic() - began < 30


async def stands_still(server: Server, user: str) -> None:
    """Most of it came at once, and earned it time, but not for ever."""
    began = time.monotonic()
    upload = await Upload.begun(server, user, push_of(140_000, "still"))
    await upload.drip(1e6, upto=100_000)
    status, body = await upload.answer()
    assert (status, body["code"]) == (408, "too_slow"), body
    assert 25 < time.monotonic() - began < 60


async def import_moves(server: Server, user: str, lines: bytes) -> None:
    """An export that comes back at a few KB a second, slower than any that was taken before."""
    upload = await Upload.begun(server, user, lines, "Content-Type: application/x-ndjson", path="/backup/import")
    await upload.drip(len(lines) / 70)
    status, body = await upload.answer()
    assert (status, body["duplicates"]) == (200, body["events"]), body


async def import_hardly_moves(server: Server, user: str) -> None:
    upload = await Upload.begun(
        server, user, b"x" * 50_000, "Content-Type: application/x-ndjson", path="/backup/import"
    )
    await upload.drip(40)
    status, body = await upload.answer()
    assert (status, body["code"]) == (408, "too_slow"), body


async def test_what_moves_arrives_and_what_does_not_is_408(server: Server) -> None:
    ann, bob = unique("ann"), unique("bob")
    async with Device(server, bob, "before") as device:
        await device.push([edit(f"r{n}", text="x" * 4000) for n in range(30)])
        lines = (await device.http.get("/backup/export")).content
    await asyncio.gather(
        moves(server, ann),
        hardly_moves(server, ann),
        stands_still(server, ann),
        import_moves(server, bob, lines),
        import_hardly_moves(server, ann),
    )
    async with Device(server, ann, "after") as device:
        assert [change["id"] for change in (await device.drain(history=1))[0]] == ["moves"]


async def test_a_body_over_the_limit_is_answered_while_it_is_still_being_sent(server: Server) -> None:
    """urllib and browsers write on until they are done, and see a reset instead of an answer that came before it."""
    upload = await Upload.begun(server, unique("ann"), b"x" * (12 << 20), "Connection: close")
    upload.writer.write(upload.body)
    await upload.writer.drain()
    upload.first = b""
    status, body = await upload.answer()
    assert (status, body["code"]) == (413, "body_too_large")
