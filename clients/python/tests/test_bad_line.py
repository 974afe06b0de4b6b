"""What is sent and asked for at once is as much as the line carries, and what is waited for goes by its speed."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
from syncd_client import (
    HttpSender,
    Limits,
    Replica,
    RetryPolicy,
)
from syncd_client.sync.pace import SLOWEST, Pace

from tests.support.scripted import Script, applied, page, problem, wire

EARLY = "2001-01-01T00:00:00.000000Z"
Open = Callable[..., Replica]


def test_a_size_grows_with_what_the_line_carries_and_is_halved_by_failures() -> None:
    pace = Pace(100, 10_000, goal=10.0)
    pace.took(100, 0.1)
    assert pace.size == 400, "four times as much"
    pace.took(390, 1.0)
    assert pace.size == 1600
    pace.took(10, 0.5)
    assert pace.size == 1600, "little says little"
    pace.took(1600, 5.0)
    assert pace.size == 3200, "as much as ten seconds carry"
    pace.took(3200, 20.0)
    assert pace.size == 1600
    pace.failed()
    assert pace.size == 800
    for _ in range(20):
        pace.failed()
    assert pace.size == 1
    for _ in range(20):
        pace.took(pace.size, 0.001)
    assert pace.size == 10_000


def test_a_line_of_great_delay_is_not_taken_for_a_narrow_one() -> None:
    pace = Pace(100, 10_000, goal=10.0)
    for _ in range(10):
        pace.took(pace.size, 4.0 + pace.size / 100_000)
    assert pace.size > 5000


def test_bytes_on_their_way_are_waited_for_by_the_speed_that_was_measured() -> None:
    pace = Pace(1, 10, goal=1.0)
    assert pace.allowance(int(SLOWEST) * 30) == 30
    pace.took(4_000_000, 1.0)
    assert pace.allowance(1_000_000) == 1


def test_a_pull_that_fails_is_asked_for_in_halves(open_replica: Open, script: Script) -> None:
    replica = open_replica(limits=Limits(pull_limit=100))
    cut = httpx2.Response(200, text='{"serverCha')
    script.answers = [httpx2.ReadTimeout("slow"), cut, page(wire("a", n=(1, EARLY)), more=True)]
    replica.sync()
    assert [url.params["limit"] for url in script.pulls] == ["100", "50", "25", "25"]


def test_a_push_that_fails_is_sent_in_halves_and_grows_again(open_replica: Open, script: Script) -> None:
    replica = open_replica(retry=RetryPolicy(attempts=5, first=0.001))
    for n in range(200):
        replica.put("t", f"{n}", {"text": "x" * 500})
    script.answers = [
        httpx2.WriteTimeout("slow"),
        problem(408, "too_slow"),
        *[lambda body: applied(body)] * 2,
    ]
    assert replica.sync().pushed == 200
    sizes = [len(push["changes"]) for push in script.pushes]
    assert sizes[1] <= sizes[0] / 2 + 1
    assert sizes[2] <= sizes[1] / 2 + 1
    assert sizes[3] > sizes[2]


def test_a_client_of_the_applications_own_waits_for_nothing_for_ever(open_replica: Open, script: Script) -> None:
    with httpx2.Client(transport=httpx2.MockTransport(script), timeout=None) as http:
        replica = open_replica(send=HttpSender(http))
        replica.put("t", "r", {"text": "x" * 50_000})
        replica.sync()
    times = [request.extensions["timeout"] for request in script.asked]
    assert all(None not in given.values() for given in times)
    assert times[0]["read"] > 50_000 / SLOWEST
