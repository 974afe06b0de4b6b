"""One sync, step by step and without a connection: what is asked next, and what an answer or a failure changes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from syncd_client import BadReply, Limits, NotAllowed, Offline, Refused, Replica, RetryPolicy, ServerBusy, Verified
from syncd_client.data.clock import parse_instant
from syncd_client.store.store import get_meta, set_meta
from syncd_client.sync.report import Applied
from syncd_client.sync.session import Session
from syncd_client.sync.steps import Done, Renew, Send, Step, Wait

from tests.support.scripted import applied, page, spread, wire

AT = "2026-01-01T10:00:00.000000Z"
Open = Callable[..., Replica]
ONCE = RetryPolicy(attempts=1)


def body(step: Step) -> Any:
    assert isinstance(step, Send)
    return json.loads(step.body or b"null")


def ids(step: Step) -> list[str]:
    return [change["id"] for change in body(step)["changes"]]


def answer(session: Session, step: Step, status: int = 200, said: Any = None, seconds: float | None = None,
           **headers: str) -> list[Any]:  # fmt: skip
    assert isinstance(step, Send)
    if said is None:
        said = page() if step.body is None else applied(json.loads(step.body))
    raw = said if isinstance(said, bytes) else json.dumps(said).encode()
    return session.receive(step, status, {name.replace("_", "-"): text for name, text in headers.items()}, raw, seconds)


def problem(code: str, *pointers: str) -> dict[str, Any]:
    return {"code": code, "detail": "No.", "errors": [{"pointer": pointer, "detail": "bad"} for pointer in pointers]}


def trouble(replica: Replica) -> Any:
    with replica.store.read() as db:
        said = get_meta(db, "trouble")
    return said and json.loads(said)


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """No chance in how long it waits."""
    monkeypatch.setattr("random.random", lambda: 1.0)


def test_a_pull_asks_from_its_cursor_and_a_push_says_who_it_is(open_replica: Open) -> None:
    replica = open_replica(client_id="me")
    session = replica.session()
    step = session.next()
    assert step == Send("GET", "/sync/app/pull", {"since": "", "limit": "250"}, None, ())
    answer(session, step, said=page(cursor="c1"))
    assert session.next() == Done()
    replica.put("t", "r", {"n": 1})
    session = replica.session()
    step = session.next()
    assert isinstance(step, Send)
    assert (step.method, step.path, step.params) == ("POST", "/sync/app", {})
    assert {name: value for name, value in body(step).items() if name != "changes"} == {"clientId": "me", "since": "c1"}
    assert [packed.change_id for packed in step.pushed] == [change["changeId"] for change in body(step)["changes"]]
    answer(session, step)
    assert session.next() == Done()
    assert (session.report.requests, session.report.pushed) == (1, 1)


def test_a_new_replica_gets_some_tables_first(open_replica: Open) -> None:
    replica = open_replica(limits=Limits(first=("b", "a"), pull_limit=7))
    step = replica.session().next()
    assert isinstance(step, Send)
    assert step.params == {"since": "", "limit": "7", "first": "b,a"}


def test_what_was_acknowledged_is_named_in_what_is_asked_next(open_replica: Open) -> None:
    replica = open_replica(client_id="me")
    replica.put("t", "a", {"n": 1})
    session = replica.session()
    first = session.next()
    (change,) = body(first)["changes"]
    answer(session, first, said=applied(body(first), cursor="c2", more=True))
    step = session.next()
    assert isinstance(step, Send)
    assert step.params == {"since": "c2", "limit": "250", "clientId": "me", "pushed": [change["changeId"]]}
    replica.put("t", "b", {"n": 1})
    later = replica.session("push").next()
    assert body(later)["pushed"] == [change["changeId"]]
    answer(session, step, said=page(cursor="c3"))
    assert session.next() == Done()
    assert "pushed" not in body(replica.session("push").next())


@pytest.mark.parametrize(("scope", "methods"), [("push", ["POST"]), ("pull", ["GET"]), ("both", ["POST"])])
def test_each_kind_of_sync_does_its_part(replica: Replica, scope: Any, methods: list[str]) -> None:
    replica.put("t", "r", {"n": 1})
    session, asked = replica.session(scope), []
    while not isinstance(step := session.next(), Done):
        assert isinstance(step, Send)
        asked.append(step.method)
        answer(session, step)
    assert asked == methods


def test_a_push_alone_leaves_the_rest_of_the_delta(replica: Replica) -> None:
    replica.put("t", "r", {"n": 1})
    session = replica.session("push")
    step = session.next()
    answer(session, step, said=applied(body(step), more=True))
    assert session.next() == Done()
    assert replica.session("push").next() == Done(), "nothing to push"


def test_what_is_written_meanwhile_is_left_to_the_next_sync(replica: Replica) -> None:
    replica.put("t", "a", {"n": 1})
    session = replica.session()
    replica.put("t", "b", {"n": 1})
    step = session.next()
    assert ids(step) == ["a"]
    answer(session, step)
    assert session.next() == Done()


# What an answer says


def test_what_was_done_is_counted(replica: Replica) -> None:
    for name in "abcd":
        replica.put("t", name, {"n": 1})
    session = replica.session()
    step = session.next()
    said = applied(body(step), wire("x", n=(1, AT)), wire("y", n=(1, AT)), more=True)
    for result, status in zip(said["results"], ["applied", "superseded", "duplicate", "rejected"], strict=True):
        result["status"] = status
    said["conflicts"] = [{"table": "t", "id": "b", "field": "n", "spaceId": "s"}]
    said["spaces"] = {"joined": ["s", "_personal:u"], "left": ["z"], "unreadable": ["w", "v"]}
    found = answer(session, step, said=said)
    assert [conflict.id for conflict in found] == ["b"]
    step = session.next()
    answer(session, step, said=page(wire("z", n=(1, AT)), spaces={"unreadable": ["v", "q"], "joined": ["s2"]}))
    report = session.report
    assert (report.pushed, report.superseded, report.duplicates, report.pulled, report.requests) == (3, 1, 1, 3, 2)
    assert (report.joined, report.left, report.unreadable) == (["s", "s2"], ["z"], ["w", "v", "q"])
    assert (report.conflicts, report.restarted, report.verified) == (found, False, None)
    assert report.rejected == [change.change_id for change in replica.rejected()]
    assert len(report.rejected) == 1


def test_who_listens_hears_of_each_answer(replica: Replica) -> None:
    heard: list[Any] = []
    session = replica.session()
    session._publish = lambda page, done: heard.append((page and len(page.changes), done.changed))
    answer(session, session.next(), said=page(wire("x", n=(1, AT))))
    assert heard == [(1, [("t", "", "x")])]


# What goes wrong


@pytest.mark.parametrize(("status", "waits"), [(408, True), (425, True), (429, True), (500, True), (503, True),
(400, False),
                                               (404, False), (507, False)])  # fmt: skip
def test_a_refusal_that_passes_is_waited_for(replica: Replica, status: int, waits: bool, steady: None) -> None:
    replica.retry = RetryPolicy(attempts=3, first=2.0)
    session = replica.session()
    step = session.next()
    if not waits:
        with pytest.raises(Refused) as why:
            answer(session, step, status, problem("odd", "/x"))
        assert (why.value.status, why.value.code, why.value.errors) == (
            status, "odd", [{"pointer": "/x", "detail": "bad"}]
        )  # fmt: skip
        assert trouble(replica) == {"kind": "refused", "code": "odd", "detail": f"No. ({status} odd)"}
        return
    answer(session, step, status, problem("not_now"))
    assert session.next() == Wait(2.0)
    assert session.next().__class__ is Send
    answer(session, step, status, problem("not_now"), retry_after="7")
    assert session.next() == Wait(9.0)
    with pytest.raises(ServerBusy) as busy:
        answer(session, step, status, problem("not_now"), retry_after="7")
    assert (busy.value.code, busy.value.retry_after, busy.value.detail) == ("not_now", 7.0, f"No. ({status} not_now)")
    assert trouble(replica) == {"kind": "busy", "code": "not_now", "detail": f"No. ({status} not_now)"}
    assert session.report.requests == 3


def test_an_answer_that_is_taken_ends_a_row_of_failures(replica: Replica) -> None:
    replica.retry = RetryPolicy(attempts=2, first=0.0)
    session = replica.session()
    for cursor in "abc":
        step = session.next()
        answer(session, step, 503, problem("busy"))
        assert isinstance(session.next(), Wait)
        answer(session, session.next(), said=page(cursor=cursor, more=True))
    assert trouble(replica) is None


def test_no_answer_at_all_is_offline(replica: Replica, steady: None) -> None:
    replica.retry = RetryPolicy(attempts=2, first=2.0)
    session = replica.session()
    step = session.next()
    assert isinstance(step, Send)
    session.failed(step, TimeoutError("a token in the text"))
    assert session.next() == Wait(2.0)
    with pytest.raises(Offline) as why:
        session.failed(step, ConnectionRefusedError())
    assert why.value.detail == "nothing listens at the server's address."
    assert trouble(replica) == {
        "kind": "offline",
        "code": "offline",
        "detail": "nothing listens at the server's address.",
    }


def test_a_garbled_answer_is_asked_for_again_and_one_of_another_form_is_not(replica: Replica) -> None:
    replica.retry = RetryPolicy(attempts=2, first=0.0)
    session = replica.session()
    assert answer(session, session.next(), said=b'{"syncedUnt') == []
    assert session.next() == Wait(0.0)
    with pytest.raises(BadReply):
        answer(session, session.next(), said=b'{"syncedUnt')
    assert trouble(replica)["kind"] == "offline"
    session = replica.session()
    with pytest.raises(BadReply):
        answer(session, session.next(), said={"syncedUntil": 5})
    assert trouble(replica)["kind"] == "refused"


def test_a_token_that_is_refused_is_renewed_once_between_two_answers(replica: Replica) -> None:
    session = replica.session()
    for cursor in "ab":
        answer(session, session.next(), 401, problem("unauthorized"))
        assert session.next() == Renew()
        answer(session, session.next(), said=page(cursor=cursor, more=True))
    answer(session, session.next(), 401, problem("unauthorized"))
    assert session.next() == Renew()
    with pytest.raises(NotAllowed) as why:
        answer(session, session.next(), 401, problem("expired"))
    assert (why.value.code, why.value.detail) == ("expired", "No.")
    assert trouble(replica) == {"kind": "forbidden", "code": "expired", "detail": "No."}


def test_what_is_forbidden_is_not_tried_again(replica: Replica) -> None:
    session = replica.session()
    with pytest.raises(NotAllowed) as why:
        answer(session, session.next(), 403, {"code": "later_code"})
    assert (why.value.code, why.value.detail) == ("later_code", "403")


@pytest.mark.parametrize(
    ("error", "kind"), [(NotAllowed("No.", code="no_token"), "forbidden"), (Offline("Away."), "offline")]
)
def test_without_a_token_it_ends_and_says_why(replica: Replica, error: Any, kind: str) -> None:
    with pytest.raises(type(error)) as why:
        replica.session().no_token(error)
    assert why.value is error
    assert trouble(replica) == {"kind": kind, "code": error.code, "detail": error.detail}


def test_a_sync_has_so_much_time_and_no_more(replica: Replica, monkeypatch: pytest.MonkeyPatch, steady: None) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    replica.retry = RetryPolicy(attempts=9, first=2.0)
    session = replica.session()
    assert session.left is None
    session.limit(5.0)
    assert session.left == 5.0
    step = session.next()
    now[0] = 102.0
    answer(session, step, 503, problem("busy"))
    assert (session.left, session.next()) == (3.0, Wait(2.0))
    with pytest.raises(ServerBusy):
        answer(session, step, 503, problem("busy"), retry_after="1")
    session = replica.session()
    session.limit(5.0)
    now[0] = 106.0
    session.next()
    now[0] = 107.0
    with pytest.raises(Offline) as why:
        session.next()
    assert (why.value.code, why.value.detail) == ("no_answer", "the time for this sync is up.")
    assert trouble(replica)["kind"] == "offline"
    session.limit(None)
    assert session.left is None
    assert isinstance(session.next(), Send)


# How much goes at once


def test_what_did_not_go_through_whole_is_asked_for_or_sent_in_smaller_parts(replica: Replica) -> None:
    replica.retry = RetryPolicy(attempts=9, first=0.0)
    session = replica.session("pull")
    step = session.next()
    sizes = [step.params["limit"]] if isinstance(step, Send) else []
    failures: list[Callable[[Send], Any]] = [
        lambda step: session.failed(step, EOFError()), lambda step: answer(session, step, 408, problem("too_slow")),
        lambda step: answer(session, step, said=b"{"), lambda step: answer(session, step, 503, problem("busy")),
    ]  # fmt: skip
    for fail in failures:
        assert isinstance(step, Send)
        fail(step)
        assert isinstance(session.next(), Wait)
        step = session.next()
        assert isinstance(step, Send)
        sizes.append(step.params["limit"])
    assert sizes == ["250", "125", "62", "31", "31"]
    assert replica.paces.push.size == 64 * 1024
    replica.put("t", "r", {"n": 1})
    session = replica.session("push")
    step = session.next()
    assert isinstance(step, Send)
    session.failed(step, EOFError())
    assert (replica.paces.push.size, replica.paces.pull.size) == (32 * 1024, 31)


def test_what_goes_quickly_grows_and_only_where_it_was_measured(replica: Replica) -> None:
    session = replica.session("pull")
    changes = [wire(f"r{n}", n=(1, AT)) for n in range(250)]
    answer(session, session.next(), said=page(*changes, more=True))
    assert replica.paces.pull.size == 250
    answer(session, session.next(), said=page(*changes, more=True), seconds=1.0)
    assert (replica.paces.pull.size, replica.paces.push.size) == (1000, 64 * 1024)
    answer(session, session.next(), said=page(*changes), seconds=20.0)
    assert replica.paces.pull.size == 500
    replica.put("t", "r", {"n": "x" * 64 * 1024})
    session = replica.session("push")
    answer(session, session.next(), seconds=1.0)
    assert (replica.paces.push.size, replica.paces.pull.size) == (256 * 1024, 500)


def test_a_push_is_no_larger_than_the_line_carries(open_replica: Open) -> None:
    replica = open_replica()
    for name in "abcd":
        replica.put("t", name, {"n": "x" * 30_000})
    session = replica.session("push")
    assert ids(session.next()) == ["a", "b"]


def test_the_limits_are_kept_to_from_the_beginning(open_replica: Open) -> None:
    paces = open_replica(limits=Limits(pull_limit=3, push_bytes=100)).paces
    assert (paces.pull.size, paces.push.size, paces.socket.size) == (3, 100, 100)
    standard = open_replica("other").paces
    assert (standard.pull.size, standard.push.size, standard.socket.size) == (250, 64 * 1024, 32 * 1024)
    for _ in range(9):
        standard.pull.took(standard.pull.size, 0.001)
        standard.push.took(standard.push.size, 0.001)
        standard.socket.took(standard.socket.size, 0.001)
    assert (standard.pull.size, standard.push.size, standard.socket.size) == (1000, 1024 * 1024, 256 * 1024)


# A push that is refused whole


def test_of_a_refused_push_those_at_fault_are_set_aside_and_places_that_are_none_are_passed_over(
    replica: Replica,
) -> None:
    heard: list[Any] = []
    for name in "abc":
        replica.put("t", name, {"n": 1})
    session = replica.session()
    session._publish = lambda page, done: heard.append((page, done.rejected))
    step = session.next()
    answer(session, step, 422, problem("invalid_value", "/changes/1/fields/n", "/changes/3", "/changes/99"))
    (kept,) = replica.rejected()
    assert (kept.id, kept.code, kept.detail) == ("b", "invalid_value", "bad (/changes/1/fields/n)")
    assert session.report.rejected == [kept.change_id]
    assert heard == [(None, [kept.change_id])]
    assert ids(session.next()) == ["a", "c"]


@pytest.mark.parametrize(
    ("status", "ends"), [(400, False), (413, False), (422, False), (404, True), (409, True), (410, True)]
)
def test_whom_a_refusal_blames_counts_where_it_is_one_of_changes(replica: Replica, status: int, ends: bool) -> None:
    replica.put("t", "a", {"n": 1})
    replica.put("t", "b", {"n": 1})
    session = replica.session()
    step = session.next()
    if ends:
        with pytest.raises(Refused):
            answer(session, step, status, problem("odd", "/changes/0"))
        assert len(replica.pending()) == 2
    else:
        answer(session, step, status, problem("odd", "/changes/0"))
        assert ids(session.next()) == ["b"]


@pytest.mark.parametrize("status", [413, 422])
def test_a_push_that_is_too_much_is_halved_down_to_one_batch_which_is_set_aside(replica: Replica, status: int) -> None:
    for name in "abcde":
        replica.put("t", name, {"n": 1})
    session, sizes = replica.session(), []
    while not isinstance(step := session.next(), Done):
        sizes.append(ids(step))
        if "a" in sizes[-1]:
            answer(session, step, status, problem("push_too_large"))
        else:
            answer(session, step)
    assert sizes == [list("abcde"), ["a", "b"], ["a"], ["b"], ["c"], ["d"], ["e"]]
    (kept,) = replica.rejected()
    assert (kept.id, kept.code, kept.detail) == ("a", "push_too_large", "No.")


def test_a_batch_that_is_too_much_alone_is_set_aside_whole(replica: Replica) -> None:
    with replica.batch() as batch:
        batch.put("t", "a", {"n": 1})
        batch.put("t", "b", {"n": 1})
    session = replica.session()
    answer(session, session.next(), 413, problem("body_too_large"))
    assert {(kept.id, kept.code) for kept in replica.rejected()} == {("a", "body_too_large"), ("b", "body_too_large")}
    assert sorted(session.report.rejected) == sorted(batch.change_ids)


def test_a_refusal_that_blames_nobody_ends_it(replica: Replica) -> None:
    replica.put("t", "a", {"n": 1})
    session = replica.session()
    with pytest.raises(Refused) as why:
        answer(session, session.next(), 400, problem("invalid_request"))
    assert (why.value.code, why.value.status) == ("invalid_request", 400)


# Beginning anew, and copies


def test_where_the_cursor_is_lost_it_begins_anew_once(replica: Replica) -> None:
    session = replica.session("pull")
    answer(session, session.next(), said=page(wire("a", n=(1, AT)), wire("b", n=(1, AT)), cursor="c5"))
    replica.put("t", "mine", {"n": 1})
    session = replica.session()
    answer(session, session.next(), 410, problem("cursor_lost"))
    step = session.next()
    assert isinstance(step, Send)
    assert (step.method, step.params["since"]) == ("GET", ""), "nothing is pushed before everything is here"
    answer(session, step, said=page(wire("a", n=(1, AT)), cursor="c6", more=True))
    assert replica.get("t", "b") is not None
    step = session.next()
    assert isinstance(step, Send)
    assert (step.method, step.params["since"]) == ("GET", "c6")
    answer(session, step, said=page(cursor="c7"))
    assert (replica.get("t", "a"), replica.get("t", "b")) == ({"n": 1}, None)
    step = session.next()
    assert (ids(step), body(step)["since"]) == (["mine"], "c7")
    assert session.report.restarted is True
    with pytest.raises(Refused):
        answer(session, step, 410, problem("cursor_lost"))


def test_a_restart_that_was_cut_goes_on_in_the_next_sync(replica: Replica) -> None:
    replica.put("t", "mine", {"n": 1})
    session = replica.session()
    answer(session, session.next(), 410, problem("cursor_lost"))
    answer(session, session.next(), said=page(cursor="c6", more=True))
    step = replica.session("push").next()
    assert isinstance(step, Send)
    assert (step.method, step.params["since"]) == ("GET", "c6")


def test_a_copy_takes_another_name_some_times_and_then_gives_up(open_replica: Open) -> None:
    replica = open_replica()
    replica.put("t", "a", {"n": 1})
    session, seen = replica.session(), []
    for _ in range(3):
        step = session.next()
        seen.append((body(step)["clientId"], len(body(step)["incarnations"])))
        answer(session, step, 409, problem("device_copied"))
    step = session.next()
    seen.append((body(step)["clientId"], len(body(step)["incarnations"])))
    assert len({name for name, _ in seen}) == 4
    assert session.client == replica.client_id == seen[-1][0]
    with pytest.raises(Refused) as why:
        answer(session, step, 409, problem("device_copied"))
    assert why.value.code == "device_copied"


def test_a_pull_is_no_copy_s(replica: Replica) -> None:
    session = replica.session("pull")
    with pytest.raises(Refused):
        answer(session, session.next(), 409, problem("device_copied"))


# Whether it is right


def test_a_comparison_is_asked_for_at_its_address(replica: Replica) -> None:
    session = replica.session("verify")
    answer(session, session.next(), said=page(cursor="c1"))
    step = session.next()
    assert step == Send("GET", "/sync/app/digest", {"since": "c1"}, None, ())
    answer(session, step, 409, problem("digest_behind"))
    step = session.next()
    assert isinstance(step, Send)
    assert step.path == "/sync/app/pull"
    answer(session, step, said=page(cursor="c2"))
    step = session.next()
    assert isinstance(step, Send)
    assert step.params == {"since": "c2"}
    heard: list[Applied] = []
    session._publish = lambda page, done: heard.append(done)
    answer(session, step, said={"spaces": [], "behind": [], "unready": []})
    assert session.next() == Done()
    assert session.report.verified == Verified()
    assert heard == [Applied(verified=Verified())]


def test_where_somebody_wrote_it_pulls_from_its_cursor_until_that_is_answered(replica: Replica) -> None:
    replica.retry = RetryPolicy(attempts=9, first=0.0)
    session = replica.session("verify")
    answer(session, session.next(), said=page(cursor="c1"))
    answer(session, session.next(), 409, problem("digest_behind"))
    for _ in range(2):
        step = session.next()
        assert isinstance(step, Send)
        assert (step.path, step.params["since"]) == ("/sync/app/pull", "c1")
        answer(session, step, 503, problem("busy"))
        assert isinstance(session.next(), Wait)


def test_where_too_much_differs_everything_is_fetched_and_compared_again(replica: Replica) -> None:
    session = replica.session("verify")
    answer(session, session.next(), said=page(*(wire(name, n=(1, AT)) for name in spread(64)), cursor="c1"))
    told = {"spaceId": "_personal:u", "records": 0, "digest": "0" * 16, "buckets": []}
    compared = {"spaces": [told], "behind": [], "unready": []}
    answer(session, session.next(), said=compared)
    answer(session, session.next(), said=compared)
    step = session.next()
    assert isinstance(step, Send)
    assert (step.path, step.params["since"]) == ("/sync/app/pull", "")
    answer(session, step, said=page(cursor="c2"))
    assert replica.query("t") == []
    answer(session, session.next(), said=compared)
    assert session.next() == Done()
    assert session.report.verified == Verified(1, 0, 64, 64, restarted=True)
    assert session.report.restarted is True


def test_who_asked_for_a_comparison_is_told_that_it_cannot_be_read(replica: Replica) -> None:
    session = replica.session("verify")
    answer(session, session.next(), said=page(cursor="c1"))
    with pytest.raises(BadReply) as why:
        answer(session, session.next(), said={"spaces": 5})
    assert trouble(replica) == {"kind": "refused", "code": "bad_reply", "detail": why.value.detail}


def test_each_sync_pushes_as_an_incarnation_of_its_own(replica: Replica) -> None:
    named = []
    for record in "ab":
        replica.put("t", record, {"n": 1})
        session = replica.session("push")
        step = session.next()
        named.append(body(step)["incarnations"])
        answer(session, step)
    first, second = named
    assert second[:-1] == first[-1:]
    assert second[-1] != first[-1]


def test_to_fetch_everything_is_a_restart_and_a_comparison(replica: Replica) -> None:
    session = replica.session("pull")
    answer(session, session.next(), said=page(cursor="c1"))
    session = replica.session("renew")
    step = session.next()
    assert isinstance(step, Send)
    assert step.params["since"] == ""
    answer(session, step, said=page(cursor="c2"))
    answer(session, session.next(), said={"spaces": [], "behind": [], "unready": []})
    assert session.next() == Done()
    assert session.report.verified == Verified(restarted=True)
    assert session.report.restarted is True


HOUR = 3_600_000_000


def verified(replica: Replica) -> int | None:
    with replica.store.read() as db:
        found: int | None = get_meta(db, "verified")
    return found


@pytest.mark.parametrize(
    ("status", "said"), [(404, problem("not_found")), (503, problem("busy")), (200, {"spaces": 5})]
)
@pytest.mark.parametrize(("every", "early"), [(3600.0, HOUR - 600_000_000), (60.0, 0)])
def test_one_that_nobody_asked_for_fails_quietly_and_is_made_again_soon(
    open_replica: Open, status: int, said: Any, every: float, early: int
) -> None:
    now = parse_instant(AT)
    replica = open_replica(wall=lambda: now, verify_every=every)
    with replica.store.write() as db:
        set_meta(db, "verified", now - HOUR)
    session = replica.session()
    answer(session, session.next(), said=page(cursor="c1"))
    step = session.next()
    assert isinstance(step, Send)
    assert step.path == "/sync/app/digest"
    answer(session, step, status, said)
    assert session.next() == Done()
    assert (session.report.verified, verified(replica)) == (None, now - early)
    with replica.store.write() as db:
        set_meta(db, "verified", now - HOUR)
    session = replica.session()
    answer(session, session.next(), said=page(cursor="c1"))
    step = session.next()
    assert isinstance(step, Send)
    session.failed(step, EOFError())
    assert session.next() == Done()
    assert verified(replica) == now - early


def test_one_is_made_where_there_was_nothing_else_to_do(open_replica: Open) -> None:
    now = parse_instant(AT)
    replica = open_replica(wall=lambda: now, verify_every=3600.0)
    with replica.store.write() as db:
        set_meta(db, "verified", now - HOUR)
    session = replica.session()
    answer(session, session.next(), said=page(wire("a", n=(1, AT)), cursor="c1"))
    assert session.next() == Done(), "something came"
    replica.put("t", "mine", {"n": 1})
    session = replica.session()
    answer(session, session.next())
    assert session.next() == Done(), "something was sent"
    assert replica.session("push").next() == Done()
    session = replica.session()
    answer(session, session.next(), said=page(cursor="c1"))
    answer(session, session.next(), said={"spaces": [], "behind": [], "unready": []})
    assert session.next() == Done()
    assert verified(replica) == now
    session = replica.session()
    answer(session, session.next(), said=page(cursor="c1"))
    assert session.next() == Done(), "it was just made"


@pytest.mark.parametrize(("limits", "sizes"), [
    (Limits(), (65_536, 32_768, 250)), (Limits(push_bytes=40_000, pull_limit=100), (40_000, 32_768, 100)),
    (Limits(push_bytes=1000, pull_limit=1), (1000, 1000, 1)),
])  # fmt: skip
def test_requests_begin_small_and_within_their_limits(limits: Limits, sizes: tuple[int, ...]) -> None:
    paces = limits.paces()
    assert (paces.push.size, paces.socket.size, paces.pull.size) == sizes
    for pace in (paces.push, paces.socket, paces.pull):
        for _ in range(10):
            pace.took(pace.size, 0.001)
    assert paces.push.size == limits.push_bytes
    assert paces.socket.size == min(limits.push_bytes, 256 * 1024)
    assert paces.pull.size == limits.pull_limit
