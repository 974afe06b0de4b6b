"""What the server has taken stands on the device, whatever happened to its space while the answer was on its way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from syncd_client import Replica
from syncd_client.data.change import Packed
from syncd_client.data.clock import format_instant

from tests.support.scripted import Script, applied, packed, page, take, wire

EARLY = "2001-01-01T00:00:00.000000Z"
Open = Callable[..., Replica]


def results(pushed: tuple[Packed, ...], status: str) -> dict[str, Any]:
    return {"results": [{"changeId": change.change_id, "status": status} for change in pushed], "conflicts": []}


BEFORE = wire("a", space="s", n=("before", EARLY), m=("before", EARLY))
LEFT, JOINED = {"spaces": {"left": ["s"]}}, {"spaces": {"joined": ["s"]}, "changes": [BEFORE]}


@pytest.fixture
def member(replica: Replica, script: Script) -> Replica:
    """A replica that is in the space s and has written there."""
    script.answers = [page(BEFORE, spaces={"joined": ["s"]})]
    replica.pull()
    replica.patch("t", "a", {"n": "mine"}, space="s")
    return replica


@pytest.mark.parametrize("status", ["applied", "superseded", "duplicate"])
def test_left_joined_and_acknowledged_in_this_order_the_write_stands(member: Replica, status: str) -> None:
    pushed = packed(member)
    take(member, LEFT)
    take(member, JOINED)
    take(member, results(pushed, status), pushed, cursor=None)
    assert member.get("t", "a", space="s") == {"n": "mine", "m": "before"}
    assert (member.pending(), member.kept_aside(), member.rejected()) == ([], [], [])
    assert member.why("t", "a", space="s").state == "synced"


@pytest.mark.parametrize("more", [True, False])
@pytest.mark.parametrize("status", ["applied", "duplicate"])
def test_acknowledged_after_the_space_was_left_for_good_it_is_neither_shown_nor_kept(
    member: Replica, status: str, more: bool
) -> None:
    pushed = packed(member)
    take(member, LEFT)
    take(member, results(pushed, status), pushed, cursor=None, more=more)
    take(member, {"changes": []})
    assert member.get("t", "a", space="s") is None
    assert (member.pending(), member.kept_aside(), member.rejected()) == ([], [], [])


def test_what_reads_differently_is_told_with_what_was_refused(member: Replica) -> None:
    pushed = packed(member)
    assert take(member, LEFT).changed == [("t", "s", "a")]
    assert take(member, JOINED).changed == [("t", "s", "a")]
    assert take(member, JOINED).changed == []
    own = member.put("t", "own", {"n": 1})
    (packed_own,) = [change for change in packed(member) if change.change_id == own]
    done = take(member, results((packed_own,), "rejected"), (packed_own,), cursor=None)
    assert (done.rejected, done.changed) == ([own], [])
    assert [change.change_id for change in member.kept_aside()] == [pushed[0].change_id]


def test_a_batch_that_was_taken_is_not_kept_as_refused_because_a_space_of_it_was_left(member: Replica) -> None:
    with member.batch() as batch:
        batch.put("t", "own", {"n": 1})
        batch.put("t", "shared", {"n": 1}, space="s")
    pushed = packed(member)
    take(member, LEFT)
    assert [change.id for change in member.rejected()] == ["own"]
    take(member, results(pushed, "applied"), pushed, cursor=None)
    assert member.get("t", "own") == {"n": 1}
    assert member.get("t", "shared", space="s") is None
    assert (member.pending(), member.kept_aside(), member.rejected()) == ([], [], [])


def test_a_write_that_came_back_before_its_answer_is_not_undone_by_it(member: Replica) -> None:
    pushed = packed(member)
    own = wire("a", client=member.client_id, space="s", n=("mine", member.registers("t", "a", space="s")["n"].at))
    own["changeId"] = pushed[0].change_id
    own["fields"]["n"]["at"] = pushed[0].body.split('"at":"')[1][:27]
    take(member, {"changes": [own]})
    take(member, {"changes": [wire("a", space="s", n=("theirs", "2099-01-01T00:00:00.000000Z"))]})
    take(member, results(pushed, "applied"), pushed, cursor=None)
    assert member.get("t", "a", space="s") == {"n": "theirs", "m": "before"}
    assert member.pending() == []


def test_a_write_moved_elsewhere_meanwhile_is_sent_there_and_stands_where_it_was_taken(member: Replica) -> None:
    pushed = packed(member)
    take(member, LEFT)
    take(member, JOINED)
    moved = member.move(member.kept_aside()[0].change_id, None)
    take(member, results(pushed, "applied"), pushed, cursor=None)
    assert member.get("t", "a", space="s") == {"n": "mine", "m": "before"}
    assert member.get("t", "a") == {"n": "mine"}
    assert [change.change_id for change in member.pending()] == [moved]


def test_what_is_refused_after_its_space_was_left_stays_aside(member: Replica) -> None:
    pushed = packed(member)
    take(member, LEFT)
    take(member, JOINED)
    take(member, results(pushed, "rejected"), pushed, cursor=None)
    assert [change.id for change in member.kept_aside()] == ["a"]
    assert member.get("t", "a", space="s") == {"n": "before", "m": "before"}


def test_a_space_made_again_under_its_old_name_is_left_and_joined_in_one_answer(
    member: Replica, script: Script
) -> None:
    again = wire("b", space="s", n=("again", EARLY))
    script.answers = [lambda body: applied(body, again, spaces={"left": ["s"], "joined": ["s"]})]
    member.sync()
    assert [record.id for record in member.query("t", space="s")] == ["a", "b"]
    assert member.get("t", "a", space="s") == {"n": "mine"}, "of the old one only what the new one has taken"
    assert [one.id for one in member.spaces()] == ["s"]


def test_a_later_write_that_waited_behind_one_on_its_way_wins_when_it_is_sent_again(
    member: Replica, script: Script
) -> None:
    pushed = packed(member)
    member.patch("t", "a", {"n": "later"}, space="s")
    take(member, LEFT)
    take(member, JOINED)
    take(member, results(pushed, "applied"), pushed, cursor=None)
    taken = member.registers("t", "a", space="s")["n"]
    (waits,) = member.kept_aside()
    assert (taken.value, waits.change["fields"]["n"]["value"]) == ("mine", "later")
    member.requeue(waits.change_id)
    assert member.get("t", "a", space="s") == {"n": "later", "m": "before"}
    member.sync()
    assert script.pushes[-1]["changes"][0]["fields"]["n"]["at"] > format_instant(taken.at)
    assert member.get("t", "a", space="s") == {"n": "later", "m": "before"}
    assert (member.pending(), member.kept_aside(), member.rejected()) == ([], [], [])
