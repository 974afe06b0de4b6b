"""Functions of the application in threads: one that never ends keeps neither its place nor the process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from syncd.core.errors import Busy
from syncd.service import rule_threads
from syncd.service.rule_threads import RuleThreads, TooManyEndless
from syncd.store.turns import ACTING


async def test_what_a_function_returns_or_raises_comes_back() -> None:
    threads = RuleThreads(1, 1)

    def fails() -> None:
        raise KeyError("x")

    assert await threads(lambda: threading.current_thread().daemon)
    with pytest.raises(KeyError):
        await threads(fails)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await threads(lambda: next(iter(())))


async def test_one_that_is_given_up_leaves_its_place_and_is_counted_until_it_ends() -> None:
    threads, go_on = RuleThreads(1, 2), threading.Event()
    for left in (1, 2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await threads(go_on.wait)
        assert threads.left == left
    with pytest.raises(TooManyEndless):
        await threads(lambda: 1)
    go_on.set()
    async with asyncio.timeout(30):
        while threads.left:  # noqa: ASYNC110 (threads end)
            await asyncio.sleep(0.001)
    assert await threads(lambda: 1) == 1


async def test_users_take_turns_so_that_one_who_asks_for_much_leaves_a_place() -> None:
    threads, go_on = RuleThreads(4, 64), threading.Event()

    async def of(user: str, work: Callable[[], object]) -> object:
        ACTING.set(user)
        return await threads(work)

    greedy = [asyncio.create_task(of("greedy", go_on.wait)) for _ in range(12)]
    try:
        async with asyncio.timeout(30):
            assert await asyncio.create_task(of("other", lambda: 7)) == 7
    finally:
        go_on.set()
        await asyncio.gather(*greedy)


async def test_the_time_of_one_counts_from_when_it_begins_and_one_whose_turn_does_not_come_is_not_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads, go_on = RuleThreads(1, 64), threading.Event()
    first = asyncio.create_task(threads(go_on.wait))
    await asyncio.sleep(0)
    monkeypatch.setattr(rule_threads, "PATIENCE", 0.01)
    with pytest.raises(Busy):
        await threads(lambda: pytest.fail("it was begun"))
    monkeypatch.setattr(rule_threads, "PATIENCE", 30)
    waiting = asyncio.create_task(threads(lambda: 7, 5))
    asyncio.get_running_loop().call_later(0.05, go_on.set)
    assert await waiting == 7
    assert await first
