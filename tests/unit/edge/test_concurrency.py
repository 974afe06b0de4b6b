"""How many requests may be in work: when that falls and when it comes back, and until when a connection counts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from syncd.core.errors import Overloaded, TooMany
from syncd.edge.admission import Admission
from syncd.edge.concurrency import (
    FIRST_PERIODS,
    GROWTH,
    LEAST,
    MOST_USUAL,
    PERIOD,
    SHARE,
    SPREAD,
    TARGET,
    ConcurrencyLimit,
)
from syncd.edge.connection import MOST_PIPELINED, Bounds, Connections, HttpConnection


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


def settled(limit: ConcurrencyLimit) -> ConcurrencyLimit:
    """One that has seen periods in which nobody waited."""
    for _ in range(FIRST_PERIODS):
        limit.enter("user")
        limit.look(0.0)
        limit.leave("user")
    return limit


def test_the_limit_is_exact_and_who_comes_after_is_spread() -> None:
    limit = ConcurrencyLimit(100)
    refused = crowd(limit, 120)
    assert (len(refused), limit.requests, limit.full) == (20, 100, True)
    assert {why.retry_after for why in refused} == set(range(1, 1 + SPREAD))
    limit.leave("user-7")
    assert not limit.full
    limit.enter("another")


def test_it_falls_while_all_wait_long_and_comes_back() -> None:
    limit = settled(ConcurrencyLimit(512))
    periods(limit, 1, 4 * TARGET)
    assert limit.limit == 256
    periods(limit, 40, 4 * TARGET)
    assert limit.limit == LEAST
    periods(limit, 1, TARGET / 2)
    assert limit.limit == LEAST * GROWTH
    periods(limit, 400, TARGET / 2)
    assert limit.limit == 512


def test_it_comes_back_in_calm_too() -> None:
    limit = settled(ConcurrencyLimit(512))
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


def test_a_worker_that_begins_in_the_midst_of_traffic_takes_how_long_that_waits_for_usual() -> None:
    limit = ConcurrencyLimit(512)
    periods(limit, FIRST_PERIODS, late=2 * TARGET)
    periods(limit, 200, late=2 * TARGET)
    assert limit.limit == 512
    periods(limit, 1, late=3 * TARGET + 0.01)
    assert limit.limit < 512


def test_and_one_that_begins_in_the_midst_of_too_much_still_refuses() -> None:
    limit = ConcurrencyLimit(512)
    periods(limit, 1, late=TARGET + MOST_USUAL + 0.01)
    assert limit.limit < 512


def test_a_machine_that_has_become_slow_is_no_queue_for_ever() -> None:
    limit = settled(ConcurrencyLimit(512))
    periods(limit, 11, late=2 * TARGET)
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
    limit = settled(ConcurrencyLimit(512))
    periods(limit, 5, 9.0, 0.0, 9.0)
    assert limit.limit == 512
    limit.look(0.0)
    crowd(limit, LEAST)
    limit.waited(9.0)
    limit.look(9.0)
    assert limit.limit == 512


def test_after_a_cut_those_that_were_there_before_are_waited_for() -> None:
    limit = settled(ConcurrencyLimit(512))
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
        admission = Admission(per_user=0, per_address=0, frames=0, origins=())
        connections = Connections(admission, Bounds(), self.limit)
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
