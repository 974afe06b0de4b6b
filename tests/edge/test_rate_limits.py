"""How fast a user may be: who is faster is told how long to wait, nothing is lost, and nobody else notices."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.harness import Server
from tests.support.socket_device import opened
from tests.support.stream_device import stream_of
from tests.support.wire import Device, edit, unique

# A minute's worth of bytes and ten seconds' of requests may come at once: six requests, some kilobytes.
REQUESTS, BYTES = 0.6, 100


@pytest.fixture(scope="module")
def strict(workspace: Path) -> Iterator[Server]:
    """A server where each user has few requests and bytes."""
    limits = {"quota_requests": REQUESTS, "quota_bytes_in": BYTES, "quota_bytes_out": BYTES}
    with Server(workspace / "rates", settings=limits) as server:
        yield server


def test_too_many_requests_are_429_with_the_time_to_wait_and_others_go_on(strict: Server) -> None:
    with httpx.Client(base_url=strict.url) as http:
        ann, old, bob = (Device(http, strict, unique(name), legacy=name == "old") for name in ("ann", "old", "bob"))
        for device in (ann, old):
            answers = [device.send(edit(str(n), x=n)) for n in range(9)]
            statuses = [answer.status_code for answer in answers]
            assert statuses == sorted(statuses)
            assert 6 <= statuses.count(200) < 9
            refused = answers[-1]
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
            assert refused.headers["retry-after"] in ("1", "2")
            assert "`requests`" in refused.json()["detail"]
        bob.write(edit("r", x=1))


def test_bytes_that_came_and_went_count(strict: Server) -> None:
    with httpx.Client(base_url=strict.url) as http:
        ann, bob = (Device(http, strict, unique(name)) for name in ("ann", "bob"))
        ann.write(edit("r", x="x" * 20_000))
        refused = ann.ask()
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
        assert "`bytes_in`" in refused.json()["detail"]
        assert 50 <= int(refused.headers["retry-after"]) <= 60
        assert http.get("/openapi.json", headers=bob.headers).status_code == 200
        bob.write(edit("r", x=1))
        bob.request("GET", "/backup/export", headers={"accept-encoding": "identity"})
        assert bob.ask().status_code == 200


async def test_over_a_socket_a_push_too_many_is_told_with_the_time_to_wait(strict: Server) -> None:
    async with await opened(strict) as socket:
        await socket.auth(unique("ann"), "c1")
        for n in range(8):
            await socket.send(
                {"type": "push", "requestId": str(n), "appId": "app", "changes": [edit(str(n), x=n)]},
            )
        told = await socket.next("error", code="too_many_requests")
        assert told["retryAfter"] in (1, 2)
        assert told["requestId"] in map(str, range(5, 8))
        assert socket.all("push-result", requestId="0")
        await socket.send({"type": "ping"})
        await socket.next("pong")


async def test_what_is_sent_while_one_listens_counts_too(strict: Server) -> None:
    with httpx.Client(base_url=strict.url) as http:
        bob, ann, carl = (Device(http, strict, unique(name)) for name in ("bob", "ann", "carl"))
        space = bob.create(unique("space"))
        for listener in (ann, carl):
            bob.member(space, listener.user)
        async with await opened(strict) as socket, stream_of(strict, carl.user, app="app") as stream:
            await socket.auth(ann.user, "listener", protocol=1)
            await socket.subscribe("app")
            await stream.until(lambda: stream.events)
            await asyncio.to_thread(bob.write, {**edit("r", x="x" * 7000), "spaceId": space})
            await socket.brings("r", "app")
            await stream.brings("r")
            for listener in (ann, carl):
                refused = await asyncio.to_thread(listener.ask)
                assert refused.status_code == 429
                assert "`bytes_out`" in refused.json()["detail"]
