"""Which feeds a consumer's process reads next: in turn, from where they will be, and only while it holds them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syncd.consumers.feeds import AT_ONCE, FeedsToRead
from syncd.store.consumers import ConsumedPlace, HeldSlot, WaitingFeed


def feed(space: int, head: int, seq: int = 0, acks: int = 0, lease: int = 1) -> WaitingFeed:
    return WaitingFeed(space, 1, space % 64, lease, seq, -1, acks, head, f"s{space}", "app")


def held(lease: int = 1) -> FeedsToRead:
    feeds = FeedsToRead()
    assert feeds.hold(HeldSlot(slot, lease) for slot in range(64))
    return feeds


def test_feeds_are_taken_until_there_is_enough() -> None:
    feeds = held()
    feeds.found(feed(space, 10) for space in range(5))
    assert [one.space_no for one in feeds.take(25)] == [0, 1, 2]
    assert len(held_with(2 * AT_ONCE).take(10**9)) == AT_ONCE


def held_with(count: int) -> FeedsToRead:
    feeds = held()
    feeds.found(feed(space, 1) for space in range(count))
    return feeds


def test_one_that_has_more_waits_behind_the_others() -> None:
    feeds = held()
    feeds.found([feed(0, 100), feed(1, 1)])
    (hot, *_) = feeds.take(10)
    feeds.read([ConsumedPlace(hot, 10, -1)])
    assert [(one.space_no, one.seq, one.acks) for one in feeds.take(1000)] == [(1, 0, 0), (0, 10, 1)]


def test_what_is_in_a_batch_is_not_found_again_where_it_was() -> None:
    feeds = held()
    feeds.found([feed(0, 5)])
    place = ConsumedPlace(feeds.take(10)[0], 5, -1)
    feeds.read([place])
    feeds.found([feed(0, 5)])  # the database knows nothing of the batch
    assert not feeds
    feeds.found([feed(0, 7)])
    assert [(one.seq, one.acks, one.head) for one in feeds.take(10)] == [(5, 1, 7)]
    feeds.settle([place])
    feeds.found([feed(0, 7, 5, 1)])
    assert [(one.seq, one.acks) for one in feeds.take(10)] == [(5, 1)]


def test_what_is_not_held_any_more_is_not_read() -> None:
    feeds = held()
    feeds.found([feed(0, 5), feed(1, 5)])
    places = [ConsumedPlace(one, 5, -1) for one in feeds.take(100)]
    assert feeds.holds(places)
    assert not feeds.hold([HeldSlot(1, 1)])
    assert [one.space_no for one in feeds.take(100)] == [1]
    assert not feeds.holds(places)
    assert feeds.hold([HeldSlot(0, 3), HeldSlot(1, 1)])  # taken back: under another lease
    assert not feeds.holds(places)


@given(st.lists(st.tuples(st.sampled_from(["write", "read", "settle", "look"]), st.integers(0, 3)), max_size=60))
def test_each_change_is_read_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    """Against a database of heads and places, with batches that are acknowledged late."""
    feeds, heads, places = held(), [0] * 4, [(0, 0)] * 4
    open_, seen = list[list[ConsumedPlace]](), [list[int]() for _ in range(4)]

    def look() -> None:
        feeds.found(feed(n, heads[n], *places[n]) for n in range(4) if heads[n] > places[n][0])

    def read() -> None:
        taken = feeds.take(3)
        batch = [ConsumedPlace(one, min(heads[one.space_no], one.seq + 2), -1) for one in taken]
        for place in batch:
            seen[place.feed.space_no] += range(place.feed.seq + 1, place.upto + 1)
        feeds.read(batch)
        open_.append(batch)

    def settle() -> None:
        if open_:
            batch = open_.pop(0)
            for one, upto, _ in batch:
                assert places[one.space_no] == (one.seq, one.acks)
                places[one.space_no] = (upto, one.acks + 1)
            feeds.settle(batch)

    for step, n in steps:
        if step == "write":
            heads[n] += n + 1
        else:
            {"read": read, "settle": settle, "look": look}[step]()
    for _ in range(200):
        look()
        read()
        settle()
    assert seen == [list(range(1, head + 1)) for head in heads]
