"""The short way of a request and its answer says what the long one says, in whatever parts it comes."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.harness import Server
from tests.support.raw_http import Raw, raw_of
from tests.support.wire import edit, unique

PATH = "/sync/app"


@pytest.fixture(scope="module")
def served(workspace: Path) -> Iterator[Server]:
    with Server(workspace / "short") as server:
        yield server


def push(
    server: Server, *more: str, method: str = "POST", version: str = "1.1", path: str = PATH
) -> tuple[bytes, bytes]:
    """The head and the body of a push of one change."""
    body = json.dumps({"changes": [edit(unique("r"), title="x")], "clientId": "phone"}).encode()
    head = [f"{method} {path} HTTP/{version}", "Host: test", f"Authorization: Bearer {server.token('ann')}",
            "X-Sync-Protocol: 1", "Content-Type: application/json", f"Content-Length: {len(body)}", *more]  # fmt: skip
    return "\r\n".join((*head, "", "")).encode(), body


async def answer(raw: Raw) -> tuple[int, dict[str, str], bytes]:
    """The status, the headers and the body of the next answer."""
    async with asyncio.timeout(30):
        lines = (await raw.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), headers, await raw.reader.readexactly(int(headers["content-length"]))


@pytest.mark.parametrize("cut", ["whole", "head first", "in the body", "byte by byte"])
async def test_a_push_is_answered_however_it_comes(served: Server, cut: str) -> None:
    head, body = push(served)
    parts = {
        "whole": [head + body], "head first": [head, body], "in the body": [head + body[:7], body[7:]],
        "byte by byte": [head, *(body[n : n + 1] for n in range(12)), body[12:]],
    }[cut]  # fmt: skip
    async with raw_of(served) as raw:
        raw.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            raw.writer.write(part)
            await raw.writer.drain()
        status, headers, text = await answer(raw)
    assert (status, json.loads(text)["results"][0]["status"]) == (200, "applied")
    assert headers["content-type"] == "application/json"
    assert {"date", "content-length"} <= headers.keys()


async def test_answers_to_requests_in_one_segment_come_in_their_order(served: Server) -> None:
    pushes = [push(served) for _ in range(5)]
    async with raw_of(served) as raw:
        raw.writer.write(b"".join(head + body for head, body in pushes))
        found = [await answer(raw) for _ in pushes]
    seqs = [json.loads(text)["results"][0]["seq"] for _, _, text in found]
    assert seqs == sorted(seqs)
    assert [status for status, *_ in found] == [200] * 5


@pytest.mark.parametrize(("more", "version"), [(("Connection: close",), "1.1"), ((), "1.0")])
async def test_a_connection_that_is_not_kept_ends_behind_its_answer(
    served: Server, more: tuple[str, ...], version: str
) -> None:
    head, body = push(served, *more, version=version)
    async with raw_of(served) as raw:
        raw.writer.write(head + body)
        status, headers, _ = await answer(raw)
        assert await raw.ends() == b""
    assert (status, headers["connection"]) == (200, "close")


async def test_a_body_that_waits_to_be_asked_for_is(served: Server) -> None:
    head, body = push(served, "Expect: 100-continue")
    async with raw_of(served) as raw, asyncio.timeout(30):
        raw.writer.write(head)
        assert await raw.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.writer.write(body)
        assert (await answer(raw))[0] == 200


async def test_what_is_refused_says_so_and_keeps_its_connection(served: Server) -> None:
    head, body = push(served, path="/sync/app%00")
    fine = push(served)
    async with raw_of(served) as raw:
        raw.writer.write(b"".join((head, body, *fine)))
        found = [await answer(raw), await answer(raw)]
    assert [status for status, *_ in found] == [400, 200]
    assert found[0][1]["content-type"] == "application/problem+json"


async def test_head_says_the_length_and_no_body(served: Server) -> None:
    request = "{} /health HTTP/1.1\r\nHost: test\r\n\r\n"
    async with raw_of(served) as raw, asyncio.timeout(30):
        raw.writer.write((request.format("HEAD") + request.format("GET")).encode())
        head = await raw.reader.readuntil(b"\r\n\r\n")
        status, headers, text = await answer(raw)
    assert (head[9:12], status, len(text)) == (b"200", 200, int(headers["content-length"]))
    assert b"content-length: " in head
