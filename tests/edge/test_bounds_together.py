"""What is bounded of all that comes at the same time: bodies, answers, frames, connections."""

from __future__ import annotations

import asyncio
import json
import resource
import secrets
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from time import thread_time
from typing import Any

import httpx
import pytest

from syncd.edge.answers import PIECE, Answer, answer
from tests.support.harness import Server
from tests.support.processes import workers_of
from tests.support.raw_http import Raw, asked, raw_of
from tests.support.raw_socket import RawSocket
from tests.support.socket_device import socket_of
from tests.support.stream_device import stream_of
from tests.support.wire import edit, unique

PER_ADDRESS, SPARE, IN_ALL = 12, "127.0.0.9", 30


@pytest.fixture(scope="module")
def strict(workspace: Path) -> Iterator[Server]:
    """A server of few connections and bodies, which takes 1 MiB."""
    limits = {
        "max_body": 1 << 20,
        "max_connections_per_address": PER_ADDRESS,
        "max_connections": IN_ALL,
        "max_bodies_per_user": 3,
        "max_bodies_per_address": 4,
        "max_bodies": 6,
    }
    with Server(workspace / "bounds", settings=limits) as server:
        yield server


# -- bodies that nobody reads -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [("/sync/app", 1_500_000, 413), ("/sync/app", 900_000, 401), ("/nowhere", 900_000, 404),
     ("/sync/app/pull", 900_000, 405)],
)  # fmt: skip
async def test_who_writes_on_hears_the_answer(strict: Server, path: str, size: int, status: int) -> None:
    """urllib says `Connection: close`, writes all it has, and reads then."""
    headers = {"Content-Type": "application/json"}
    if status != 401:
        headers["Authorization"] = f"Bearer {strict.token(unique('ann'))}"
    request = urllib.request.Request(strict.url + path, b"x" * size, headers)
    with pytest.raises(urllib.error.HTTPError) as refused:
        await asyncio.to_thread(urllib.request.urlopen, request, timeout=20)
    assert refused.value.code == status
    refused.value.close()


async def test_a_small_body_that_nobody_reads_costs_no_connection(strict: Server) -> None:
    async with raw_of(strict) as raw:
        for _ in range(2):
            raw.say("POST /sync/app HTTP/1.1", "Host: x", "Content-Length: 2")
            raw.writer.write(b"{}")
            assert (await raw.answer())[0] == 401


# -- bodies that come at the same time ----------------------------------------------------------------------------
HALF = 700_000


