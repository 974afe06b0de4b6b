"""What a refusal tells a client besides its code."""

from __future__ import annotations

import pytest

from syncd.core.error_codes import ERROR_CODES
from syncd.core.errors import Busy, SyncdError, TooMany
from syncd.edge.admission import MOST_PLACES, Admission, UserAllowance
from syncd.edge.bytes_held import BytesHeld, Holder
from syncd.edge.concurrency import LEAST, ConcurrencyLimit
from syncd.edge.problems import problem
from syncd.edge.rates import RateLimits, Rates
from syncd.store.turns import MOST_OF_ONE, FairQueue

PASSING = [code for code, row in ERROR_CODES.items() if row.status in (408, 429, 503)]


@pytest.mark.parametrize("code", PASSING)
def test_what_passes_by_itself_says_when_to_come_again(code: str) -> None:
    headers = dict(problem(SyncdError(code=code)).headers)
    assert int(headers[b"retry-after"]) >= 1


def a_user_s_bodies() -> None:
    Holder(BytesHeld(100), "address", "ann").take(401)


def an_address_s_bodies() -> None:
    Holder(BytesHeld(100), "address").take(1601)


def all_bodies() -> None:
    Holder(BytesHeld(100, per_address=0), "address").take(3201)


def connections_of_a_user() -> None:
    admission = Admission(per_user=1, per_address=0, frames=1, origins=[])
    for _ in range(2):
        admission.admit("ann")


def connections_of_an_address() -> None:
    admission = Admission(per_user=0, per_address=1, frames=1, origins=[], most=0)
    for _ in range(2):
        if refused := admission.arrive("address"):
            raise refused


def all_connections() -> None:
    if refused := Admission(per_user=0, per_address=0, frames=1, origins=[], most=-1).arrive("address"):
        raise refused


def subscriptions() -> None:
    ann = UserAllowance(1)
    for _ in range(20):
        ann.begin(MOST_PLACES)


def requests_in_work() -> None:
    limit = ConcurrencyLimit(LEAST)
    for _ in range(LEAST + 1):
        limit.enter("ann")


def all_requests_in_work() -> None:
    limit = ConcurrencyLimit(LEAST)
    for n in range(LEAST + 1):
        limit.enter(str(n))


def too_often() -> None:
    rates = Rates(RateLimits(requests=1))
    for _ in range(20):
        rates.request("ann")


def waiting() -> None:
    queue: FairQueue[int] = FairQueue()
    for n in range(MOST_OF_ONE + 1):
        queue.push("ann", n)


BOUNDS = [
    a_user_s_bodies, an_address_s_bodies, all_bodies, connections_of_a_user, connections_of_an_address, all_connections,
    subscriptions, requests_in_work, all_requests_in_work, too_often, waiting,
]  # fmt: skip


@pytest.mark.parametrize("meet", BOUNDS, ids=[meet.__name__ for meet in BOUNDS])
def test_each_bound_that_is_met_says_when_to_come_again(meet: object) -> None:
    assert callable(meet)
    with pytest.raises((TooMany, Busy)) as refused:
        meet()
    answer = problem(refused.value)
    assert answer.status in (429, 503)
    assert int(dict(answer.headers)[b"retry-after"]) >= 1
