"""A verification step by step: servers that are not ready, too old, written to, or wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from syncd_client import BadReply, Refused, Replica, Verified
from syncd_client.sync import transport
from syncd_client.sync.apply import apply_page
from syncd_client.sync.reply import build_page

from tests.support.scripted import Script, page, problem, wire

A, LATER = "2026-01-01T00:00:00.000001Z", "2026-01-01T00:00:00.000002Z"
EMPTY = "0" * 16
YEARS = 3 * 365 * 86_400_000_000
Make = Callable[..., Replica]


def digests(
    *spaces: tuple[str, int, str], behind: tuple[str, ...] = (), unready: tuple[str, ...] = ()
) -> dict[str, Any]:
    told = [{"spaceId": name, "seq": 1, "records": records, "digest": digest} for name, records, digest in spaces]
    return {"spaces": told, "behind": list(behind), "unready": list(unready)}


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it waited, without waiting."""
    found: list[float] = []
    monkeypatch.setattr(transport.time, "sleep", found.append)
    return found


def asked(script: Script) -> list[str]:
    return [f"{request.method} {request.url.path.rsplit('/', 1)[1]}" for request in script.asked]


def test_a_server_that_is_not_ready_is_asked_again(replica: Replica, script: Script, waits: list[float]) -> None:
    script.answers = [page(), digests(unready=("s",)), digests(unready=("s",)), digests(("s", 0, EMPTY))]
    assert replica.verify() == Verified(spaces=1)
    assert waits == [1.0, 1.0]
    assert asked(script) == ["GET pull", "GET digest", "GET digest", "GET digest"]


def test_patience_has_an_end(replica: Replica, script: Script, waits: list[float]) -> None:
    script.answers = [page(), *[digests(("t", 0, EMPTY), unready=("s",))] * 100]
    assert replica.verify() == Verified(spaces=1, skipped=["s"])
    assert len(waits) == 60


def test_a_space_that_is_written_to_all_the_time_is_skipped(replica: Replica, script: Script) -> None:
    for turn in range(4):
        script.answers += [page(cursor=f"c{turn}"), digests(("t", 0, EMPTY), behind=("_personal:u",))]
    assert replica.verify() == Verified(spaces=1, skipped=[None])
    assert asked(script) == ["GET pull", "GET digest"] * 4


def test_a_comparison_that_comes_too_late_begins_again(replica: Replica, script: Script) -> None:
    there = digests(("_personal:u", 1, "f" * 16))
    buckets = digests(("_personal:u", 1, "f" * 16))
    buckets["spaces"][0]["buckets"] = [[7, 1, "f" * 16]]
    change = wire("r", op="insert", x=("there", A))
    script.answers = [page(), there, buckets, problem(409, "digest_behind"), page(cursor="c2"), there, buckets]
    script.answers += [{"spaceId": "_personal:u", "seq": 2, "changes": [change], "gone": [], "hasMore": False}]
    assert replica.verify() == Verified(spaces=1, records=1, differences=1, repaired=1)
    assert dict(replica.get("t", "r") or {}) == {"x": "there"}
    sent = [json.loads(request.content) for request in script.asked if request.method == "POST"]
    assert [body["since"] for body in sent] == ["c1", "c2"]
    assert all((body["bucket"], body["records"]) == (7, []) for body in sent)


def test_what_came_while_a_comparison_was_under_way_is_not_undone_by_it(replica: Replica, script: Script) -> None:
    """A live connection has brought a page meanwhile: the answer is of a time before it."""
    there = digests(("_personal:u", 2, "f" * 16))
    buckets = digests(("_personal:u", 2, "f" * 16))
    buckets["spaces"][0]["buckets"] = [[7, 2, "f" * 16]]
    old = {"changes": [wire("r", x=("old", A))], "gone": [["t", "made"]], "hasMore": False}

    def late(body: Any) -> Any:
        brought = page(wire("r", x=("new", LATER)), wire("made", x=("new", LATER)), cursor="c2")
        with replica.store.write() as db:
            apply_page(db, build_page(brought, brought["serverChanges"], "c2", False, ()), ())
        return {"spaceId": "_personal:u", "seq": 2, **old}

    script.answers = [page(wire("r", x=("old", A))), there, buckets, late]
    script.answers += [page(cursor="c3"), digests(behind=("_personal:u",))] * 4
    replica.verify()
    assert [replica.get("t", id) for id in ("r", "made")] == [{"x": "new"}, {"x": "new"}]


