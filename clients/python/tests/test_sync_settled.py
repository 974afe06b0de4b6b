"""What comes back to a replica of its own: lowered stamps, repeated changes, spaces that were left."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from syncd_client import (
    Replica,
)

from tests.support.scripted import Script, applied, page, problem, wire

EARLY, LATE = "2001-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"
Open = Callable[..., Replica]


def test_a_lowered_stamp_is_adopted_and_explained(open_replica: Open, script: Script) -> None:
    replica = open_replica(wall=lambda: 3_000_000_000_000_000)
    replica.put("t", "r", {"n": 1})
    lowered = "2026-01-01T00:00:00.000000Z"
    names = {"n": lowered, "deletedAt": lowered}

    def answer(body: Any) -> Any:
        reply = applied(body)
        reply["results"][0]["at"] = names
        return reply

    script.answers = [answer, page(wire("r", n=(2, "2026-01-01T00:00:01.000000Z")))]
    replica.sync()
    assert replica.why("t", "r").state == "clock_lowered"
    replica.sync()
    assert replica.get("t", "r") == {"n": 2}, "the wrong clock does not win for ever"


def test_a_later_pending_write_keeps_its_stamp_when_an_earlier_one_is_lowered(
    open_replica: Open, script: Script
) -> None:
    replica = open_replica(wall=lambda: 3_000_000_000_000_000)
    replica.put("t", "r", {"n": 1})

    def answer(body: Any) -> Any:
        replica.patch("t", "r", {"n": 2})
        reply = applied(body)
        reply["results"][0]["at"] = {"n": "2026-01-01T00:00:00.000000Z"}
        return reply

    script.answers = [answer]
    replica.push()
    assert replica.get("t", "r") == {"n": 2}
    assert replica.registers("t", "r")["n"].at > 3_000_000_000_000_000
    assert replica.why("t", "r").state == "waiting"


def test_the_lowered_form_that_comes_back_replaces_the_own_write(open_replica: Open, script: Script) -> None:
    """The reply to the push was lost, so the device hears of the lowered stamp only from the log."""
    replica = open_replica(wall=lambda: 3_000_000_000_000_000)
    change_id = replica.patch("t", "r", {"n": 1}, upsert=True)
    sent = replica.pending()[0].change["fields"]["n"]["at"]
    back = wire("r", client=replica.client_id, n=(1, "2026-01-01T00:00:00.000000Z")) | {"changeId": change_id}
    back["fields"]["n"]["sent"] = sent
    script.answers = [page(back, wire("r", n=(2, "2026-01-01T00:00:01.000000Z")))]
    replica.pull()
    assert replica.get("t", "r") == {"n": 2}
    assert replica.pending() == [], "what the server sends back, it has"


def test_an_own_pending_write_wins_a_tie_until_it_is_sent(replica: Replica, script: Script) -> None:
    replica.patch("t", "r", {"n": "mine"}, upsert=True)
    at = replica.pending()[0].change["fields"]["n"]["at"]
    twin = wire("r", client=replica.client_id, n=("theirs", at)) | {"changeId": None}
    script.answers = [page(twin)]
    replica.pull()
    assert replica.get("t", "r") == {"n": "mine"}


def test_a_space_that_was_left_is_purged_and_its_unsent_writes_kept_aside(replica: Replica, script: Script) -> None:
    script.answers = [page(wire("r", space="s", n=(1, EARLY)), wire("p", n=(1, EARLY)), spaces={"joined": ["s", "z"]})]
    replica.sync()
    assert [one.id for one in replica.spaces()] == ["s", "z"]
    kept = replica.patch("t", "r", {"n": 2}, space="s")
    script.answers = [page(spaces={"left": ["s"]}, cursor="c2")]
    replica.pull()
    assert [one.id for one in replica.spaces()] == ["z"]
    assert replica.get("t", "r", space="s") is None
    assert replica.get("t", "p") == {"n": 1}
    (aside,) = replica.kept_aside()
    assert (aside.change_id, aside.state, aside.space) == (kept, "aside", "s")
    assert aside.change["fields"]["n"]["value"] == 2
    assert replica.why("t", "r", space="s").state == "set_aside"
    replica.sync()
    assert script.pushes == []
    moved = replica.move(kept, None)
    assert replica.get("t", "r") == {"n": 2}
    replica.sync()
    assert script.pushes[0]["changes"][0]["changeId"] == moved != kept
    assert "spaceId" not in script.pushes[0]["changes"][0]


def test_conflicts_of_a_space_that_was_left_go_with_it(replica: Replica, script: Script) -> None:
    replica.put("t", "r", {"n": 1}, space="s")
    replica.put("t", "p", {"n": 1})
    stamps = {"clientTimestamp": EARLY, "serverTimestamp": LATE}
    conflicts = [
        {"table": "t", "id": id, "field": "n", "clientValue": 1, "serverValue": 2, **stamps} for id in ("r", "p")
    ]
    script.answers = [lambda body: applied(body, conflicts=conflicts, spaces={"joined": ["s"]})]
    replica.sync()
    assert [conflict.space for conflict in replica.conflicts()] == ["s", None]
    script.answers = [page(spaces={"left": ["s"]}, cursor="c2")]
    replica.pull()
    assert [conflict.space for conflict in replica.conflicts()] == [None]


def test_a_batch_over_a_space_that_was_left_is_not_sent_by_half(replica: Replica, script: Script) -> None:
    with replica.batch() as batch:
        batch.put("t", "a", {"n": 1}, space="s")
        batch.put("t", "b", {"n": 1})
    script.answers = [page(spaces={"left": ["s"]})]
    replica.pull()
    replica.sync()
    assert script.pushes == []
    assert [change.id for change in replica.kept_aside()] == ["a"]
    assert [change.id for change in replica.rejected()] == ["b"]


def answer_duplicate(more: bool, *changes: Any) -> Callable[[Any], Any]:
    def answer(body: Any) -> Any:
        reply = applied(body, *changes, more=more)
        for result in reply["results"]:
            result["status"] = "duplicate"
        return reply

    return answer


def test_what_the_server_had_already_is_taken_from_its_delta(open_replica: Open, script: Script) -> None:
    """The reply was lost that told of the lowered stamps; a repeated change is answered without them."""
    replica = open_replica(wall=lambda: 3_000_000_000_000_000)
    ids = [replica.patch("t", "r", {"n": n}, upsert=True) for n in (1, 2)]
    sent = [change.change["fields"]["n"]["at"] for change in replica.pending()]
    lowered = [wire("r", client=replica.client_id, n=(n, f"2026-01-01T00:00:0{n}Z")) for n in (1, 2)]
    for change, change_id, at in zip(lowered, ids, sent, strict=True):
        change["changeId"] = change_id
        change["fields"]["n"]["sent"] = at
    seen: list[Any] = []

    def last_page(body: Any) -> Any:
        seen.append((replica.get("t", "r"), replica.pending()))
        return page(*lowered, cursor="c2")

    script.answers = [answer_duplicate(True), last_page]
    report = replica.sync()
    assert report.duplicates == 2
    assert seen == [({"n": 2}, [])], "until the delta has come, the own writes stay in sight"
    assert replica.registers("t", "r")["n"].at == 1_767_225_602_000_000
    script.answers = [page(wire("r", n=(3, "2026-01-01T00:00:03Z")))]
    replica.pull()
    assert replica.get("t", "r") == {"n": 3}


def test_a_repeated_change_that_had_lost_does_not_win_here(replica: Replica, script: Script) -> None:
    replica.patch("t", "r", {"n": "mine"}, upsert=True)
    script.answers = [answer_duplicate(False, wire("r", n=("theirs", EARLY)))]
    replica.sync()
    assert replica.get("t", "r") == {"n": "theirs"}
    assert replica.pending() == []


def test_what_was_acknowledged_is_named_until_the_cursor_is_past_it(replica: Replica, script: Script) -> None:
    def named() -> list[list[str]]:
        asked, script.asked = script.asked, []
        bodies = [json.loads(request.content or "{}") for request in asked]
        return [
            body.get("pushed") or request.url.params.get_list("pushed")
            for request, body in zip(asked, bodies, strict=True)
        ]

    def more(body: Any) -> Any:
        return applied(body, more=True)

    first = replica.put("t", "a", {"n": 1})
    script.answers = [more]
    replica.push()
    assert named() == [[]]
    second = replica.put("t", "b", {"n": 1})
    script.answers = [more, page(more=True), page()]
    replica.sync()
    assert named() == [[first], [first, second], [first, second]]
    replica.sync()
    assert named() == [[]]
    third = replica.put("t", "c", {"n": 1})
    script.answers = [more, problem(410, "cursor_lost"), page()]
    replica.sync()
    assert named() == [[], [third], []]
