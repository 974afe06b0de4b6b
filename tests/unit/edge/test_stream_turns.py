"""Streams of one user that wait for their turn."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from syncd.core.errors import Busy, TooMany
from syncd.core.principal import Principal
from syncd.edge import stream
from syncd.edge.admission import LEAST_SUBSCRIPTIONS, MOST_PLACES, UserAllowance
from syncd.edge.stream import Stream, _turn
from syncd.live.connection import Connection, Subscription
from syncd.protocol.pull_messages import PullPage, PullRequest
from syncd.service.aside import SMALL


class Soon(UserAllowance):
    """Each subscription has to wait, for less than it would."""

    def begin(self, spaces: int) -> float:
        return 0.01


class Long(UserAllowance):
    """Each has to wait for longer than a test does."""

    def begin(self, spaces: int) -> float:
        return 600.0


def connection(spaces: int) -> Connection:
    found = Connection(Stream(), Principal("ann"), "", "notes")
    found.spaces = dict.fromkeys(range(spaces), "space")
    return found


async def stays() -> None:
    """A client that does not hang up."""
    await asyncio.Event().wait()


async def test_streams_that_come_together_are_bounded_when_their_turn_has_come() -> None:
    ann = Soon(10)

    async def opened() -> bool:
        one, hung_up = connection(MOST_PLACES // 4), asyncio.create_task(stays())
        try:
            if not await _turn(ann, one, hung_up):
                return False
        except TooMany:
            return False
        finally:
            hung_up.cancel()
        one.subscriptions["notes"] = Subscription(one, PullRequest("notes"), b"")
        return True

    assert sum(await asyncio.gather(*(opened() for _ in range(20)))) == LEAST_SUBSCRIPTIONS


async def test_one_whose_client_hangs_up_waits_no_longer() -> None:
    over = asyncio.Event()

    async def hangs_up() -> None:
        await over.wait()

    ann, hung_up = Long(10), asyncio.create_task(hangs_up())
    turn = asyncio.create_task(_turn(ann, connection(1), hung_up))
    await asyncio.sleep(0)
    over.set()
    async with asyncio.timeout(20):
        assert not await turn


async def test_one_that_waits_when_the_server_stops_is_told_so_at_once() -> None:
    hung_up, one = asyncio.create_task(stays()), connection(1)
    turn = asyncio.create_task(_turn(Long(10), one, hung_up))
    await asyncio.sleep(0)
    one.sink.end(1012, "restarting")
    async with asyncio.timeout(20):
        with pytest.raises(Busy):
            await turn
    hung_up.cancel()


async def test_one_too_many_is_refused_before_it_waits() -> None:
    ann = Long(10)
    listens = connection(MOST_PLACES)
    for n in range(LEAST_SUBSCRIPTIONS):
        listens.subscriptions[str(n)] = Subscription(listens, PullRequest(str(n)), b"")
    ann.listening.add(listens)
    hung_up = asyncio.create_task(stays())
    with pytest.raises(TooMany):
        await _turn(ann, connection(MOST_PLACES), hung_up)
    hung_up.cancel()


async def test_a_large_page_is_made_beside_the_loop_and_a_small_one_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made, threads = stream._page_events, list[bool]()

    def noted(*given: Any) -> list[bytes]:
        threads.append(threading.current_thread() is threading.main_thread())
        return made(*given)

    monkeypatch.setattr(stream, "_page_events", noted)
    one = b'{"table":"t","id":"r","fields":{"x":{"value":"%b"}}}'
    for value in (b"x", b"x" * SMALL):
        sink = Stream()
        page = PullPage(b",".join([one % value] * 2), "c2", True, [], [])
        await sink.page(Subscription(connection(1), PullRequest("notes"), b""), page)
        assert b'"syncedUntil":"c2","hasMore":true' in await sink.next(0)
        assert sink.cursor == b"c2"
    assert threads == [True, False]
