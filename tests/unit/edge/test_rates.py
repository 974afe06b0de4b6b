"""How fast a user may be: who is faster is told how long to wait, nothing is lost, and nobody else notices."""

from __future__ import annotations

import math

import pytest

from syncd.core.errors import TooMany
from syncd.edge import rates
from syncd.edge.rates import RateLimits, Rates


class Clock:
    """Time as a test has it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(rates, "time", found)
    return found


def taken(found: Rates, user: str, most: int = 1000) -> int:
    """How many requests go through before one is refused."""
    for count in range(most):
        try:
            found.request(user)
        except TooMany:
            return count
    return most


def test_ten_seconds_of_requests_at_once_and_not_one_more(clock: Clock) -> None:
    hits = list[str]()
    found = Rates(RateLimits(requests=2), hits.append)
    assert (taken(found, "ann"), taken(found, "bob")) == (20, 20)
    clock.now += 1.0
    assert (taken(found, "ann"), hits) == (2, ["requests"] * 3)
    clock.now += 3600
    assert taken(found, "ann") == 20


def test_it_says_how_long_to_wait_and_that_is_enough(clock: Clock) -> None:
    found = Rates(RateLimits(requests=0.5, bytes_in=10))
    taken(found, "ann")
    with pytest.raises(TooMany, match="`requests`") as refused:
        found.request("ann")
    assert refused.value.retry_after == 2
    clock.now += 1.9
    assert taken(found, "ann") == 0
    clock.now += 0.1
    assert taken(found, "ann") == 1


@pytest.mark.parametrize("name", ["bytes_in", "bytes_out"])
def test_bytes_are_counted_when_they_were_moved_and_never_wait_longer_than_a_minute(clock: Clock, name: str) -> None:
    found = Rates(RateLimits(**{name: 10}))

    def move(size: int) -> None:
        found.request("ann")
        found.moved("ann", size * (name == "bytes_in"), size * (name == "bytes_out"))

    move(600)
    move(1)
    with pytest.raises(TooMany, match=f"`{name}`") as refused:
        found.request("ann")
    assert refused.value.retry_after == 1
    clock.now += 0.1
    move(10**9)
    with pytest.raises(TooMany) as refused:
        found.request("ann")
    clock.now += 0.001
    with pytest.raises(TooMany) as refused:
        found.request("ann")
    assert refused.value.retry_after == math.ceil(rates.BURSTS[name])
    assert (found.pause("ann") > 59) == (name == "bytes_out")
    clock.now += rates.BURSTS[name]
    move(0)
    found.request("bob")


def test_who_has_other_bounds_has_them_at_once_and_until_they_are_taken_back(clock: Clock) -> None:
    found = Rates(RateLimits(requests=1))
    assert taken(found, "ann") == 10
    found.override({"ann": {"requests": 3}})
    assert (taken(found, "ann"), taken(found, "bob")) == (30, 10)
    found.override({"ann": {"requests": 3}})
    assert taken(found, "ann") == 0
    found.override({})
    assert taken(found, "ann") == 10


def test_without_a_bound_nothing_is_refused_and_who_is_gone_is_forgotten(clock: Clock) -> None:
    found = Rates(RateLimits())
    for n in range(500):
        found.request(f"u{n}")
    assert taken(found, "ann") == 1000
    clock.now += 3600
    found.request("bob")
    assert list(found._users) == ["bob"]
