"""One sync, step by step and without a connection: what is asked next, and how much at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from syncd_client import Limits, Replica, RetryPolicy
from syncd_client.sync.steps import Done, Send, Wait

from tests.support.scripted import applied, page, wire
from tests.support.sync_session import AT, Open, answer, body, ids, problem


def test_a_pull_asks_from_its_cursor_and_a_push_says_who_it_is(open_replica: Open) -> None:
    replica = open_replica(client_id="me")
    session = replica.session()
    step = session.next()
    assert step == Send(
        "GET", "/sync/app/pull", {"since": "", "limit": "250", "words": "1", "roles": "", "until": ""}, None, ()
    )
    answer(session, step, said=page(cursor="c1"))
    assert session.next() == Done()
    replica.put("t", "r", {"n": 1})
    session = replica.session()
    step = session.next()
    assert isinstance(step, Send)
    assert (step.method, step.path, step.params) == ("POST", "/sync/app", {})
    head = {name: value for name, value in body(step).items() if name != "changes"}
    assert head == {"clientId": "me", "since": "c1", "bases": True, "roles": ""}
    assert [packed.change_id for packed in step.pushed] == [change["changeId"] for change in body(step)["changes"]]
    answer(session, step)
    assert session.next() == Done()
    assert (session.report.requests, session.report.pushed) == (1, 1)


def test_a_new_replica_gets_some_tables_first(open_replica: Open) -> None:
    replica = open_replica(limits=Limits(first=("b", "a"), pull_limit=7))
    step = replica.session().next()
    assert isinstance(step, Send)
    assert step.params == {"since": "", "limit": "7", "words": "1", "roles": "", "until": "", "first": "b,a"}


def test_what_was_acknowledged_is_named_in_what_is_asked_next(open_replica: Open) -> None:
    replica = open_replica(client_id="me")
    replica.put("t", "a", {"n": 1})
    session = replica.session()
    first = session.next()
    (change,) = body(first)["changes"]
    answer(session, first, said=applied(body(first), cursor="c2", more=True))
    step = session.next()
    assert isinstance(step, Send)
    assert isinstance(step.params, dict)
    assert step.params.items() >= {"since": "c2", "clientId": "me", "pushed": [change["changeId"]]}.items()
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
