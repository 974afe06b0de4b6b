"""Who is slow loses its place, and only when somebody waits for one."""

from __future__ import annotations

import asyncio
import time

import pytest

from syncd.core.errors import Busy, TooMany
from syncd.edge.bytes_held import UNCOUNTED, BytesHeld, Holder
from syncd.edge.endpoints.backup import TransferSlots
from syncd.edge.pace import SLOW_BELOW, SLOW_FOR, ClientWait, slowest


def wait(moved: float, waited: float) -> ClientWait:
    """A client that was waited for until the instant 0, and moved so many bytes a second."""
    one = ClientWait(lambda: None)
    one.begin(-waited)
    one.end(int(moved * waited), 0.0)
    return one


def test_who_is_slow_for_long_gives_way() -> None:
    slow, slower = wait(1000, SLOW_FOR + 1), wait(10, SLOW_FOR + 1)
    quick, new = wait(SLOW_BELOW, 10 * SLOW_FOR), wait(0, SLOW_FOR - 1)
    assert slowest([slow, quick, slower, new], 0.0) is slower
    assert slowest([quick, new], 0.0) is None
    assert slowest([], 0.0) is None


def test_who_is_still_waited_for_counts() -> None:
    one = ClientWait(lambda: None)
    one.begin(0.0)
    assert one.rate(SLOW_FOR) is None
    assert one.rate(SLOW_FOR + 1) == 0
    one.end(10 * SLOW_BELOW * int(SLOW_FOR), SLOW_FOR + 1)
    assert one.rate(SLOW_FOR + 2) is None


def test_the_time_in_which_it_is_not_waited_for_does_not_count() -> None:
    one = wait(0, 1)
    assert one.rate(100 * SLOW_FOR) is None


def test_who_has_sent_all_is_not_slow_any_more() -> None:
    one = wait(10, 10 * SLOW_FOR)
    one.over()
    assert one.rate(0.0) is None


async def held(slots: TransferSlots, user: str, begun: asyncio.Event, *, waits: bool) -> None:
    """Takes a place until it is taken away."""
    over = asyncio.Event()
    async with slots.place(user, leave=over.set) as client:
        if waits:
            client.begin(time.monotonic() - 1)
        begun.set()
        await over.wait()


async def test_a_place_is_there_for_who_waits_while_another_is_slow() -> None:
    slots, begun = TransferSlots(1, slow_for=0.5), asyncio.Event()
    slow = asyncio.create_task(held(slots, "ann", begun, waits=True))
    await begun.wait()
    async with slots.place("bob", 30):
        await slow


async def test_who_works_keeps_its_place() -> None:
    slots, begun = TransferSlots(1, slow_for=0.0), asyncio.Event()
    working = asyncio.create_task(held(slots, "ann", begun, waits=False))
    await begun.wait()
    with pytest.raises(TooMany):
        async with slots.place("bob", 0.1):
            pass
    assert not working.done()
    working.cancel()
    await asyncio.wait({working})


async def test_who_waits_for_its_own_place_takes_nobody_elses() -> None:
    slots, begun, other = TransferSlots(2, slow_for=0.5), asyncio.Event(), asyncio.Event()
    own = asyncio.create_task(held(slots, "ann", begun, waits=False))
    slow = asyncio.create_task(held(slots, "bob", other, waits=True))
    await asyncio.gather(begun.wait(), other.wait())
    with pytest.raises(TooMany):
        async with slots.place("ann", 0.1):
            pass
    assert not slow.done()
    for task in (own, slow):
        task.cancel()
    await asyncio.wait({own, slow})


def test_where_there_is_no_room_in_all_the_slowest_gives_way() -> None:
    bodies, left = BytesHeld(1 << 20, in_all=3), list[str]()

    def take(user: str, waited: float) -> Holder:
        holder = Holder(bodies, user, user).take(1 << 20)
        client = holder.waits(ClientWait(lambda: left.append(user)))
        client.begin(time.monotonic() - waited)
        return holder

    take("ann", SLOW_FOR / 2)
    slow, _ = take("bob", 10 * SLOW_FOR), take("cyd", 1)
    with pytest.raises(Busy):
        Holder(bodies, "dan", "dan").take(UNCOUNTED)
    assert left == ["bob"]
    slow.give_back()
    Holder(bodies, "dan", "dan").take(1 << 20)
    with pytest.raises(Busy):
        Holder(bodies, "eve", "eve").take(UNCOUNTED)
    assert left == ["bob"]
