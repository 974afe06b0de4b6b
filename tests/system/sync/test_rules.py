"""Rules of the application: what they refuse is told with its field, the rest goes through, nobody waits for them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.support.harness import Server
from tests.support.holding import reasons
from tests.support.socket_device import socket_of
from tests.support.wire import Device, Json, edit, unique, values

Make = Callable[..., Device]


@pytest.fixture(scope="module")
def served(workspace: Path) -> Iterator[Server]:
    with Server(workspace / "ruled", settings={"rules": "tests.support.clinic_rules"}) as server:
        yield server


@pytest.fixture
def ruled(served: Server) -> Iterator[Make]:
    with httpx.Client(base_url=served.url, timeout=30) as http:

        def make(user: str = "", client: str = "c1", **more: Any) -> Device:
            return Device(http, served, user or unique("ann"), client, app=more.pop("app", "clinic"), **more)

        yield make


def visit(record: str, **fields: Any) -> Json:
    return edit(record, **fields) | {"table": "visits"}


def bed(record: str, number: int, when: int = 1, **more: Any) -> Json:
    return edit(record, when, number=number, **more) | {"table": "beds"}


def test_a_refusal_names_its_field_and_the_rest_goes_through(ruled: Make) -> None:
    ann = ruled()
    fine, wrong, other = ann.push(visit("v1", reason="Cough"), visit("v2", reason=""), edit("n1", title="x"))["results"]
    assert (fine["status"], other["status"]) == ("applied", "applied")
    assert (wrong["status"], wrong["code"], wrong["field"]) == ("rejected", "rule_refused", "reason")
    assert wrong["detail"] == "A visit needs a reason."
    assert set(values(ann.drain()[0])) == {"v1", "n1"}


def test_what_a_rule_derives_is_written_above_what_the_device_wrote_and_comes_back_to_it(ruled: Make) -> None:
    ann = ruled()
    ann.write(visit("v1", reason=" Cough ", summary="mine", by="somebody"))
    [change], _ = ann.drain()
    fields = change["fields"]
    assert {name: fields[name]["value"] for name in fields if name != "deletedAt"} == {
        "reason": " Cough ", "summary": "cough", "by": ann.user,
    }  # fmt: skip
    assert fields["summary"]["at"] > fields["reason"]["at"]
    assert values(ruled(ann.user, "c2").drain()[0])["v1"]["summary"] == "cough"


def test_the_device_that_pushed_is_told_what_a_rule_wrote_in_the_answer(ruled: Make) -> None:
    ann = ruled()
    ann.write(visit("v0", reason="x"))
    _, cursor = ann.drain()
    answer = ann.push(visit("v1", reason=" Cough "), pull=True, since=cursor)
    [told] = answer["serverChanges"]
    assert (told["id"], told["clientId"], told["seq"]) == ("v1", "c1", answer["results"][0]["seq"])
    assert {name: register["value"] for name, register in told["fields"].items()} == {
        "summary": "cough",
        "by": ann.user,
    }
    assert ann.pull(answer["syncedUntil"])["serverChanges"] == []


def test_a_rule_sees_the_record_as_it_stands(ruled: Make) -> None:
    ann = ruled()
    ann.write(visit("v1", closed=True))
    [result] = ann.push(visit("v1", when=2, reason="again"))["results"]
    assert (result["code"], result["detail"], "field" in result) == (
        "rule_refused", f"{ann.user}, this visit is closed.", False,
    )  # fmt: skip


def test_a_second_change_of_a_push_is_asked_about_as_the_first_one_leaves_its_record(ruled: Make) -> None:
    ann = ruled()
    closed, late, other = ann.push(
        visit("v1", closed=True), visit("v1", when=2, reason="again"), visit("v2", reason="x")
    )["results"]
    assert (closed["status"], late["code"], other["status"]) == ("applied", "rule_refused", "applied")
    refused, lower = ann.push(bed("b1", 5), bed("b1", 3, when=2))["results"]
    assert (refused["status"], lower["code"]) == ("applied", "rule_refused")


def test_a_repeat_of_what_was_written_is_no_new_question(ruled: Make) -> None:
    ann = ruled()
    first = bed("b1", 1)
    ann.write(first)
    ann.write(bed("b1", 5, when=2))
    [again] = ann.push(first)["results"]
    assert again["status"] == "duplicate"
    [lower] = ann.push(bed("b1", 2, when=3))["results"]
    assert (lower["code"], lower["field"]) == ("rule_refused", "number")


def test_a_repeat_is_one_whatever_the_rule_would_write_beside_it_now(ruled: Make) -> None:
    ann = ruled()
    first = visit("v1", reason="first")
    written = ann.push(first)["results"][0]
    again = ann.push(first)["results"][0]
    assert (again["status"], again["seq"], again["eventId"]) == ("duplicate", written["seq"], written["eventId"])
    [other] = ann.push(first | {"fields": visit("v1", reason="other")["fields"]})["results"]
    assert other["code"] == "change_id_reused"


def test_an_insert_of_what_is_there_is_an_update_and_of_what_is_deleted_says_what_it_brings_back(ruled: Make) -> None:
    ann = ruled()
    ann.write(visit("v1", closed=True), visit("v2", reason="x"))
    [there] = ann.push(visit("v1", when=2, reason="again") | {"op": "insert"})["results"]
    assert there["detail"] == f"{ann.user}, this visit is closed."
    gone = {"table": "visits", "id": "v2", "op": "delete", "deletedAt": "2026-02-01T00:00:00Z"}
    ann.write(gone | {"changeId": unique("c")})
    [back] = ann.push(visit("v2", when="2026-02-02T00:00:00Z", other=1) | {"op": "insert"})["results"]
    assert back["detail"] == "What was deleted stays so: ['by', 'reason', 'summary']."


def test_what_a_change_will_be_is_decided_by_what_it_writes_and_not_by_what_it_is_called(ruled: Make) -> None:
    ann = ruled()
    ann.write(visit("v1", reason="x"), bed("b1", 3))
    alive, gone = ({"value": value, "at": "2026-02-03T00:00:00Z"} for value in (None, "2026-02-03T00:00:00.000000Z"))
    kept = {"table": "beds", "id": "b1", "op": "update", "changeId": unique("c"), "fields": {"deletedAt": gone}}
    lower = {
        **kept,
        "op": "delete",
        "changeId": unique("c"),
        "fields": {"deletedAt": alive, "number": {**alive, "value": 1}},
    }
    refused, also = ann.push(kept, lower)["results"]
    assert (refused.get("detail"), also.get("detail")) == ("Beds stay.", "A number only grows.")
    ann.write(
        {"table": "visits", "id": "v1", "op": "delete", "deletedAt": "2026-02-01T00:00:00Z", "changeId": unique("c")}
    )
    back = {"table": "visits", "id": "v1", "op": "update", "changeId": unique("c"), "fields": {"deletedAt": alive}}
    [result] = ann.push(back)["results"]
    assert result.get("detail") == "What was deleted stays so: ['by', 'reason', 'summary']."


def test_a_record_that_moved_is_judged_where_it_is_by_now(ruled: Make) -> None:
    old, owner = ruled(legacy=True), ruled()
    space = owner.create(unique("space"))
    owner.member(space, old.user)
    insert = {
        "table": "visits",
        "id": "v1",
        "op": "insert",
        "data": {"reason": "x", "updatedAt": "2026-01-01T00:00:00Z"},
    }
    old.push(insert)
    moved = {"table": "visits", "id": "v1", "op": "update", "spaceId": space,
             "fields": {"note": {"value": 1, "updatedAt": "2026-01-02T00:00:00Z"}}}  # fmt: skip
    old.push(moved)
    owner.write(visit("v1", when="2026-01-03T00:00:00Z", closed=True) | {"spaceId": space})
    late = {"table": "visits", "id": "v1", "op": "update",
            "fields": {"reason": {"value": "forged", "updatedAt": "2026-01-04T00:00:00Z"}}}  # fmt: skip
    old.push(late)
    record = values(owner.drain()[0])["v1"]
    assert (record["closed"], record["reason"]) == (True, "x")
    assert reasons(old) == ["rule_refused"]


def test_what_a_record_brings_along_is_judged_in_the_space_that_it_moves_to(ruled: Make) -> None:
    old, owner = ruled(legacy=True, app="ward"), ruled(app="ward")
    space = owner.create(unique("space"))
    owner.member(space, old.user)
    insert = {"table": "beds", "id": "b1", "op": "insert", "data": {"secret": 1, "updatedAt": "2026-01-01T00:00:00Z"}}
    old.push(insert)
    moved = {"table": "beds", "id": "b1", "op": "update", "spaceId": space,
             "fields": {"note": {"value": 1, "updatedAt": "2026-01-02T00:00:00Z"}}}  # fmt: skip
    old.push(moved)
    assert values(owner.drain()[0]) == {}
    assert reasons(old) == ["rule_refused"]


async def test_over_a_socket_too_the_device_has_what_a_rule_wrote(served: Server, ruled: Make) -> None:
    ann = ruled()
    ann.write(visit("v0", reason="x"))
    async with socket_of(served, ann.user, "c1", protocol=1) as socket:
        await socket.subscribe("clinic")
        assert (await socket.push(visit("v1", reason=" Cough "), app="clinic"))["results"][0]["status"] == "applied"
        brought = await socket.brings("v1", "clinic")
    assert brought["fields"]["summary"]["value"] == "cough"


def test_deletions_are_asked_about_and_get_nothing_written_beside(ruled: Make) -> None:
    ann = ruled()
    ann.write(bed("b1", 1), visit("v1", reason="x"))
    gone = {"op": "delete", "deletedAt": "2026-02-01T00:00:00Z"}
    kept, left = ann.push(
        {"table": "beds", "id": "b1", "changeId": unique("c"), **gone},
        {"table": "visits", "id": "v1", "changeId": unique("c"), **gone},
    )["results"]
    assert (kept["code"], left["status"]) == ("rule_refused", "applied")


def test_row_security_comes_first_and_nothing_is_told_of_what_may_not_be_seen(ruled: Make) -> None:
    owner, reader, stranger = ruled(), ruled(), ruled()
    space = owner.create(unique("space"))
    owner.member(space, reader.user, "reader")
    owner.write(visit("v1", closed=True) | {"spaceId": space})
    mine = visit("v1", reason="") | {"spaceId": space}
    assert reader.push(mine)["results"][0]["code"] == "not_a_writer"
    assert stranger.push(mine)["results"][0]["code"] == "space_not_found"


def test_a_rule_knows_the_role_in_the_change_s_space_and_when_it_was_written(ruled: Make) -> None:
    owner, writer = ruled(), ruled()
    space = owner.create(unique("space"))
    owner.member(space, writer.user, "writer")
    there = {"table": "plans", "spaceId": space}
    approved = edit("p", when=10, state="approved") | there
    [mine, shared] = writer.push(edit("p", when=10, state="approved") | {"table": "plans"}, approved)["results"]
    assert (mine["status"], shared["code"]) == ("applied", "rule_refused")
    assert (shared["field"], shared["detail"]) == ("state", "An owner approves a plan, not a writer.")
    owner.write(edit("p", when=11, state="approved", closed_at="2026-01-01T00:00:00.000020+00:00") | there)
    # One in a train wrote before it was closed, and another one after.
    early, late = writer.push(edit("p", when=19, note="a") | there, edit("p", when=20, note="b") | there)["results"]
    assert (early["status"], late["detail"]) == ("applied", "This plan is closed.")
    told = values(owner.drain()[0])["p"]
    assert (told["role"], told["written"]) == ("writer", "2026-01-01T00:00:00.000019+00:00")


async def test_what_is_refused_makes_no_name(ruled: Make, served: Server) -> None:
    new = ruled(unique("new"), unique("device"))
    assert new.push(visit("v1", reason=""))["results"][0]["code"] == "rule_refused"
    owner = await asyncpg.connect(served.owner_dsn)
    names = "SELECT array_agg(name) FROM syncd.sync_names WHERE name = ANY ($1)"
    assert await owner.fetchval(names, [new.user, new.client]) is None
    await owner.close()


def test_an_atomic_push_is_refused_as_a_whole(ruled: Make) -> None:
    ann = ruled()
    answer = ann.send(visit("v1", reason="x"), visit("v2", reason=""), atomic=True)
    assert (answer.status_code, answer.json()["code"]) == (422, "atomic_rejected")
    assert answer.json()["errors"] == [
        {"pointer": "/changes/1", "detail": "A visit needs a reason.", "code": "rule_refused"}
    ]
    assert ann.drain()[0] == []


@pytest.mark.parametrize("how", ["raises", "lies", "invents"])
def test_a_rule_that_fails_takes_its_change_alone(ruled: Make, how: str) -> None:
    ann = ruled()
    failed, fine = ann.push(edit("x", how=how) | {"table": "broken"}, edit("y", a=1))["results"]
    assert (failed["code"], fine["status"]) == ("rule_failed", "applied")
    assert "secret" not in str(failed)


def test_a_rule_that_does_not_end_holds_up_neither_its_push_nor_others(ruled: Make) -> None:
    ann, ben = ruled(), ruled()
    began = time.monotonic()
    stuck, behind = ann.push(edit("x", how="loops") | {"table": "broken"}, visit("v1", reason="x"))["results"]
    assert time.monotonic() - began < 15
    # What was behind it has done nothing, and may come again in a push of fewer.
    assert (stuck["code"], behind["code"]) == ("rule_failed", "push_too_large")
    ben.write(visit("v1", reason="x"))
    ann.write(visit("v1", reason="x"))


def test_a_rule_for_all_tables_of_an_app(ruled: Make) -> None:
    ann = ruled(app="ward")
    taken, refused = ann.push(edit("a", x=1), edit("b", x=1) | {"table": "other", "origin": "import"})["results"]
    assert (taken["status"], refused["field"]) == ("applied", "origin")


def test_a_device_of_the_first_generation_has_what_is_refused_held(ruled: Make) -> None:
    old = ruled(legacy=True)
    change = {
        "table": "visits",
        "id": "v1",
        "op": "insert",
        "data": {"reason": "", "updatedAt": "2026-01-01T00:00:00Z"},
    }
    old.push(change)
    assert reasons(old) == ["rule_refused"]
    assert values(ruled(old.user, "c2").drain()[0]) == {}


ENDLESS = """
import asyncio, time
from syncd.service.rule_threads import RuleThreads

async def main():
    try:
        async with asyncio.timeout(0.05):
            await RuleThreads(1, 1)(lambda: [time.sleep(1) for _ in iter(int, 1)])
    except TimeoutError:
        print("given up")

asyncio.run(main())
"""


def test_a_process_ends_beside_one_that_does_not() -> None:
    done = subprocess.run([sys.executable, "-c", ENDLESS], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "given up\n")
