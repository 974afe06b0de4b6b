"""A device whose clock was wrong: its writes count when they were made, as soon as it is mended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from syncd_client import Replica
from syncd_client.data.clock import LATEST, format_instant

from tests.support.replicas import Wall
from tests.support.scripted import Script, applied, page, wire

YEARS = 3 * 365 * 86_400_000_000
NOW = 1_790_000_000_000_000
Open = Callable[..., Replica]


def lowered(to: int) -> Callable[[Any], Any]:
    """An answer that takes everything, with its stamps lowered to this instant and those right after it."""

    def answer(body: Any) -> Any:
        reply = applied(body)
        for index, (result, change) in enumerate(zip(reply["results"], body["changes"], strict=True)):
            result["at"] = dict.fromkeys(change.get("fields", ["deletedAt"]), format_instant(to + index))
        return reply

    return answer


def stamp(replica: Replica, record: str, field: str = "n") -> int:
    return replica.registers("t", record)[field].at


def test_after_a_lowered_stamp_the_clock_comes_back(open_replica: Open, script: Script) -> None:
    wall = Wall(NOW + YEARS)
    replica = open_replica(wall=wall)
    replica.put("t", "a", {"n": 1})
    replica.put("t", "b", {"n": 1})
    script.answers = [lowered(NOW)]
    replica.sync()
    wall.now = NOW + 3_600_000_000
    replica.patch("t", "a", {"n": 2})
    assert stamp(replica, "a") == wall.now, "it was written an hour later, by a clock that is right again"


@pytest.mark.parametrize("how", ["refused", "unsent"])
def test_a_clock_that_is_mended_before_anything_was_lowered_stamps_as_it_stands(
    open_replica: Open, script: Script, how: str
) -> None:
    wall = Wall(NOW + YEARS)
    replica = open_replica(wall=wall)
    ahead = replica.put("t", "a", {"b": 1})
    if how == "refused":
        refused = {"changeId": ahead, "status": "rejected", "code": "not_a_writer", "detail": "No."}
        script.answers = [lambda body: applied(body, results=[refused])]
        replica.sync()
    wall.now = NOW
    replica.patch("t", "a", {"n": 1})
    replica.put("t", "c", {"n": 1})
    assert (stamp(replica, "a"), stamp(replica, "c")) == (NOW, NOW + 1)


def test_a_write_over_a_refused_one_of_a_clock_that_was_mended_since_counts_when_it_is_made(
    open_replica: Open, script: Script
) -> None:
    wall = Wall(NOW + YEARS)
    replica = open_replica(wall=wall)
    bad = replica.put("t", "a", {"n": 1, "m": 1})
    refused = {"changeId": bad, "status": "rejected", "code": "rule_refused", "detail": "No."}
    script.answers = [lambda body: applied(body, results=[refused])]
    replica.sync()
    wall.now = NOW
    replica.patch("t", "a", {"n": 2})
    assert stamp(replica, "a") == NOW + 1
    assert replica.get("t", "a") == {"n": 2, "m": 1}


def test_a_refused_write_of_a_clock_that_is_behind_stays_on_top(open_replica: Open, script: Script) -> None:
    replica = open_replica(wall=Wall(NOW - YEARS))
    script.answers = [page(wire("a", n=(0, format_instant(NOW))))]
    replica.pull()
    bad = replica.patch("t", "a", {"n": 1})
    refused = {"changeId": bad, "status": "rejected", "code": "rule_refused", "detail": "No."}
    script.answers = [lambda body: applied(body, results=[refused])]
    replica.sync()
    replica.patch("t", "a", {"m": 1})
    assert replica.get("t", "a") == {"n": 1, "m": 1}


def test_the_clock_comes_back_where_the_answer_was_lost_and_the_server_sends_the_change(
    open_replica: Open, script: Script
) -> None:
    wall = Wall(NOW + YEARS)
    replica = open_replica(wall=wall, client_id="me")
    change_id = replica.put("t", "a", {"n": 1})
    sent = stamp(replica, "a")
    own = wire("a", client="me", n=(1, format_instant(NOW)), deletedAt=(None, format_instant(NOW))) | {
        "changeId": change_id
    }
    for register in own["fields"].values():
        register["sent"] = format_instant(sent)
    script.answers = [page(own)]
    replica.pull()
    wall.now = NOW + 1_000_000
    replica.put("t", "b", {"n": 1})
    assert (replica.pending()[0].id, stamp(replica, "b")) == ("b", wall.now)


def test_a_clock_that_came_back_still_writes_later_than_what_it_overwrites(open_replica: Open, script: Script) -> None:
    wall = Wall(NOW + YEARS)
    replica = open_replica(wall=wall)
    replica.put("t", "a", {"n": 1})
    script.answers = [lowered(NOW)]
    replica.sync()
    wall.now = NOW - YEARS
    for n in range(3):
        replica.patch("t", "a", {"n": n})
    stamps = [change.change["fields"]["n"]["at"] for change in replica.pending()]
    assert stamps == [format_instant(NOW + 1 + n) for n in range(3)]


def test_what_was_written_while_the_answer_was_on_its_way_stays_on_top(open_replica: Open, script: Script) -> None:
    wall = Wall(NOW + YEARS)
    replica = open_replica(wall=wall)
    replica.put("t", "a", {"n": 1})

    def meanwhile(body: Any) -> Any:
        replica.patch("t", "a", {"n": 2})
        wall.now = NOW
        return lowered(NOW)(body)

    script.answers = [meanwhile]
    replica.push()
    replica.patch("t", "a", {"n": 3})
    assert replica.get("t", "a") == {"n": 3}
    script.answers = [lowered(NOW + 10)]
    replica.push()
    assert replica.get("t", "a") == {"n": 3}
    assert replica.pending() == []


def test_the_last_instant_that_can_be_written_is_not_written_twice(open_replica: Open, script: Script) -> None:
    wall = Wall(253_402_300_799_999_000)
    replica = open_replica(wall=wall)
    for n in range(3):
        replica.put("t", "a", {"n": n})
    script.answers = [lowered(NOW)]
    replica.sync()
    wall.now = NOW + 1000
    replica.put("t", "a", {"n": 4})
    replica.put("t", "b", {"n": 4})
    assert stamp(replica, "a") == NOW + 1000
    assert stamp(replica, "b") == NOW + 1001


def test_a_clock_beyond_the_last_instant_still_writes_later_than_what_it_overwrites(
    open_replica: Open, script: Script
) -> None:
    replica = open_replica(wall=Wall(LATEST + YEARS))
    for n in range(3):
        replica.put("t", "a", {"n": n})
        replica.patch("t", "a", {"n": n + 10})
        assert replica.get("t", "a") == {"n": n + 10}
        script.answers = [lowered(NOW + n * 10)]
        replica.sync()
        assert replica.get("t", "a") == {"n": n + 10}


def test_a_refused_write_of_a_clock_that_was_ahead_lies_below_a_later_one_that_was_taken(
    open_replica: Open, script: Script
) -> None:
    wall = Wall(NOW + YEARS)
    replica = open_replica(wall=wall)
    bad = replica.put("t", "a", {"n": "refused", "m": "refused"})
    refused = {"status": "rejected", "code": "rule_refused", "detail": "No."}
    script.answers = [lambda body: applied(body, results=[{"changeId": bad} | refused])]
    replica.push()
    replica.patch("t", "a", {"n": "later"})
    script.answers = [lowered(NOW)]
    replica.push()
    assert replica.get("t", "a") == {"n": "later", "m": "refused"}
    wall.now = NOW + 1000
    again = replica.requeue(bad)
    assert replica.get("t", "a") == {"n": "later", "m": "refused"}, "sent again, it is as old as it was"
    assert [change.change_id for change in replica.pending()] == [again]


def test_the_edit_of_a_refused_write_is_later_than_what_others_wrote(open_replica: Open, script: Script) -> None:
    wall = Wall(NOW)
    replica = open_replica(wall=wall)
    bad = replica.put("t", "a", {"n": 1})
    refused = {"changeId": bad, "status": "rejected", "code": "rule_refused", "detail": "No."}
    theirs = wire("a", n=(7, format_instant(NOW + 30_000_000)))
    script.answers = [lambda body: applied(body, theirs, results=[refused])]
    wall.now = NOW - YEARS
    replica.push()
    replica.fix(bad, {"n": 2})
    assert replica.get("t", "a") == {"n": 2}


def test_a_push_says_what_of_others_it_overwrote(open_replica: Open, script: Script) -> None:
    """The server lowers its stamp, and it is to stay later than what its writer saw."""
    replica = open_replica(wall=Wall(NOW + YEARS), client_id="me")
    seen = format_instant(NOW + 30_000_000)
    script.answers = [page(wire("a", n=(1, seen), deletedAt=(None, seen)))]
    replica.pull()
    replica.patch("t", "a", {"n": 2, "m": 1})
    replica.patch("t", "a", {"n": 3})
    first, second = (change.change["fields"] for change in replica.pending())
    assert (first["n"]["base"], "base" in first["m"], second["n"]["base"]) == (seen, False, seen)


@pytest.mark.parametrize("how", ["requeued", "edited"])
def test_a_refused_write_still_says_it_when_it_is_sent_again(open_replica: Open, script: Script, how: str) -> None:
    replica = open_replica(wall=Wall(NOW + YEARS), client_id="me")
    seen = format_instant(NOW + 30_000_000)
    script.answers = [page(wire("a", n=(1, seen)))]
    replica.pull()
    bad = replica.patch("t", "a", {"n": 2})
    refused = {"changeId": bad, "status": "rejected", "code": "rule_refused", "detail": "No."}
    script.answers = [lambda body: applied(body, results=[refused])]
    replica.push()
    _ = replica.requeue(bad) if how == "requeued" else replica.fix(bad, {"n": 3})
    assert [change.change["fields"]["n"]["base"] for change in replica.pending()] == [seen]
