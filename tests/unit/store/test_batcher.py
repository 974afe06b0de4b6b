"""Calls that travel together: how many may wait, and what becomes of those beyond it."""

from __future__ import annotations

import asyncio
from typing import Any

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
