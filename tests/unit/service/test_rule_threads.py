"""Functions of the application in threads: one that never ends keeps neither its place nor the process."""

from __future__ import annotations

import asyncio
import threading

import pytest

from syncd.service.rule_threads import RuleThreads, TooManyEndless


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
