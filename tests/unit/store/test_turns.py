"""One user's work waits behind that user's, and beside everybody else's: the order of turns, not how long they take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from syncd.core.errors import Busy, TooMany
from syncd.store.batcher import Batcher
from syncd.store.turns import ACTING, MOST_OF_ONE, FairQueue, Turns


class Work:
    """What has a place until it is told to end, user by user in the order in which places were got."""

    def __init__(self, turns: Turns) -> None:
        self.turns, self.got = turns, list[str]()
        self._ends: dict[str, list[asyncio.Event]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self, user: str, times: int = 1) -> None:
        for _ in range(times):
            self._tasks.append(asyncio.create_task(self._one(user)))
        await settled()

    async def _one(self, user: str) -> None:
        ACTING.set(user)
        async with self.turns.place(60):
            self.got.append(user)
            end = asyncio.Event()
            self._ends.setdefault(user, []).append(end)
            try:
                await end.wait()
            finally:
                if end in self._ends[user]:
                    self._ends[user].remove(end)

    async def end(self, user: str) -> None:
        self.tell(user)
        await settled()

    def tell(self, user: str) -> None:
        """As `end`; it has not noticed yet when this returns."""
        self._ends[user][0].set()

    async def cancel(self, place: int) -> None:
        self.leave(place)
        await settled()

    def leave(self, place: int) -> None:
        """As `cancel`; it has not noticed yet when this returns."""
        self._tasks[place].cancel()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def work_on(places: int) -> AsyncIterator[Work]:
    work = Work(Turns(places))
    try:
        yield work
    finally:
        await work.close()


def test_lines_take_turns() -> None:
    queue: FairQueue[str] = FairQueue()
    for user, item in [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("c", "c1"), ("b", "b2")]:
        queue.push(user, item)
    assert [queue.pop() for _ in range(len(queue))] == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert len(queue) == 0


def test_a_line_has_an_end_and_that_of_nobody_alone_has_none() -> None:
    queue: FairQueue[int] = FairQueue()
    for n in range(MOST_OF_ONE):
        queue.push("a", n)
        queue.push("", n)
    queue.push("", 0)
    queue.push("b", 0)
    with pytest.raises(TooMany):
        queue.push("a", 0)


async def test_ten_of_one_user_leave_a_place_for_each_of_the_next() -> None:
    async with work_on(8) as work:
        await work.begin("greedy", 10)
        assert work.got == ["greedy"] * 4
        for user in ("ann", "bob", "cem"):
            await work.begin(user)
            assert work.got[-1] == user
        await work.begin("")
        assert work.got[4:] == ["ann", "bob", "cem", ""]


async def test_a_place_goes_to_another_user_before_the_same() -> None:
    async with work_on(1) as work:
        await work.begin("greedy", 10)
        await work.begin("ann", 2)
        await work.begin("bob")
        assert work.got == ["greedy"]
        for user in ("greedy", "greedy", "ann", "bob", "greedy", "ann"):
            await work.end(user)
        assert work.got == ["greedy", "greedy", "ann", "bob", "greedy", "ann", "greedy"]


async def test_who_gives_up_has_no_turn_and_takes_none_along() -> None:
    async with work_on(1) as work:
        await work.begin("a", 3)
        await work.begin("b")
        await work.cancel(1)  # it waits
        await work.cancel(0)  # it has the place
        assert work.got[1:] == ["a"] or work.got[1:] == ["b"]
        first = work.got[1]
        await work.end(first)
        assert sorted(work.got[1:]) == ["a", "b"]


async def test_waiting_has_an_end() -> None:
    turns = Turns(1)
    async with turns.place():
        with pytest.raises(Busy):
            async with turns.place(0.01):
                raise AssertionError("there was no place")
    async with turns.place(0.01):
        pass


async def test_groups_take_of_every_user() -> None:
    groups, go = list[list[str]](), asyncio.Event()

    async def together(calls: list[str]) -> list[str]:
        await go.wait()
        groups.append(calls)
        return calls

    async def alone(call: str) -> str:
        return call

    batcher: Batcher[str, str] = Batcher(together, alone, 1, 2)

    async def ask(user: str, call: str) -> None:
        ACTING.set(user)
        await batcher.join(call)

    asked = [asyncio.create_task(ask("greedy", f"g{n}")) for n in range(6)]
    await settled()
    asked += [asyncio.create_task(ask("ann", "a")), asyncio.create_task(ask("bob", "b"))]
    await settled()
    go.set()
    await asyncio.gather(*asked)
    assert groups == [["g0", "g1"], ["g2", "a"], ["b", "g3"], ["g4", "g5"]]


@pytest.mark.parametrize("behind", ["bob", "eve"])
async def test_who_goes_away_as_a_place_is_given_back_takes_none_along(behind: str) -> None:
    """Its task has not run yet, so that it still stands in its line; the next is of the same user, or of another."""
    turns = Turns(1)
    work = Work(turns)
    for user in ("ann", "bob", behind):
        await work.begin(user)
    work.tell("ann")
    work.leave(1)
    await settled()
    assert work.got == ["ann", behind]
    await work.end(behind)
    await work.begin("dan")
    assert work.got == ["ann", behind, "dan"]
    await work.close()
