"""What a refusal does to a replica, and what becomes of a change that was refused."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from syncd_client import (
    BadReply,
    Limits,
    Refused,
    Replica,
)

from tests.support.scripted import Script, applied, page, problem, wire

EARLY, LATE = "2001-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"


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


def test_the_field_that_is_at_fault_is_kept_with_the_reason(replica: Replica, script: Script) -> None:
    replica.put("visits", "v1", {"reason": ""})
    replica.put("visits", "v2", {"reason": "Cough"})

    def answer(body: Any) -> Any:
        refused = {"status": "rejected", "code": "rule_refused", "detail": "A visit needs a reason."}
        return {**applied(body), "results": [{**refused, "field": "reason"}, {**refused, "field": 7}]}

    script.answers = [answer]
    replica.sync()
    assert [(one.id, one.field) for one in replica.rejected()] == [("v1", "reason"), ("v2", None)]


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
    replica.limits = Limits(change_bytes=4_000_000)  # more than the server takes
    large, small = replica.put("t", "large", {"n": "x" * 2_000_000}), replica.put("t", "small", {"n": 1})
    script.answers = [problem(413, "body_too_large")]
    assert replica.sync().rejected == [large]
    assert [c["changeId"] for c in script.pushes[-1]["changes"]] == [small]


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
    script.answers = [httpx2.Response(422, json=refusal)]
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
        batch.delete("t", "b", upsert=True)
    script.answers = [problem(422, "atomic_rejected", "/changes/0")]
    replica.sync()
    replica.fix(batch.change_ids[0], {"n": 2})
    assert [change.id for change in replica.pending()] == ["a", "b"]
    script.answers = [problem(422, "atomic_rejected", "/changes/1")]
    replica.sync()
    replica.drop(replica.rejected()[0].change_id)
    assert (replica.rejected(), replica.pending(), replica.all_registers()) == ([], [], {})
