"""One sync, step by step and without a connection: comparing with the server, and fetching everything."""

from __future__ import annotations

from typing import Any

import pytest
from syncd_client import BadReply, Replica, RetryPolicy, Verified
from syncd_client.data.clock import parse_instant
from syncd_client.store.store import get_meta, set_meta
from syncd_client.sync.report import Applied
from syncd_client.sync.steps import Done, Send, Wait

from tests.support.scripted import page, spread, wire
from tests.support.sync_session import AT, Open, answer, problem, trouble

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
