"""Calls that travel together: how many may wait, and what becomes of those beyond it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from syncd.core.errors import Busy
from syncd.store.batcher import MOST_WAITING, Batcher


async def test_beyond_a_bound_calls_are_told_to_come_later_and_all_others_are_answered() -> None:
    groups: list[int] = []

    async def together(calls: list[int]) -> list[int]:
        groups.append(len(calls))
        await asyncio.sleep(0)
        return [2 * call for call in calls]

    async def alone(call: int) -> int:
        return 2 * call

    batcher = Batcher(together, alone, lanes=2, size=64)
    waiting = [batcher.join(n) for n in range(MOST_WAITING + 7)]
    answers: list[Any] = await asyncio.gather(*waiting, return_exceptions=True)
    assert [isinstance(answer, Busy) for answer in answers] == [False] * MOST_WAITING + [True] * 7
    assert answers[:MOST_WAITING] == [2 * n for n in range(MOST_WAITING)]
    assert max(groups) == 64
    assert await batcher.join(21) == 42


async def test_a_group_tells_how_long_the_one_that_came_last_was_on_its_way() -> None:
    told: list[float] = []

    async def together(calls: list[int]) -> list[int]:
        await asyncio.sleep(0.05)
        return calls

    async def alone(call: int) -> int:
        return call

    # The second waits for the first, and is 0.05 s in work itself: a wait alone would be told as 0 of the first.
    batcher = Batcher(together, alone, lanes=1, size=1, on_wait=told.append)
    await asyncio.gather(batcher.join(1), batcher.join(2))
    first, second = told
    assert first >= 0.05
    assert second >= 0.1


class Held:
    """Groups that are performed until each is let go, in the order in which they began."""

    def __init__(self, spare: int) -> None:
        self.groups: list[list[int]] = []
        self._ends: list[asyncio.Event] = []
        self._began = asyncio.Condition()
        self.batcher: Batcher[int, int] = Batcher(self._together, self._alone, lanes=2, size=4, spare=spare)

    async def _together(self, calls: list[int]) -> list[int]:
        end = asyncio.Event()
        async with self._began:
            self.groups.append(calls)
            self._ends.append(end)
            self._began.notify_all()
        await end.wait()
        return calls

    async def _alone(self, call: int) -> int:
        return call

    def join(self, *calls: int) -> list[asyncio.Task[int]]:
        return [asyncio.create_task(self.batcher.join(call)) for call in calls]

    async def begun(self, count: int) -> list[list[int]]:
        """The groups, when there are so many."""
        async with asyncio.timeout(60), self._began:
            await self._began.wait_for(lambda: len(self.groups) >= count)
        return self.groups

    def end(self, place: int) -> None:
        self._ends[place].set()


async def settled() -> None:
    """Whatever can begin at once has begun."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_beside_a_group_another_begins_when_enough_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.store.batcher.LATE", 3600.0)
    held = Held(spare=3)
    waiting = held.join(1)
    assert await held.begun(1) == [[1]]
    waiting += held.join(2, 3)
    await settled()
    assert held.groups == [[1]]
    waiting += held.join(4)
    assert await held.begun(2) == [[1], [2, 3, 4]]
    waiting += held.join(5, 6)
    held.end(0)  # the lane that is free takes no group that is too small beside the other
    await settled()
    assert held.groups == [[1], [2, 3, 4]]
    held.end(1)
    assert await held.begun(3) == [[1], [2, 3, 4], [5, 6]]
    held.end(2)
    assert await asyncio.gather(*waiting) == [1, 2, 3, 4, 5, 6]


async def test_behind_a_group_that_is_held_up_a_few_wait_only_for_a_while() -> None:
    held = Held(spare=3)
    waiting = held.join(1)
    await held.begun(1)
    waiting += held.join(2)
    assert await held.begun(2) == [[1], [2]]
    # A lane that leaves calls behind lets them begin as well.
    waiting += held.join(3)
    held.end(1)
    assert await held.begun(3) == [[1], [2], [3]]
    held.end(0)
    held.end(2)
    assert await asyncio.gather(*waiting) == [1, 2, 3]
