"""Where as many requests are in work as may be, whoever comes is told so at once and the others are answered."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest

from syncd.edge.concurrency import LEAST
from syncd.edge.connection import MOST_PIPELINED
from tests.support.harness import Server
from tests.support.raw_http import Raw, raw_of
from tests.support.socket_device import socket_of
from tests.support.wire import edit, unique

# What every request needs.
LOCK = "LOCK TABLE syncd.sync_memberships IN ACCESS EXCLUSIVE MODE"


@pytest.fixture(scope="module")
def narrow(workspace: Path) -> Iterator[Server]:
    """A server that has few requests in work, and waits long for a lock."""
    settings = {"max_requests": LEAST, "lock_timeout_ms": 60_000, "statement_timeout_ms": 60_000}
    with Server(workspace / "narrow", settings=settings) as server:
        yield server


@asynccontextmanager
async def filled(server: Server) -> AsyncIterator[tuple[list[asyncio.Task[httpx.Response]], list[httpx.Response]]]:
    """While nothing gets on: as many pulls as may be in work, each of another user, and eight that were refused."""
    owner = await asyncpg.connect(server.owner_dsn)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(owner.close)
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=server.url, timeout=60))
        transaction = owner.transaction()
        await transaction.start()
        await owner.execute(LOCK)
        waiting = [asyncio.create_task(pulled(http, server)) for _ in range(LEAST + 8)]
        try:
            refused = [await one for _, one in zip(range(8), asyncio.as_completed(waiting), strict=False)]
            yield waiting, refused
        finally:
            await transaction.rollback()
            await asyncio.gather(*waiting)


def as_(server: Server, user: str) -> dict[str, str]:
    return {"authorization": f"Bearer {server.token(user)}", "x-sync-protocol": "1", "x-client-id": "c1"}


async def pulled(http: httpx.AsyncClient, server: Server, **headers: str) -> httpx.Response:
    return await http.get("/sync/app/pull", headers=as_(server, unique("ann")) | headers)


async def test_who_is_too_many_is_told_at_once_and_the_others_are_answered(narrow: Server) -> None:
    async with filled(narrow) as (waiting, refused):
        assert [one.json()["code"] for one in refused] == ["busy"] * 8
        assert all(one.status_code == 503 and int(one.headers["retry-after"]) >= 1 for one in refused)
    statuses = sorted(one.result().status_code for one in waiting)
    assert statuses == [200] * LEAST + [503] * 8


async def test_whatever_it_is_that_comes_is_refused_and_its_connection_goes_on(narrow: Server) -> None:
    one = httpx.AsyncClient(base_url=narrow.url, timeout=60, limits=httpx.Limits(max_connections=1))
    large = {"clientId": "c1", "changes": [edit("r", x="x" * 100_000)]}
    async with one as http:
        async with filled(narrow):
            headers = as_(narrow, unique("bob"))
            said = [
                await http.post("/sync/app", headers=headers, json={"changes": [edit("r", x=1)]}),
                await pulled(http, narrow),
                await pulled(http, narrow, origin=narrow.url),
                await http.get("/spaces", headers=headers),
                await http.post("/sync/app", headers=headers, json=large),
            ]
            assert [(one.status_code, one.json()["code"]) for one in said] == [(503, "busy")] * 5
            assert (await http.get("/health")).status_code == 200
        assert (await http.post("/sync/app", headers=headers, json=large)).status_code == 200


async def test_a_push_over_a_socket_is_told_the_same(narrow: Server) -> None:
    user = unique("sue")
    async with socket_of(narrow, user) as socket:
        async with filled(narrow):
            push = {"type": "push", "requestId": "1", "appId": "notes", "changes": [edit("r", x=1)]}
            error = await socket.ask(push, "error", requestId="1")
            assert (error["code"], error["retryAfter"] >= 1) == ("busy", True)
        assert (await socket.push(edit("r", x=1)))["results"][0]["status"] == "applied"


async def test_a_body_that_is_still_coming_has_no_place(narrow: Server) -> None:
    head = "POST /sync/app HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50000\r\n"
    lines = [asyncio.open_connection("127.0.0.1", narrow.port) for _ in range(LEAST)]
    connections = await asyncio.gather(*lines)
    for _, writer in connections:
        named = "".join(f"{name}: {value}\r\n" for name, value in as_(narrow, unique("slow")).items())
        writer.write((head + named + "\r\n ").encode())
    async with httpx.AsyncClient(base_url=narrow.url, timeout=60) as http:
        # In order: the server has seen all of them when it has seen one that came later.
        assert [(await pulled(http, narrow)).status_code for _ in range(3)] == [200] * 3
    for _, writer in connections:
        writer.transport.abort()


# -- requests that follow each other on one connection --------------------------------------------------------------

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


@asynccontextmanager
async def streaming(server: Server, user: str, behind: bytes = b"") -> AsyncIterator[Raw]:
    """A connection with an answer without end, and what waits behind it in the same segment."""
    head = f"GET /sync/notes/stream HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.token(user)}\r\n\r\n"
    async with raw_of(server) as raw:
        raw.writer.write(head.encode() + behind)
        assert b" 200 " in await asyncio.wait_for(raw.reader.readuntil(b"\r\n\r\n"), 20)
        yield raw


@pytest.mark.parametrize("end", [b"", GET * 3, b"\0garbage\r\n\r\n"], ids=["reset", "too many", "garbage"])
async def test_after_connections_that_ended_others_are_answered(narrow: Server, end: bytes) -> None:
    user = unique("ann")
    for _ in range(4):
        async with streaming(narrow, user) as raw:
            raw.writer.write(GET * MOST_PIPELINED + end)
            if end:
                await raw.ends()
            else:
                reset = struct.pack("ii", 1, 0)
                raw.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    async with httpx.AsyncClient(base_url=narrow.url, timeout=60) as http:
        assert [(await pulled(http, narrow)).status_code for _ in range(3)] == [200] * 3
    assert "Exception in ASGI" not in narrow.output()


async def test_what_waits_behind_a_stream_is_not_counted(narrow: Server) -> None:
    user = unique("sue")
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(streaming(narrow, user, GET * MOST_PIPELINED))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=narrow.url, timeout=60))
        assert [(await pulled(http, narrow)).status_code for _ in range(3)] == [200] * 3
