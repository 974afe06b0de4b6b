"""One sync, step by step and without a connection: what a failure or a refusal changes."""

from __future__ import annotations

import time
from typing import Any

import pytest
from syncd_client import BadReply, NotAllowed, Offline, Refused, Replica, RetryPolicy, ServerBusy
from syncd_client.sync.steps import Done, Renew, Send, Wait

from tests.support.scripted import page, wire
from tests.support.sync_session import AT, Open, answer, body, ids, problem, trouble


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """No chance in how long it waits."""
    monkeypatch.setattr("random.random", lambda: 1.0)


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