def on_its_way(server: Server, port: int) -> int:
    """Bytes between a client's port and the server that the server has not read."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    queues = {tuple(int(end.split(":")[1], 16) for end in row[1:3]): row[4].split(":") for row in rows}
    ways = ((port, server.port, 0), (server.port, port, 1))
    return sum(int(queues[ours, theirs][place], 16) for ours, theirs, place in ways if (ours, theirs) in queues)


async def taken(server: Server, connection: Any) -> None:
    """Returns when the server has read all that was sent."""
    async with asyncio.timeout(60):
        while on_its_way(server, connection.getsockname()[1]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def begin(raw: Raw, server: Server, user: str, *more: str) -> None:
    """Sends most of a body, and no more; it has come."""
    raw.say("POST /sync/app HTTP/1.1", "Host: x", f"Authorization: Bearer {server.token(user)}",
            "Content-Type: application/json", "Content-Length: 1000000", *more)  # fmt: skip
    raw.writer.write(b"[" + b" " * HALF)
    raw.writer.transport.set_write_buffer_limits(0)
    await raw.writer.drain()
    await taken(server, raw.writer.get_extra_info("socket"))


async def pushes(server: Server, user: str) -> bool:
    headers = {"Authorization": f"Bearer {server.token(user)}", "X-Client-Id": "c", "X-Sync-Protocol": "1"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers) as http:
        return (await http.post("/sync/app", json={"changes": [edit("r", x=1)], "pull": False})).status_code == 200


@pytest.mark.parametrize(
    ("users", "addresses", "most", "status", "code"),
    [(1, 3, 4, 429, "too_many_requests"), (6, 1, 5, 429, "too_many_requests"), (9, 3, 8, 503, "busy")],
    ids=["of a user", "of an address", "in all"],
)
async def test_bodies_that_come_together_are_bounded(
    strict: Server, users: int, addresses: int, most: int, status: int, code: str
) -> None:
    """Each is 0.7 MB so far, of which the worker takes no more than it has to hold."""
    names = [unique("ann") for _ in range(users)]
    async with AsyncExitStack() as stack:
        begun = []
        for n in range(most):
            raw = await stack.enter_async_context(raw_of(strict, f"127.0.3.{n % addresses}"))
            await begin(raw, strict, names[n % users])
            begun.append(asyncio.create_task(raw.reader.read(1)))
        one_more = await stack.enter_async_context(raw_of(strict, "127.0.3.0"))
        await begin(one_more, strict, names[most % users])
        said = await one_more.answer()
        assert (said[0], said[1]["code"]) == (status, code)
        assert [task.done() for task in begun] == [False] * most
        for task in begun:
            task.cancel()
        assert await pushes(strict, unique("bob")) or status == 503
    for _ in range(300):
        if await pushes(strict, names[0]):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("what was held was not given back")


async def test_an_address_that_a_header_says_is_not_the_one_that_counts(strict: Server) -> None:
    async with AsyncExitStack() as stack:
        for n in range(6):
            raw = await stack.enter_async_context(raw_of(strict))
            await begin(raw, strict, unique("ann"), f"X-Forwarded-For: 192.0.2.{n}")
        said = await raw.answer()
        assert (said[0], said[1]["detail"]) == (429, "Too much of this address's is being worked on or on its way.")
    for _ in range(300):
        if await pushes(strict, unique("ann")):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("what was held was not given back")


# -- answers that are read at the same time -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow(workspace: Path) -> Iterator[Server]:
    """A server that has three pages of 10 MiB on their way at a time."""
    limits = {"max_touched": 8 << 20, "max_bodies_per_user": 3, "max_bodies": 12}
    with Server(workspace / "narrow-bounds", settings=limits) as server:
        yield server


def headers_of(server: Server, user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.token(user)}", "X-Client-Id": "c", "X-Sync-Protocol": "1"}


async def status_of_pull(server: Server, user: str) -> int:
    async with httpx.AsyncClient(base_url=server.url, headers=headers_of(server, user)) as http:
        return (await http.get("/sync/app/pull")).status_code


async def status_of_push(server: Server, user: str, **members: Any) -> int:
    async with httpx.AsyncClient(base_url=server.url, headers=headers_of(server, user), timeout=60) as http:
        body = {"changes": [edit("s", x=1)], "since": "", **members}
        return (await http.post("/sync/app", json=body)).status_code


async def test_pages_that_no_socket_takes_are_bounded_together(narrow: Server) -> None:
    """The fifth of 6.4 MB is told to wait, and comes when the others are gone."""
    dan = unique("dan")
    async with httpx.AsyncClient(base_url=narrow.url, headers=headers_of(narrow, dan), timeout=60) as http:
        changes = [edit(f"r{n}", text=secrets.token_hex(455_000)) for n in range(7)]
        assert (await http.post("/sync/notes", json={"changes": changes, "pull": False})).status_code == 200
    stuck = [await RawSocket.opened(narrow.port) for _ in range(4)]
    for one in stuck:
        await one.auth(narrow, dan)
        await one.sip(1)
    async with socket_of(narrow, dan) as socket_:
        await socket_.send({"type": "subscribe", "appId": "notes", "since": ""})
        error = await socket_.next("error", appId="notes")
        assert error["code"] == "busy"
        for one in stuck:
            one.close()
        assert len((await socket_.next("changes", appId="notes"))["changes"]) == 7


async def test_pages_that_no_stream_takes_are_bounded_together(narrow: Server) -> None:
    """As those of sockets: the fifth is told to wait, and comes when the others are gone."""
    eve = unique("eve")
    async with httpx.AsyncClient(base_url=narrow.url, headers=headers_of(narrow, eve), timeout=60) as http:
        changes = [edit(f"r{n}", text=secrets.token_hex(455_000)) for n in range(7)]
        assert (await http.post("/sync/notes", json={"changes": changes, "pull": False})).status_code == 200
    stuck = AsyncExitStack()
    for _ in range(4):
        raw = await stuck.enter_async_context(raw_of(narrow))
        lines = [f"{name}: {value}" for name, value in headers_of(narrow, eve).items()]
        raw.say("GET /sync/notes/stream HTTP/1.1", "Host: x", *lines)
        await raw.reader.readuntil(b"event: changes")
    async with stream_of(narrow, eve) as stream:
        try:
            assert (await stream.next("error")).data["code"] == "busy"
        finally:
            await stuck.aclose()
        assert len((await stream.next("changes", within=60)).data["changes"]) == 7


async def test_answers_that_nobody_takes_are_bounded_together(narrow: Server) -> None:
    """Of a page of 6.4 MB a connection has a piece, and the worker the rest, once."""
    ann, bob, cem = unique("ann"), unique("bob"), unique("cem")
    for user in (ann, bob):
        async with httpx.AsyncClient(base_url=narrow.url, headers=headers_of(narrow, user), timeout=60) as http:
            changes = [edit(f"r{n}", text="x" * 910_000) for n in range(7)]
            assert (await http.post("/sync/app", json={"changes": changes, "pull": False})).status_code == 200
    async with AsyncExitStack() as stack:
        for _ in range(4):
            raw = await stack.enter_async_context(raw_of(narrow))
            lines = [f"{name}: {value}" for name, value in headers_of(narrow, ann).items()]
            raw.say("GET /sync/app/pull HTTP/1.1", "Host: x", *lines)
            assert (await raw.reader.readline()).startswith(b"HTTP/1.1 200")
        assert await status_of_pull(narrow, ann) == 429
        assert await status_of_pull(narrow, bob) == 503
        assert await status_of_pull(narrow, cem) == 200
        assert await status_of_push(narrow, ann) == 200
        raw = await stack.enter_async_context(raw_of(narrow))
        body = json.dumps({"changes": [edit("t", x=1)], "since": ""})
        raw.say("POST /sync/app HTTP/1.1", *lines, "Content-Type: application/json", f"Content-Length: {len(body)}")
        raw.writer.write(body.encode())
        assert (await raw.reader.readline()).startswith(b"HTTP/1.1 200")
        assert await status_of_push(narrow, ann) == 429
        assert await status_of_push(narrow, bob) == 503
        assert await status_of_push(narrow, ann, pull=False) == 200
    for _ in range(300):
        if await status_of_pull(narrow, ann) == 200:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("what was held was not given back")


async def test_a_large_answer_goes_in_pieces_each_when_the_last_was_taken() -> None:
    text = bytes(range(256)) * 4096 + b"end"
    sent, taken = list[dict[str, Any]](), asyncio.Semaphore(0)

    async def send(message: Any) -> None:
        sent.append(message)
        await taken.acquire()

    sending = asyncio.create_task(answer(send, Answer(text)))
    for n in range(1, 7):
        await asyncio.sleep(0)
        assert len(sent) == n
        taken.release()
    assert await sending == len(text)
    bodies = [message["body"] for message in sent[1:]]
    assert b"".join(bodies) == text
    assert max(map(len, bodies)) <= PIECE
    assert [message.get("more_body", False) for message in sent[1:]] == [True] * 4 + [False]


async def test_frames_that_come_together_are_bounded(strict: Server) -> None:
    user, loop = unique("ann"), asyncio.get_running_loop()
    sockets = [await RawSocket.opened(strict.port) for _ in range(5)]
    for one in sockets:
        await one.auth(strict, user, since=None)
        await loop.sock_sendall(one.connection, b"\x81\xff" + (1_000_000).to_bytes(8) + bytes(4) + b" " * HALF)
        await taken(strict, one.connection)
    with pytest.raises(EOFError):
        await sockets[-1].hear()
    assert sockets[-1].code == 4429
    for one in sockets[:-1]:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(one.frame(), 0.1)
    for one in sockets:
        one.close()
    for _ in range(300):
        if await pushes(strict, user):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("what was held was not given back")


# -- descriptors --------------------------------------------------------------------------------------------------


async def test_silent_connections_of_an_address_count_too(strict: Server) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(PER_ADDRESS):
            await stack.enter_async_context(raw_of(strict, SPARE))
        async with raw_of(strict, SPARE) as one_more:
            status, said = await one_more.answer()
        assert (status, said["code"]) == (429, "too_many_requests")
        assert (await asked(strict))[0] == 200
    for _ in range(300):
        async with raw_of(strict, SPARE) as raw:
            raw.say("GET /health HTTP/1.1", "Host: x")
            if (await raw.answer())[0] == 200:
                return
        await asyncio.sleep(0.1)
    raise AssertionError("the places were not given back")


async def test_beyond_all_its_connections_a_worker_says_503(strict: Server) -> None:
    async with AsyncExitStack() as stack:
        for n in range(IN_ALL):
            await stack.enter_async_context(raw_of(strict, f"127.0.1.{n % 3}"))
        async with raw_of(strict, SPARE) as one_more:
            status, said = await one_more.answer()
    assert (status, said["code"]) == (503, "busy")


def spin(seconds: float) -> None:
    """Takes so much of a processor: on a busy machine as long as whoever spins beside it."""
    until = thread_time() + seconds
    while thread_time() < until:
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="another process's limits are set here")
async def test_without_descriptors_a_worker_goes_on(strict: Server) -> None:
    worker = workers_of(strict)[0]
    before = worker.rlimit(resource.RLIMIT_NOFILE)
    worker.rlimit(resource.RLIMIT_NOFILE, (worker.num_fds() + 3, before[1]))
    try:
        async with AsyncExitStack() as stack:
            for n in range(20):
                await stack.enter_async_context(raw_of(strict, f"127.0.2.{n % 2}"))
            busy = sum(worker.cpu_times()[:2])
            await asyncio.to_thread(spin, 0.6)
            assert sum(worker.cpu_times()[:2]) - busy < 0.3, "it spins"
    finally:
        worker.rlimit(resource.RLIMIT_NOFILE, before)
    for _ in range(300):
        with suppress(OSError, asyncio.IncompleteReadError, AssertionError):
            assert (await asked(strict))[0] == 200
            break
        await asyncio.sleep(0.1)
    assert (await asked(strict))[0] == 200
    assert worker.is_running()
    assert workers_of(strict)[0].pid == worker.pid
