"""What a replica asks of the server, and what it does with what comes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from syncd_client import (
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
    script.answers = [httpx2.ReadError("cut"), httpx2.Response(200, content=b'{"serverCh'), httpx2.Response(502)]
    with pytest.raises(ServerBusy):
        replica.sync()
    assert replica.why("t", "r").state == "busy"
    replica.sync()
    assert len({json.dumps(push) for push in script.pushes}) == 1
    assert len(script.pushes) == 4


def test_offline_keeps_the_writes_and_says_so(replica: Replica, script: Script) -> None:
    replica.put("t", "r", {"n": 1})
    script.answers = [httpx2.ConnectError("no route")] * 3
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


def test_a_page_that_comes_twice_changes_nothing(replica: Replica, script: Script) -> None:
    changes = [wire("a", n=(1, EARLY)), wire("a", client="third", n=(2, LATE))]
    script.answers = [page(*changes), page(*changes)]
    replica.sync()
    once = replica.all_registers()
    replica.sync()
    assert replica.all_registers() == once


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
