"""What the live connections of one user share."""

from __future__ import annotations

import pytest

from syncd.core.errors import TooMany
from syncd.edge import admission as admissions
from syncd.edge.admission import (
    LEAST_SUBSCRIPTIONS,
    LONGEST_TURN,
    MOST_PLACES,
    PLACES_A_SECOND,
    PLACES_SECONDS,
    Admission,
    TokenBucket,
)
from tests.unit.edge.test_rates import Clock


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time stands still, or a bucket would fill while a test waits for the processor."""
    found = Clock()
    monkeypatch.setattr(admissions, "time", found)
    return found


class Device:
    def __init__(self, subscriptions: int) -> None:
        self.subscriptions = range(subscriptions)


def admission() -> Admission:
    return Admission(per_user=3, per_address=0, frames=10, origins=())


def test_subscriptions_of_all_a_user_s_connections_count_once_a_space() -> None:
    ann = admission().admit("ann")
    ann.listening |= {Device(40), Device(59)}
    ann.check(MOST_PLACES // 100)
    with pytest.raises(TooMany):
        ann.check(MOST_PLACES // 100 + 1)


def test_a_few_subscriptions_may_be_of_any_number_of_spaces() -> None:
    ann = admission().admit("ann")
    ann.listening.add(Device(LEAST_SUBSCRIPTIONS - 1))
    ann.check(10 * MOST_PLACES)
    ann.listening.add(Device(1))
    with pytest.raises(TooMany):
        ann.check(10 * MOST_PLACES)


def test_another_user_s_do_not_count() -> None:
    both = admission()
    both.admit("ann").listening.add(Device(50))
    both.admit("bob").check(MOST_PLACES // LEAST_SUBSCRIPTIONS)


def test_subscriptions_in_many_spaces_begin_one_after_the_other() -> None:
    ann = admission().admit("ann")
    at_once = int(PLACES_A_SECOND * PLACES_SECONDS)
    assert ann.begin(at_once) == 0
    assert ann.begin(int(PLACES_A_SECOND)) == pytest.approx(1)
    assert ann.begin(int(PLACES_A_SECOND)) == pytest.approx(2)
    assert admission().admit("bob").begin(at_once) == 0


def test_where_much_waits_already_one_more_is_refused_and_costs_nothing() -> None:
    ann = admission().admit("ann")
    ann.begin(int(PLACES_A_SECOND * PLACES_SECONDS))
    longest = ann.begin(int(PLACES_A_SECOND * (LONGEST_TURN + 500)))
    assert longest > LONGEST_TURN
    for _ in range(100):
        with pytest.raises(TooMany) as refused:
            ann.begin(10_000)
        assert 0 < (refused.value.retry_after or 0) <= 500


def test_one_in_more_spaces_than_may_be_at_once_begins_all_the_same() -> None:
    ann = admission().admit("ann")
    assert ann.begin(int(PLACES_A_SECOND * (PLACES_SECONDS + 2 * LONGEST_TURN))) > LONGEST_TURN


def test_what_is_spent_may_be_more_than_there_is() -> None:
    bucket = TokenBucket(10, 1)
    assert bucket.spend(10) == 0
    assert bucket.spend(5) == pytest.approx(0.5)
    assert not bucket.take()
