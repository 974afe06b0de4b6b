"""What is bounded before it is known who is there: heads, the first frame, time."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from syncd.edge.connection import DROP_BYTES, DROP_SECONDS
from tests.support.harness import Server
from tests.support.processes import workers_of
from tests.support.raw_http import asked, raw_of, refused
from tests.support.socket_device import opened
from tests.support.wire import edit, unique


@pytest.fixture(scope="module")
def hasty(workspace: Path) -> Iterator[Server]:
    """A server that is patient for a few seconds."""
    with Server(workspace / "hasty-bounds", settings={"head_timeout": 4, "idle_timeout": 5}) as server:
        yield server


# -- heads --------------------------------------------------------------------------------------------------------


async def test_a_hundred_headers_are_taken_and_one_more_is_431(server: Server) -> None:
    lines = [f"X-{n}: 1" for n in range(99)]
    assert (await asked(server, *lines))[0] == 200
    status, said = await asked(server, *lines, "X-99: 1")
    assert (status, said["code"]) == (431, "headers_too_large")


async def test_headers_are_bounded_together_and_one_by_one(server: Server) -> None:
    assert (await asked(server, *[f"X-{n}: {'x' * 6_000}" for n in range(10)]))[0] == 200
    assert (await asked(server, *[f"X-{n}: {'x' * 6_000}" for n in range(11)]))[0] == 431
    assert (await asked(server, "X: " + "x" * 60_000))[0] == 200
    assert (await asked(server, "X: " + "x" * 66_000))[0] == 431


@pytest.mark.parametrize(
    "start",
    ["GET /health HTTP/1.1\r\nX: ", "GET /health HTTP/1.1\r\n", "GET /", "\r\n",
     "POST /sync/a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
     "POST /sync/a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x="],
    ids=["a header", "a name", "an address", "empty lines", "a trailer", "a chunk's extension"],
)  # fmt: skip
async def test_what_has_no_end_is_not_kept(server: Server, start: str) -> None:
    async with raw_of(server) as raw:
        raw.writer.write(start.encode())
        assert await raw.pour(b"\r\n" * 5_000 if start == "\r\n" else b"x" * 10_000, 20_000_000) < 10_000_000


async def test_an_address_is_bounded_but_for_its_cursor(server: Server) -> None:
    token = f"Authorization: Bearer {server.token(unique('ann'))}"
    assert (await asked(server, token, path="/sync/app/pull?x=" + "a" * 8_000))[0] == 200
    status, said = await asked(server, token, path="/sync/app/pull?x=" + "a" * 8_200)
    assert (status, said["code"]) == (414, "url_too_long")
    assert (await asked(server, token, path="/sync/app/pull?since=" + "a" * 20_000))[0] == 200
    assert (await asked(server, token, path="/sync/app/pull?since=" + "a" * 66_000))[0] == 414


async def test_a_refusal_of_the_head_reaches_who_is_still_writing(server: Server) -> None:
    request = urllib.request.Request(f"{server.url}/health", headers={"X": "x" * 900_000})
    with pytest.raises(urllib.error.HTTPError) as refused:
        await asyncio.to_thread(urllib.request.urlopen, request, timeout=20)
    assert refused.value.code == 431
    refused.value.close()


async def test_after_a_refused_head_so_much_is_dropped_and_no_more() -> None:
    async with refused() as connection:
        connection.data_received(b"x" * (DROP_BYTES - 1))
        connection.data_received(b"x")
        # A connection closed now is reset, and the answer lost with it.
        assert not connection.transport.is_closing()
        connection.data_received(b"x")
        assert connection.transport.is_closing()


async def test_who_is_refused_and_stays_is_ended() -> None:
    before = monotonic()
    async with refused() as connection:
        connection.look(before + DROP_SECONDS - 1)
        assert not connection.transport.is_closing()
        connection.look(monotonic() + DROP_SECONDS + 1)
        assert connection.transport.is_closing()


async def test_requests_that_do_not_wait_for_answers_are_bounded(server: Server) -> None:
    """All of a segment are parsed at once, each with a scope of its own."""
    request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    async with raw_of(server) as raw, raw_of(server) as few:
        raw.writer.write(request * 5_000)
        assert (await raw.ends()).count(b"HTTP/1.1 200") < 100
        few.writer.write(request * 10)
        for _ in range(10):
            assert (await few.answer())[0] == 200


# -- sockets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_a_large_frame_before_auth_ends_the_connection(server: Server, compression: str | None) -> None:
    async with await opened(server, compression=compression) as socket_:
        await socket_.send(json.dumps({"type": "auth", "token": "x" * 18_000}))
        assert await socket_.ends() == 1009


async def test_what_follows_auth_at_once_may_be_large(server: Server) -> None:
    user = unique("ann")
    async with await opened(server) as socket_:
        push = {"type": "push", "requestId": "1", "appId": "notes", "changes": [edit("r", text="x" * 100_000)]}
        await socket_.send({"type": "auth", "token": server.token(user), "clientId": "c", "protocol": 1}, push)
        assert (await socket_.next("push-result"))["results"][0]["status"] == "applied"


# -- time ---------------------------------------------------------------------------------------------------------


@pytest.mark.waits
async def test_half_a_head_and_silence_are_ended(hasty: Server) -> None:
    async def is_ended(before: bytes, said: bytes) -> None:
        status = b" 408 " if said else b""
        async with raw_of(hasty) as raw:
            if before:
                raw.writer.write(before)
                assert (await raw.answer())[0] == 200
            raw.writer.write(said)
            last = await raw.ends()
            assert status in last[:20], (before, said)
            assert bool(last) == bool(status), (before, said)

    befores = (b"", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    parts = (b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nX: x\r\n", b"\r\n")
    await asyncio.gather(*(is_ended(before, said) for before in befores for said in parts))


@pytest.mark.waits
async def test_who_takes_nothing_of_an_answer_is_ended(hasty: Server) -> None:
    """The answer is complete for the server, and waits for its reader as long as the connection is there."""
    user = unique("ann")
    headers = {"Authorization": f"Bearer {hasty.token(user)}", "X-Client-Id": "c", "X-Sync-Protocol": "1"}
    async with httpx.AsyncClient(base_url=hasty.url, headers=headers) as http:
        for n in range(12):
            sent = await http.post("/sync/app", json={"changes": [edit(f"r{n}", text="x" * 900_000)], "pull": False})
            assert sent.status_code == 200
    lines = [f"{name}: {value}" for name, value in headers.items()]
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", hasty.port))
        request = "\r\n".join(["GET /sync/app/pull?bytes=20000000 HTTP/1.1", "Host: x", *lines, "", ""])
        reader.sendall(request.encode() * 8)  # more than the kernel takes
        port = reader.getsockname()[1]
        for _ in range(300):
            if not any(c.raddr and c.raddr.port == port for c in connections_of(hasty)):
                return
            await asyncio.sleep(0.2)
    raise AssertionError("it is still there")


def connections_of(server: Server) -> list[Any]:
    return [c for worker in workers_of(server) for c in worker.net_connections("tcp")]
