"""Pushes that take long wait for those to their feed, and hold no connection meanwhile: whose turn it is, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable

import pytest

from syncd.core.errors import SyncdError
from syncd.store import feed_queue
from syncd.store.feed_queue import MOST_SLOW, QUICK, SLOW, Feed, FeedQueue
from syncd.store.turns import ACTING

ONE, TWO, THREE = ("s", "one"), ("s", "two"), ("s", "three")


class Pushes:
    """Pushes that last until they are told to end. `begun` has them in the order in which they got to the database: a
    large one by its name, a group of small ones by all of theirs."""

    def __init__(self) -> None:
        self.queue: FeedQueue[str, str] = FeedQueue(self._together, self._alone, 16)
        self.begun: list[str] = []
        self.now: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self._over = False
        self._tasks: list[asyncio.Task[None]] = []

    async def _last(self, name: str) -> None:
        self.begun.append(name)
        if self._over:
            return
        self.now.append(name)
        try:
            await self._ends.setdefault(name, asyncio.Event()).wait()
        finally:
            self.now.remove(name)

    async def _together(self, calls: list[str]) -> list[str]:
        await self._last(" ".join(calls))
        if any("bad" in call for call in calls):
            raise SyncdError
        return calls

    async def _alone(self, call: str) -> str:
        await self._last(f"{call} alone")
        return call

    async def large(self, user: str, name: str, feed: Feed | None = ONE) -> None:
        async def push() -> None:
            async with self.queue.large(feed):
                await self._last(name)

        await self._start(user, push())

    async def small(self, user: str, name: str, feed: Feed = ONE) -> None:
        async def push() -> None:
            assert await self.queue.join(feed, name) == name

        await self._start(user, push())

    async def _start(self, user: str, push: Awaitable[None]) -> None:
        async def act() -> None:
            ACTING.set(user)
            await push

        self._tasks.append(asyncio.create_task(act()))
        await settled()

    async def end(self, name: str) -> None:
        assert name in self.now, self.now
        self._ends[name].set()
        await settled()

    async def close(self) -> None:
        self._over = True
        for end in self._ends.values():
            end.set()
        async with asyncio.timeout(10):
            for result in await asyncio.gather(*self._tasks, return_exceptions=True):
                assert result is None or isinstance(result, asyncio.CancelledError), result
        # Nothing is kept of what is over.
        queue = self.queue
        assert [queue._large, queue._groups, queue._feeds._all, queue._users._all] == [{}, {}, {}, {}]


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def pushes() -> AsyncIterator[Pushes]:
    made = Pushes()
    yield made
    await made.close()


async def test_of_one_feed_one_is_under_way_and_its_writers_take_turns(pushes: Pushes) -> None:
    for user, name in [("ann", "a1"), ("ann", "a2"), ("ann", "a3"), ("bob", "b1")]:
        await pushes.large(user, name)
    assert pushes.now == ["a1"]
    for name in ("a1", "a2", "b1", "a3"):
        assert pushes.now == [name]
        await pushes.end(name)


async def test_of_one_user_two_are_under_way_whatever_the_feeds(pushes: Pushes) -> None:
    await pushes.large("ann", "a1", ONE)
    await pushes.large("ann", "a2", TWO)
    await pushes.large("ann", "a3", THREE)
    await pushes.large("ann", "a4", None)
    await pushes.large("bob", "b1", THREE)
    assert pushes.now == ["a1", "a2", "b1"]
    await pushes.end("b1")
    await pushes.end("a1")
    assert pushes.now == ["a2", "a3"]
    await pushes.end("a3")
    assert pushes.now == ["a2", "a4"]


async def test_who_waits_for_a_turn_of_its_own_holds_up_nobody_else_s_feed(pushes: Pushes) -> None:
    for name, feed in [("a1", ONE), ("a2", TWO), ("a3", THREE)]:
        await pushes.large("ann", name, feed)
    await pushes.large("bob", "b1", THREE)
    await pushes.end("b1")
    await pushes.small("bob", "b2", THREE)
    assert pushes.now == ["a1", "a2", "b2"]


async def test_what_the_server_does_itself_has_no_user_whose_share_it_could_be(pushes: Pushes) -> None:
    for name, feed in [("one", ONE), ("two", TWO), ("three", THREE), ("many", None)]:
        await pushes.large("", name, feed)
    assert pushes.now == ["one", "two", "three", "many"]


async def test_small_ones_go_together_and_have_their_turn_among_the_large(pushes: Pushes) -> None:
    assert not pushes.queue.apart(ONE)
    await pushes.large("ann", "a1")
    await pushes.large("ann", "a2")
    assert pushes.queue.apart(ONE)
    assert not pushes.queue.apart(TWO)
    await pushes.small("bob", "s1")
    await pushes.small("cem", "s2")
    await pushes.small("cem", "s3")
    await pushes.end("a1")
    for name in ("a2", "s1", "s2 s3"):
        assert pushes.now == [name]
        await pushes.end(name)


async def test_a_group_of_one_user_is_that_user_s(pushes: Pushes) -> None:
    await pushes.large("ann", "a1", ONE)
    await pushes.large("ann", "a2", TWO)
    await pushes.small("ann", "s1", THREE)
    await pushes.small("bob", "s2", ("s", "four"))
    assert pushes.now == ["a1", "a2", "s2"]


async def test_what_fails_together_is_done_alone_in_turn(pushes: Pushes) -> None:
    await pushes.large("ann", "a1")
    await pushes.small("bob", "s0")
    await pushes.small("bob", "bad")
    await pushes.small("cem", "s2")
    await pushes.end("a1")
    await pushes.end("s0")
    await pushes.end("bad s2")
    assert len(pushes.now) == 1
    await pushes.end(pushes.now[0])
    assert len(pushes.now) == 1
    await pushes.end(pushes.now[0])
    assert sorted(pushes.begun[-2:]) == ["bad alone", "s2 alone"]


async def test_who_goes_away_while_it_waits_takes_none_along(pushes: Pushes) -> None:
    for name in ("a1", "a2", "a3"):
        await pushes.large("ann", name)
    pushes._tasks[1].cancel()
    await settled()
    await pushes.end("a1")
    assert pushes.now == ["a3"]


async def test_waiting_ends_and_leaves_nothing(pushes: Pushes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_queue, "PATIENCE", 0.01)
    await pushes.large("ann", "a1")
    with pytest.raises(SyncdError) as refused:
        async with pushes.queue.large(ONE):
            raise AssertionError("it was not its turn")
    assert refused.value.code == "busy"
    await pushes.end("a1")
    async with pushes.queue.large(ONE):
        pass


def test_a_feed_is_slow_from_a_call_that_took_long_to_one_that_did_not() -> None:
    queue = Pushes().queue
    queue.took([ONE, None, TWO], SLOW)
    assert not queue.apart(ONE)
    queue.took([ONE, None, TWO], SLOW + 0.1)
    assert queue.apart(ONE)
    assert queue.apart(TWO)
    queue.took([ONE], QUICK)
    assert queue.apart(ONE)
    queue.took([ONE, None], QUICK - 0.1)
    assert not queue.apart(ONE)
    assert queue.apart(TWO)


def test_no_more_slow_feeds_are_remembered_than_a_few() -> None:
    queue = Pushes().queue
    for n in range(MOST_SLOW + 2):
        queue.took([("s", str(n))], 2 * SLOW)
    assert [queue.apart(("s", str(n))) for n in (0, 1, 2, MOST_SLOW + 1)] == [False, False, True, True]
