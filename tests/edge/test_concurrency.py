"""How many requests are in work: beyond it who comes is told so at once, and who was there before is answered."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from syncd.core.errors import Overloaded, TooMany
from syncd.edge.admission import Admission
from syncd.edge.concurrency import GROWTH, LEAST, MOST_USUAL, PERIOD, SHARE, SPREAD, TARGET, ConcurrencyLimit
from syncd.edge.connection import MOST_PIPELINED, Bounds, Connections, HttpConnection
from tests.edge.test_bounds import Raw, raw_of
from tests.support.harness import Server
from tests.support.socket_device import socket_of
from tests.support.wire import edit, unique

# What every request needs.
LOCK = "LOCK TABLE syncd.sync_memberships IN ACCESS EXCLUSIVE MODE"


def crowd(limit: ConcurrencyLimit, count: int) -> list[Overloaded]:
    """So many users come, each with one request; what those are told who are refused."""
    refused = list[Overloaded]()
    for n in range(count):
        try:
            limit.enter(f"user-{n}")
        except Overloaded as why:
            refused.append(why)
    return refused


def periods(limit: ConcurrencyLimit, count: int, *waits: float, late: float = 0.0) -> None:
    """Periods in each of which calls waited so long, the loop was late and as many are in work as may be."""
    for _ in range(count):
        crowd(limit, 2 * int(limit.limit))
        for seconds in waits:
            limit.waited(seconds)
        limit.look(late)
        for user in list(limit._users):
            limit.leave(user)


def test_the_limit_is_exact_and_who_comes_after_is_spread() -> None:
    limit = ConcurrencyLimit(100)
    refused = crowd(limit, 120)
    assert (len(refused), limit.requests, limit.full) == (20, 100, True)
    assert {why.retry_after for why in refused} == set(range(1, 1 + SPREAD))
    limit.leave("user-7")
    assert not limit.full
    limit.enter("another")


def test_it_falls_while_all_wait_long_and_comes_back() -> None:
    limit = ConcurrencyLimit(512)
    periods(limit, 1, 4 * TARGET)
    assert limit.limit == 256
    periods(limit, 40, 4 * TARGET)
    assert limit.limit == LEAST
    periods(limit, 1, TARGET / 2)
    assert limit.limit == LEAST * GROWTH
    periods(limit, 400, TARGET / 2)
    assert limit.limit == 512


def test_it_comes_back_in_calm_too() -> None:
    limit = ConcurrencyLimit(512)
    periods(limit, 100, late=1.0)
    assert limit.limit == LEAST
    for _ in range(200):
        limit.look(0.0)
    assert limit.limit == 512


def test_what_is_usual_with_few_in_work_says_nothing() -> None:
    limit = ConcurrencyLimit(512)
    for _ in range(100):
        limit.look(2 * TARGET)
    periods(limit, 20, late=2 * TARGET)
    assert limit.limit == 512
    periods(limit, 1, late=3 * TARGET + 0.01)
    assert limit.limit < 512


def test_a_machine_that_is_slow_from_the_start_is_no_queue_for_ever() -> None:
    limit = ConcurrencyLimit(512)
    periods(limit, 1, late=2 * TARGET)
    periods(limit, 10, late=2 * TARGET)
    assert limit.limit == LEAST
    periods(limit, 200, late=2 * TARGET)
    assert limit.limit > 2 * LEAST


def test_what_is_usual_has_an_end() -> None:
    limit = ConcurrencyLimit(512)
    for _ in range(100):
        limit.look(60.0)
    periods(limit, 1, late=TARGET + 0.99 * MOST_USUAL)
    assert limit.limit == 512
    periods(limit, 1, late=TARGET + MOST_USUAL + 0.01)
    assert limit.limit < 512


def test_the_shortest_wait_counts_and_that_of_few_does_not() -> None:
    limit = ConcurrencyLimit(512)
    periods(limit, 5, 9.0, 0.0, 9.0)
    assert limit.limit == 512
    limit.look(0.0)
    crowd(limit, LEAST)
    limit.waited(9.0)
    limit.look(9.0)
    assert limit.limit == 512


def test_after_a_cut_those_that_were_there_before_are_waited_for() -> None:
    limit = ConcurrencyLimit(512)
    periods(limit, 1, 3 * PERIOD)
    assert limit.limit == 256
    periods(limit, 3, 3 * PERIOD)
    assert limit.limit == 256
    periods(limit, 1, 3 * PERIOD)
    assert limit.limit == 128


def test_one_user_leaves_room_for_others() -> None:
    limit = ConcurrencyLimit(100)
    for _ in range(50):
        limit.enter("greedy")
    with pytest.raises(TooMany):
        limit.enter("greedy")
    assert len(crowd(limit, 60)) == 10
    few = ConcurrencyLimit(LEAST)
    for _ in range(SHARE):
        few.enter("busy")


def test_in_need_who_has_used_much_more_than_others_waits() -> None:
    limit = ConcurrencyLimit(512)

    def used(seconds: float) -> None:
        for n in range(20):
            limit.enter(f"ordinary-{n}")
            limit.leave(f"ordinary-{n}", 0.2)
        limit.enter("greedy")
        limit.leave("greedy", seconds)

    used(30.0)
    limit.enter("greedy")  # nobody wants for anything
    limit.leave("greedy")
    periods(limit, 1, late=1.0)
    limit.enter("greedy")  # there are places enough
    limit.leave("greedy")
    half = 1 + int(limit.limit) // 2
    crowd(limit, half)
    with pytest.raises(TooMany):
        limit.enter("greedy")
    limit.enter("ordinary-1")
    limit.leave("ordinary-1", 0.2)
    for n in range(half):
        limit.leave(f"user-{n}")
    for _ in range(500):
        limit.look(TARGET / 2)
        limit.limit = 100
    limit.enter("greedy")


# -- against a server ---------------------------------------------------------------------------------------------


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
MANY = 1 + MOST_PIPELINED


class Held:
    """A connection to an application that answers when it is let, or learns that nobody is there any more."""

    def __init__(self) -> None:
        self.limit, self.let = ConcurrencyLimit(LEAST), asyncio.Event()
        self.begun = asyncio.Queue[str]()
        self.gone = asyncio.Event()
        self.counted_in_task = list[int]()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[HttpConnection, socket.socket]]:
        ours, theirs = socket.socketpair()
        gate = Admission(per_user=0, per_address=0, frames=0, origins=())
        connections = Connections(gate, Bounds(), self.limit)
        config = Config(app=self._serve, interface="asgi3", lifespan="off", proxy_headers=False, log_config=None)
        config.load()
        loop = asyncio.get_running_loop()
        with theirs:
            made = loop.connect_accepted_socket(lambda: connections(config, ServerState(), {}), ours)
            connection = (await made)[1]
            yield connection, theirs
            connection.transport.abort()
            await asyncio.sleep(0)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        self.counted_in_task.append(self.limit.counted)
        self.begun.put_nowait(scope["path"])
        if scope["path"] == "/fails":
            raise ValueError
        if scope["path"] == "/held":
            while (await receive())["type"] != "http.disconnect":
                pass
            self.gone.set()
            return
        await self.let.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def test_a_connection_counts_once_and_not_when_it_has_ended() -> None:
    held = Held()
    async with held.opened() as (connection, _):
        connection.data_received(GET * MANY)
        assert held.limit.counted == 1  # the task of the first is there, and has not begun
        connection.transport.abort()
        connection.connection_lost(None)
        assert held.limit.counted == 0
    assert held.limit.counted == 0


async def test_each_counts_until_its_task_begins_and_what_follows_has_its_turn_later() -> None:
    held = Held()
    held.let.set()
    async with held.opened() as (connection, _):
        connection.data_received(GET * MANY)
        for _ in range(MANY):
            await asyncio.wait_for(held.begun.get(), 20)
            assert held.limit.counted <= 1
    assert held.counted_in_task == [0] * MANY
    assert held.limit.counted == 0


@pytest.mark.parametrize(
    "sent",
    [GET * (MANY + 3), GET * 2 + b"\0garbage\r\n\r\n", b"GET /fails HTTP/1.1\r\nHost: a\r\n\r\n" + GET * 5,
     b"GET /x HTTP/1.0\r\n\r\n" + GET * 5,
     b"POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
     GET * 2 + b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"],
    ids=["too many", "garbage", "one fails", "HTTP/1.0", "Expect", "an upgrade"],
)  # fmt: skip
async def test_however_a_connection_ends_nothing_stays_counted(sent: bytes) -> None:
    held = Held()
    held.let.set()
    async with held.opened() as (connection, _):
        connection.data_received(sent)
        await asyncio.wait_for(held.begun.get(), 20)
    assert held.limit.counted == 0


async def test_the_one_that_is_answered_is_told_that_its_client_went_away() -> None:
    """Not only the last that came: this one would write to a connection that is closed."""
    held = Held()
    async with held.opened() as (connection, theirs):
        connection.data_received(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n" + GET * 5)
        assert await asyncio.wait_for(held.begun.get(), 20) == "/held"
        theirs.close()
        await asyncio.wait_for(held.gone.wait(), 20)
    assert held.begun.empty()
    assert held.limit.counted == 0


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