def test_a_server_that_never_agrees_is_left_after_one_round(replica: Replica, script: Script) -> None:
    """Each record is mended once, whatever the server goes on saying."""
    buckets = digests(("_personal:u", 1, "f" * 16))
    buckets["spaces"][0]["buckets"] = [[7, 1, "f" * 16]]
    change = wire("r", op="insert", x=("there", A))
    more = {"spaceId": "_personal:u", "seq": 2, "changes": [change], "gone": [], "hasMore": True}
    script.answers = [page(), buckets, buckets, *[more] * 100]
    assert replica.verify() == Verified(spaces=1, records=1, differences=1, repaired=1)
    assert asked(script).count("POST digest") == 2


def test_who_asks_an_older_server_is_told(replica: Replica, script: Script) -> None:
    script.answers = [page(), problem(404, "not_found")]
    with pytest.raises(Refused) as why:
        replica.verify()
    assert why.value.code == "not_found"


def test_who_asks_a_server_that_is_wrong_is_told(replica: Replica, script: Script) -> None:
    for answer in ({"spaces": 5}, [], {}, {"spaces": [{}], "behind": [], "unready": []}):
        script.answers = [page(), answer]
        with pytest.raises(BadReply):
            replica.verify()


FAILURES = {
    "too old": problem(404, "not_found"),
    "busy": problem(503, "busy"),
    "not syncd": httpx2.Response(200, text="<html>"),
    "no list": httpx2.Response(200, json=5),
    "a token that ended": problem(401, "unauthorized"),
    "a cursor that it does not know": problem(410, "cursor_lost"),
    "no answer": httpx2.ConnectError("gone"),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_what_nobody_asked_for_fails_quietly_and_is_tried_again_in_ten_minutes(
    open_replica: Make, script: Script, waits: list[float], failure: Any
) -> None:
    now = [1_000_000_000_000_000]
    replica = open_replica(wall=lambda: now[0], verify_every=3600.0)
    script.answers = [page(), page(), failure]
    replica.sync()
    now[0] += 3_600_000_000
    assert replica.sync().verified is None
    assert (len(script.asked), waits) == (3, [])
    now[0] += 590_000_000
    replica.sync()
    assert len(script.asked) == 4
    now[0] += 10_000_000
    script.answers = [page(), digests(("s", 0, EMPTY))]
    assert replica.sync().verified == Verified(spaces=1)


def test_after_a_clock_that_was_years_ahead_it_verifies_again(open_replica: Make, script: Script) -> None:
    now = [1_000_000_000_000_000 + YEARS]
    replica = open_replica(wall=lambda: now[0], verify_every=3600.0)
    replica.sync()
    now[0] -= YEARS
    script.answers = [page(), digests(("s", 0, EMPTY))]
    assert replica.sync().verified == Verified(spaces=1)
    assert replica.sync().verified is None, "it is noted anew, by the clock as it is"
    now[0] += 3_600_000_000
    script.answers = [page(), digests(("s", 0, EMPTY))]
    assert replica.sync().verified == Verified(spaces=1)


def test_one_that_nobody_asked_for_does_not_wait(open_replica: Make, script: Script, waits: list[float]) -> None:
    now = [1_000_000_000_000_000]
    replica = open_replica(wall=lambda: now[0], verify_every=3600.0)
    replica.sync()
    now[0] += 3_600_000_000
    script.answers = [page(), digests(unready=("s",))]
    assert replica.sync().verified == Verified(skipped=["s"])
    assert waits == []


def test_one_that_is_asked_for_takes_a_new_token(open_replica: Make, script: Script) -> None:
    tokens = iter(["old", "new"])
    replica = open_replica(token=lambda: next(tokens))
    script.answers = [page(), problem(401, "unauthorized"), digests(("s", 0, EMPTY))]
    assert replica.verify() == Verified(spaces=1)
    assert [request.headers["authorization"] for request in script.asked] == ["Bearer old", "Bearer old", "Bearer new"]
