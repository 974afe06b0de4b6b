"""What a replica asks of the server, and what each kind of answer does to it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from syncd_client import (
    BadReply,
    Limits,
    NotAllowed,
    NotConnected,
    Offline,
    Refused,
    Replica,
    RetryPolicy,
    ServerBusy,
    SyncBusy,
    spaces,
)

from tests.support.scripted import Script, applied, page, problem, wire

EARLY, LATE = "2001-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"
LATER_DATE = "Thu, 01 Jan 2099 00:00:00 GMT"
Open = Callable[..., Replica]


def test_a_write_is_seen_at_once_and_pushed_with_its_cursor(replica: Replica, script: Script) -> None:
    change_id = replica.put("t", "r", {"title": "one"})
    assert replica.get("t", "r") == {"title": "one"}
    report = replica.sync()
    (push,) = script.pushes
    assert push["since"] == ""
    assert push["changes"][0]["changeId"] == change_id
    assert script.asked[0].headers["x-sync-protocol"] == "1"
    assert script.asked[0].headers["x-client-id"] == push["clientId"] == replica.client_id
    assert script.asked[0].headers["authorization"] == "Bearer t"
    assert (report.pushed, replica.pending(), replica.cursor) == (1, [], "c1")
    assert replica.why("t", "r").state == "synced"


def test_a_sync_pulls_until_nothing_is_left_and_goes_on_from_its_cursor(replica: Replica, script: Script) -> None:
    script.answers = [page(wire("a", n=(1, EARLY)), cursor="c1", more=True), page(cursor="c2")]
    assert replica.sync().pulled == 1
    replica.pull()
    assert [url.params["since"] for url in script.pulls] == ["", "c1", "c2"]


def test_a_lost_reply_is_asked_for_again_with_the_same_bytes(replica: Replica, script: Script) -> None:
    replica.put("t", "r", {"n": 1})
    script.answers = [httpx.ReadError("cut"), httpx.Response(200, content=b'{"serverCh'), httpx.Response(502)]
    with pytest.raises(ServerBusy):
        replica.sync()
    assert replica.why("t", "r").state == "busy"
    replica.sync()
    assert len({json.dumps(push) for push in script.pushes}) == 1
    assert len(script.pushes) == 4


def test_offline_keeps_the_writes_and_says_so(replica: Replica, script: Script) -> None:
    replica.put("t", "r", {"n": 1})
    script.answers = [httpx.ConnectError("no route")] * 3
    with pytest.raises(Offline):
        replica.sync()
    assert replica.why("t", "r").state == "offline"
    assert len(replica.pending()) == 1
    replica.sync()
    assert replica.why("t", "r").state == "synced"


def test_a_server_that_asks_for_patience_is_waited_for_or_left(replica: Replica, script: Script) -> None:
    script.answers = [problem(503, "busy", retry_after="0")]
    replica.sync()
    assert len(script.asked) == 2
    script.answers = [problem(429, "too_many_requests", retry_after="3600")]
    with pytest.raises(ServerBusy) as busy:
        replica.sync()
    assert busy.value.retry_after == 3600


@pytest.mark.parametrize("ask", [Replica.sync, spaces.invitations], ids=["sync", "question"])
def test_a_time_to_come_again_is_the_server_s_not_the_device_s(
    replica: Replica, script: Script, ask: Callable[[Replica], Any]
) -> None:
    script.answers = [problem(503, "busy", retry_after=LATER_DATE, date=LATER_DATE), {"invitations": []} | page()]
    ask(replica)
    assert len(script.asked) == 2, "the server's clock is decades ahead of this device's"


def test_a_429_is_waited_for_as_long_as_it_says(open_replica: Open, script: Script) -> None:
    replica = open_replica(retry=RetryPolicy(attempts=3, first=0.001, patience=5))
    replica.put("t", "r", {"n": 1})
    script.answers = [problem(429, "too_many_requests", retry_after="1")]
    begun = time.monotonic()
    replica.sync()
    assert time.monotonic() - begun >= 1
    assert len({json.dumps(push) for push in script.pushes}) == 1
    assert replica.why("t", "r").state == "synced"


def test_a_quota_that_is_used_up_is_said_at_once_and_nothing_is_lost(replica: Replica, script: Script) -> None:
    replica.put("t", "r", {"n": 1})
    script.answers = [problem(507, "quota_exceeded")]
    with pytest.raises(Refused) as refused:
        replica.sync()
    assert (refused.value.code, refused.value.status, len(script.asked)) == ("quota_exceeded", 507, 1)
    why = replica.why("t", "r")
    assert (why.state, why.code, why.pending) == ("rejected", "quota_exceeded", 1)
    assert why.detail == f"The server refused the last sync: {refused.value.detail}"
    replica.sync()
    assert replica.why("t", "r").state == "synced"
    assert len({json.dumps(push) for push in script.pushes}) == 1


def test_a_refused_token_is_asked_for_once_more(open_replica: Open, script: Script) -> None:
    tokens = iter(["old", "new", "newer", "newest"])
    replica = open_replica(token=lambda: next(tokens))
    script.answers = [problem(401, "unauthorized")]
    replica.sync()
    assert [request.headers["authorization"] for request in script.asked] == ["Bearer old", "Bearer new"]
    script.answers = [problem(401, "unauthorized"), problem(401, "unauthorized")]
    with pytest.raises(NotAllowed):
        replica.sync()
    replica.put("t", "r", {"n": 1})
    assert replica.why("t", "r").state == "no_permission"


def test_a_file_stays_one_users(open_replica: Open) -> None:
    from syncd_client import WrongReplica

    jwts = iter(["x.eyJzdWIiOiJhbm4ifQ.x", "x.eyJzdWIiOiJib2IifQ.x"])
    replica = open_replica(token=lambda: next(jwts))
    replica.sync()
    with pytest.raises(WrongReplica, match="ann"):
        replica.sync()


def test_without_a_server_it_works_and_only_syncing_is_refused(open_replica: Open) -> None:
    replica = open_replica(url=None)
    replica.put("t", "r", {"n": 1})
    with pytest.raises(NotConnected):
        replica.sync()


def test_a_rejected_change_is_kept_with_its_reason_and_the_rest_goes_through(replica: Replica, script: Script) -> None:
    bad, good = replica.put("t", "bad", {"n": 1}, space="s"), replica.put("t", "good", {"n": 2})

    def answer(body: Any) -> Any:
        reply = applied(body)
        reply["results"][0] = {"changeId": bad, "status": "rejected", "code": "not_a_writer", "detail": "You read."}
        return reply

    script.answers = [answer]
    report = replica.sync()
    assert (report.pushed, report.rejected) == (1, [bad])
    (kept,) = replica.rejected()
    assert (kept.change_id, kept.code, kept.detail) == (bad, "not_a_writer", "You read.")
    assert replica.why("t", "bad", space="s").state == "no_permission"
    assert replica.why("t", "good").state == "synced"
    assert replica.get("t", "bad", space="s") == {"n": 1}
    assert good not in [change.change_id for change in replica.pending()]


def test_what_was_too_much_for_its_push_is_sent_again_and_kept_where_nothing_else_was_settled(
    replica: Replica, script: Script
) -> None:
    first, second = replica.put("t", "a", {"n": 1}), replica.put("t", "b", {"n": 2})

    def answer(body: Any) -> Any:
        reply = applied(body)
        reply["results"][-1] = {
            "changeId": second,
            "status": "rejected",
            "code": "push_too_large",
            "detail": "Too much.",
        }
        reply["spaces"] = {"joined": [], "left": [], "unreadable": ["s"]}
        return reply

    script.answers = [answer, answer]
    report = replica.sync()
    assert [[change["changeId"] for change in push["changes"]] for push in script.pushes] == [[first, second], [second]]
    assert (report.pushed, report.rejected, report.unreadable) == (1, [second], ["s"])


@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_push_refused_for_one_change_goes_again_without_it(replica: Replica, script: Script, place: int) -> None:
    ids = [replica.put("t", f"r{n}", {"n": n}) for n in range(5)]
    script.answers = [problem(400, "invalid_value", f"/changes/{place}/fields/n/value")]
    report = replica.sync()
    assert report.rejected == [ids[place]]
    assert [change["changeId"] for change in script.pushes[1]["changes"]] == ids[:place] + ids[place + 1 :]
    assert replica.rejected()[0].code == "invalid_value"
    assert f"/changes/{place}/fields/n/value" in str(replica.rejected()[0].detail)


def test_a_refusal_that_blames_nobody_ends_the_sync_and_loses_nothing(replica: Replica, script: Script) -> None:
    replica.put("t", "r", {"n": 1})
    script.answers = [problem(400, "invalid_request", "/clientId")]
    with pytest.raises(Refused) as refused:
        replica.sync()
    assert (refused.value.code, refused.value.status) == ("invalid_request", 400)
    assert len(replica.pending()) == 1


def test_a_push_that_is_too_large_is_halved(replica: Replica, script: Script) -> None:
    for n in range(8):
        replica.put("t", f"r{n}", {"n": n})
    script.answers = [problem(413, "body_too_large"), problem(413, "body_too_large")]
    replica.sync()
    assert [len(push["changes"]) for push in script.pushes] == [8, 4, 2, 2, 2, 2]


def test_one_change_that_is_too_large_alone_is_set_aside(replica: Replica, script: Script) -> None:
    large, small = replica.put("t", "large", {"n": "x" * 2_000_000}), replica.put("t", "small", {"n": 1})
    script.answers = [problem(413, "body_too_large")]
    assert replica.sync().rejected == [large]
    assert [c["changeId"] for c in script.pushes[-1]["changes"]] == [small]


def test_pushes_keep_to_their_limits_and_never_split_a_batch(open_replica: Open, script: Script) -> None:
    replica = open_replica(limits=Limits(push_changes=5))
    sizes = [3, 1, 3, 5, 2, 2, 2]
    for number, size in enumerate(sizes):
        with replica.batch() as batch:
            for n in range(size):
                batch.put("t", f"{number}-{n}", {"n": n})
    replica.sync()
    assert [len(push["changes"]) for push in script.pushes] == [4, 3, 5, 4, 2]
    assert all(push["atomic"] for push in script.pushes)


def test_a_batch_larger_than_a_push_goes_as_one(open_replica: Open, script: Script) -> None:
    replica = open_replica(limits=Limits(push_bytes=200))
    with replica.batch() as batch:
        for n in range(3):
            batch.put("t", f"{n}", {"n": "x" * 100})
    replica.put("t", "alone", {"n": 1})
    replica.sync()
    assert [[c["id"] for c in push["changes"]] for push in script.pushes] == [["0", "1", "2"], ["alone"]]
    assert [push.get("atomic") for push in script.pushes] == [True, None]


def test_single_writes_are_not_made_atomic(replica: Replica, script: Script) -> None:
    replica.put("t", "a", {"n": 1})
    replica.put("t", "b", {"n": 1})
    replica.sync()
    assert "atomic" not in script.pushes[0]


def test_an_atomic_refusal_sets_the_whole_batch_aside_and_only_it(replica: Replica, script: Script) -> None:
    first = replica.put("t", "first", {"n": 1})
    with replica.batch() as batch:
        batch.put("t", "a", {"n": 1}, space="s")
        batch.put("t", "b", {"n": 1})
    last = replica.put("t", "last", {"n": 1})
    script.answers = [problem(422, "atomic_rejected", "/changes/1")]
    report = replica.sync()
    assert sorted(report.rejected) == sorted(batch.change_ids)
    assert [c["changeId"] for c in script.pushes[1]["changes"]] == [first, last]
    assert [change.code for change in replica.rejected()] == ["atomic_rejected", "batch_rejected"]


def test_why_says_what_an_atomic_refusal_was_for(replica: Replica, script: Script) -> None:
    with replica.batch() as batch:
        batch.put("t", "a", {"n": 1}, space="s")
        batch.put("t", "b", {"n": 1})
    refusal = problem(422, "atomic_rejected", "/changes/0").json()
    refusal["errors"][0] |= {"code": "not_a_writer", "detail": "You read."}
    script.answers = [httpx.Response(422, json=refusal)]
    replica.sync()
    why = replica.why("t", "a", space="s")
    assert (why.state, why.code) == ("no_permission", "not_a_writer")
    assert replica.why("t", "b").code == "batch_rejected"


@pytest.mark.parametrize(("status", "code"), [(410, "cursor_lost"), (400, "bad_cursor")])
def test_a_lost_cursor_begins_again_and_keeps_what_is_unsent(
    replica: Replica, script: Script, status: int, code: str
) -> None:
    script.answers = [page(wire("kept", n=(1, EARLY)), wire("gone", n=(1, EARLY)), wire("edited", n=(1, EARLY)))]
    replica.sync()
    replica.put("t", "mine", {"n": 2})
    replica.patch("t", "edited", {"m": 2})
    script.answers = [problem(status, code), page(wire("kept", n=(0, EARLY)), cursor="c9")]
    report = replica.sync()
    assert report.restarted
    assert report.pushed == 2
    assert [url.params["since"] for url in script.pulls] == ["", ""]
    assert script.pushes[-1]["since"] == "c9"
    assert replica.get("t", "kept") == {"n": 0}, "the server's state replaces what was confirmed before"
    assert replica.get("t", "gone") is None
    assert replica.get("t", "edited") == {"m": 2}
    assert replica.get("t", "mine") == {"n": 2}


def test_a_cursor_that_is_lost_again_and_again_is_an_error(replica: Replica, script: Script) -> None:
    script.answers = [problem(410, "cursor_lost"), problem(410, "cursor_lost")]
    with pytest.raises(Refused):
        replica.sync()


def test_a_page_that_cannot_be_read_is_not_applied_in_part(replica: Replica, script: Script) -> None:
    broken = wire("b", n=(1, "yesterday"))
    script.answers = [page(wire("a", n=(1, EARLY)), broken, cursor="c5")]
    with pytest.raises(BadReply):
        replica.sync()
    assert (replica.get("t", "a"), replica.cursor) == (None, "")


def test_results_for_other_changes_are_refused(replica: Replica, script: Script) -> None:
    replica.put("t", "r", {"n": 1})
    script.answers = [lambda body: applied(body) | {"results": []}]
    with pytest.raises(BadReply):
        replica.sync()
    assert len(replica.pending()) == 1


def test_a_page_that_comes_twice_changes_nothing(replica: Replica, script: Script) -> None:
    changes = [wire("a", n=(1, EARLY)), wire("a", client="third", n=(2, LATE))]
    script.answers = [page(*changes), page(*changes)]
    replica.sync()
    once = replica.all_registers()
    replica.sync()
    assert replica.all_registers() == once


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
    change_id = replica.patch("t", "r", {"n": 1})
    sent = replica.pending()[0].change["fields"]["n"]["at"]
    back = wire("r", client=replica.client_id, n=(1, "2026-01-01T00:00:00.000000Z")) | {"changeId": change_id}
    back["fields"]["n"]["sent"] = sent
    script.answers = [page(back, wire("r", n=(2, "2026-01-01T00:00:01.000000Z")))]
    replica.pull()
    assert replica.get("t", "r") == {"n": 2}
    assert replica.pending() == [], "what the server sends back, it has"


def test_an_own_pending_write_wins_a_tie_until_it_is_sent(replica: Replica, script: Script) -> None:
    replica.patch("t", "r", {"n": "mine"})
    at = replica.pending()[0].change["fields"]["n"]["at"]
    twin = wire("r", client=replica.client_id, n=("theirs", at)) | {"changeId": None}
    script.answers = [page(twin)]
    replica.pull()
    assert replica.get("t", "r") == {"n": "mine"}


def test_what_is_confirmed_and_what_is_unsent_are_kept_apart(replica: Replica, script: Script) -> None:
    replica.put("t", "r", {"n": "mine", "m": 1})
    script.answers = [page(wire("r", n=("theirs", EARLY), k=("k", EARLY)))]
    replica.pull()
    assert replica.get("t", "r") == {"n": "mine", "m": 1, "k": "k"}
    script.answers = [problem(400, "invalid_value", "/changes/0")]
    replica.sync()
    replica.drop(replica.rejected()[0].change_id)
    assert replica.get("t", "r") == {"n": "theirs", "k": "k"}


def test_conflicts_are_told_and_kept(open_replica: Open, script: Script) -> None:
    told: list[Any] = []
    replica = open_replica(on_conflict=told.append)
    replica.put("t", "r", {"n": 1}, space="s")
    conflict = {
        "table": "t",
        "id": "r",
        "field": "n",
        "clientValue": 1,
        "clientTimestamp": EARLY,
        "serverValue": 2,
        "serverTimestamp": LATE,
    }
    script.answers = [lambda body: applied(body, conflicts=[conflict])]
    report = replica.sync()
    assert told == replica.conflicts() == report.conflicts
    assert (told[0].space, told[0].server_value) == ("s", 2)
    replica.clear_conflicts()
    assert replica.conflicts() == []


def test_a_space_that_was_left_is_purged_and_its_unsent_writes_kept_aside(replica: Replica, script: Script) -> None:
    script.answers = [page(wire("r", space="s", n=(1, EARLY)), wire("p", n=(1, EARLY)), spaces={"joined": ["s", "z"]})]
    replica.sync()
    assert replica.spaces() == ["s", "z"]
    kept = replica.patch("t", "r", {"n": 2}, space="s")
    script.answers = [page(spaces={"left": ["s"]}, cursor="c2")]
    replica.pull()
    assert replica.spaces() == ["z"]
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


def test_a_refused_change_is_fixed_under_a_new_id(replica: Replica, script: Script) -> None:
    old = replica.put("t", "r", {"n": "bad", "m": 1})
    script.answers = [problem(400, "invalid_value", "/changes/0")]
    replica.sync()
    before = replica.registers("t", "r")
    new = replica.fix(old, {"n": "good"})
    assert new != old
    assert replica.rejected() == []
    assert replica.get("t", "r") == {"n": "good", "m": 1}
    after = replica.registers("t", "r")
    assert after["n"].at > before["n"].at
    assert after["m"].at == before["m"].at
    replica.sync()
    sent = script.pushes[-1]["changes"][0]
    assert (sent["changeId"], sent["op"], sent["fields"]["n"]["value"]) == (new, "insert", "good")


def test_a_refused_batch_is_fixed_or_dropped_whole(replica: Replica, script: Script) -> None:
    with replica.batch() as batch:
        batch.put("t", "a", {"n": 1})
        batch.delete("t", "b")
    script.answers = [problem(422, "atomic_rejected", "/changes/0")]
    replica.sync()
    replica.fix(batch.change_ids[0], {"n": 2})
    assert [change.id for change in replica.pending()] == ["a", "b"]
    script.answers = [problem(422, "atomic_rejected", "/changes/1")]
    replica.sync()
    replica.drop(replica.rejected()[0].change_id)
    assert (replica.rejected(), replica.pending(), replica.all_registers()) == ([], [], {})


def test_only_one_syncs_a_file_at_a_time(open_replica: Open, script: Script) -> None:
    one, other = open_replica(), open_replica()
    seen: list[str] = []

    def answer(body: Any) -> Any:
        with pytest.raises(SyncBusy):
            other.sync(patience=0)
        seen.append("busy")
        return page()

    script.answers = [answer]
    one.sync()
    other.sync(patience=0)
    assert seen == ["busy"]


def test_writes_made_during_a_sync_wait_for_the_next(replica: Replica, script: Script) -> None:
    replica.put("t", "a", {"n": 1})

    def answer(body: Any) -> Any:
        replica.put("t", "b", {"n": 1})
        return applied(body)

    script.answers = [answer]
    replica.sync()
    assert [change.id for change in replica.pending()] == ["b"]


def test_a_push_alone_does_not_pull_and_a_pull_does_not_push(replica: Replica, script: Script) -> None:
    replica.put("t", "a", {"n": 1})
    replica.pull()
    assert [request.method for request in script.asked] == ["GET"]
    script.answers = [lambda body: applied(body, more=True)]
    replica.push()
    assert [request.method for request in script.asked] == ["GET", "POST"]


def test_the_records_of_the_first_generation_are_understood(replica: Replica, script: Script) -> None:
    old = {"table": "t", "id": "r", "op": "insert", "spaceId": "_personal:u", "clientId": "old"}
    script.answers = [page(old | {"data": {"title": "x", "updatedAt": LATE}})]
    replica.sync()
    assert replica.registers("t", "r")["title"].at == 4_070_908_800_000_000


def test_schema_version_actor_and_origin_are_sent(open_replica: Open, script: Script) -> None:
    replica = open_replica(schema_version=3, actor={"model": "m"}, origin="agent")
    replica.put("t", "r", {"n": 1})
    replica.sync()
    (push,) = script.pushes
    change = push["changes"][0]
    assert (push["schemaVersion"], change["schemaVersion"], change["actor"], change["origin"]) == (
        3,
        3,
        {"model": "m"},
        "agent",
    )


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
    ids = [replica.patch("t", "r", {"n": n}) for n in (1, 2)]
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
    replica.patch("t", "r", {"n": "mine"})
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
