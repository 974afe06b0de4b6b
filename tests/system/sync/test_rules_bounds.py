"""What rules cost: records are read once, no more is compared than was sent, and nobody waits for another's rules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.harness import Server
from tests.support.holding import reasons
from tests.support.wire import Device, Json, edit, unique

Make = Callable[..., Device]
# 0.8 MB as JSON, eight times as much as jsonb.
LARGE = [1] * 400_000


@pytest.fixture(scope="module")
def served(workspace: Path) -> Iterator[Server]:
    with Server(workspace / "bounded", settings={"rules": "tests.support.clinic_rules"}) as server:
        yield server


@pytest.fixture
def ruled(served: Server) -> Iterator[Make]:
    with httpx.Client(base_url=served.url, timeout=120) as http:

        def make(user: str = "", client: str = "c1", **more: Any) -> Device:
            return Device(http, served, user or unique("ann"), client, app=more.pop("app", "clinic"), **more)

        yield make


def visit(record: str, when: int = 1, **fields: Any) -> Json:
    return edit(record, when, **fields) | {"table": "visits"}


def outcomes(answer: Any) -> list[str]:
    return [result.get("code", result["status"]) for result in answer["results"]]


def test_a_record_that_many_changes_of_a_push_write_is_read_once(ruled: Make) -> None:
    ann = ruled()
    ann.write(visit("v1", notes=LARGE))
    answer = ann.push(*(visit("v1", when, reason="") for when in range(2, 102)))
    assert outcomes(answer) == ["rule_refused"] * 100


def test_of_ids_that_come_again_no_more_is_compared_than_was_sent(ruled: Make) -> None:
    ann = ruled()
    first = [visit(f"v{n}", notes=LARGE) for n in range(6)]
    for change in first:
        ann.write(change)
    others = [change | {"fields": visit("", reason="")["fields"]} for change in first]
    began = time.monotonic()
    found = outcomes(ann.push(*others))
    print("seconds", time.monotonic() - began)
    some = found.index("push_too_large")
    assert 0 < some < 4
    assert found == ["change_id_reused"] * some + ["push_too_large"] * (6 - some)
    # In a push of fewer it is told what it is.
    assert outcomes(ann.push(others[-1])) == ["change_id_reused"]


def test_large_changes_that_are_repeated_are_repeats(ruled: Make) -> None:
    ann = ruled()
    changes = [visit(f"v{n}", notes="x" * 800_000, reason=" First ") for n in range(6)]
    ann.write(*changes)
    assert outcomes(ann.push(*changes)) == ["duplicate"] * 6


def test_a_push_of_the_first_generation_is_cut_where_its_rules_would_read_too_much(ruled: Make) -> None:
    """None is held that may be written."""
    ann = ruled()
    records = [f"v{n}" for n in range(12)]
    for record in records:
        ann.write(visit(record, notes=LARGE))
    old = ruled(ann.user, "c2", legacy=True)
    reason = {"reason": {"value": "x", "updatedAt": "2026-01-04T00:00:00Z"}}
    answer = old.push(*({"table": "visits", "id": one, "op": "update", "fields": reason} for one in records))
    assert (outcomes(answer), reasons(old)) == (["applied"] * 12, [])


def broken(record: str, how: str) -> Json:
    return edit(record, how=how) | {"table": "broken"}


def test_the_time_of_rules_counts_from_when_they_are_asked_and_who_is_not_asked_is_busy(ruled: Make) -> None:
    """Twelve pushes of which each takes a second, all at once: whoever waits for a turn is not refused for that."""
    ann, ben = ruled(), ruled()
    with ThreadPoolExecutor(13) as many:
        pushes = [many.submit(ann.send, broken(f"x{n}", "takes a second")) for n in range(12)]
        other = many.submit(ben.send, visit("v1", reason="x"))
        answers = [push.result() for push in (other, *pushes)]
    done = [answer for answer in answers if answer.status_code == 200]
    assert [outcomes(answer.json()) for answer in done] == [["applied"]] * len(done)
    assert answers[0] in done
    busy = [answer for answer in answers if answer.status_code != 200]
    assert all((answer.status_code, answer.json()["code"]) == (503, "busy") for answer in busy)
    assert all("retry-after" in answer.headers for answer in busy)


def test_a_rule_that_fails_is_one_line_of_the_log_a_push(ruled: Make, served: Server) -> None:
    ann = ruled()
    before = served.output().count("a rule failed")
    assert outcomes(ann.push(*(broken(f"x{n}", "raises") for n in range(200)))) == ["rule_failed"] * 200
    lines = served.output().splitlines()
    told = [line for line in lines if "a rule failed" in line][before:]
    assert len(told) == 1
    assert "200" in told[0]
    # What it returns, and cannot be written, is no other.
    before = served.output().count("a rule failed")
    ann.push(*(broken(f"y{n}", "lies") for n in range(20)))
    assert served.output().count("a rule failed") == before + 1
