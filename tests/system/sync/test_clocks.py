"""G9: a wrong clock can neither win for ever nor lose its owner's writes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from tests.support.harness import Server
from tests.support.wire import Device, Json, ahead, at, edit, unique, values

Make = Callable[..., Device]
FAR = "9999-12-31T23:59:59.99999"


def register(device: Device, record: str = "r", field: str = "x") -> Any:
    return next(c for c in device.drain()[0] if c["id"] == record)["fields"][field]


def seconds_from_now(instant: str) -> float:
    return (datetime.fromisoformat(instant) - datetime.now(UTC)).total_seconds()


def test_a_clock_in_the_year_9999_does_not_win_for_ever(device: Make) -> None:
    user = unique("clock")
    wrong, right = device(user, "zzz"), device(user, "aaa")
    result = wrong.push(edit("r", f"{FAR}9Z", x="from the future"))["results"][0]
    assert result["status"] == "applied"
    assert abs(seconds_from_now(result["at"]["x"])) < 30
    assert register(right)["at"] == result["at"]["x"]
    assert right.push(edit("r", ahead(0.5), x="now"))["results"][0]["status"] == "applied"
    assert register(wrong)["value"] == "now"


def test_its_owner_loses_no_write_and_the_order_is_kept(device: Make) -> None:
    writer = device(unique("clock"))
    for turn in range(4):
        writer.push(*(edit("r", f"{FAR}{turn * 2 + i}Z", x=turn * 2 + i) for i in range(2)))
        assert register(writer)["value"] == turn * 2 + 1
    results = writer.push(edit("r", f"{FAR}9Z", x="late"), edit("r", f"{FAR}8Z", x="early"))["results"]
    assert [r["status"] for r in results] == ["applied", "superseded"]
    assert register(writer)["value"] == "late"


def test_the_order_is_kept_between_what_is_lowered_and_what_is_not(device: Make) -> None:
    writer = device(unique("clock"))
    results = writer.push(edit("r", ahead(50), x="kept"), edit("r", ahead(80), x="lowered"))["results"]
    assert [("at" in r, r["status"]) for r in results] == [(False, "applied"), (True, "applied")]
    assert register(writer)["value"] == "lowered"
    writer.push(edit("r", ahead(81), x="lowered again"))
    assert register(writer)["value"] == "lowered again"


def test_a_minute_ahead_is_believed_and_more_is_lowered(device: Make) -> None:
    writer = device(unique("clock"))
    believed = ahead(45)
    assert "at" not in writer.push(edit("r", believed, x=1))["results"][0]
    assert register(writer)["at"] == believed
    for wrong in (ahead(75), ahead(3600), ahead(86400 * 400)):
        result = writer.push(edit("r", wrong, x=2, y=3))["results"][0]
        assert set(result["at"]) == {"x", "y"}
        assert register(writer) == {"value": 2, "at": result["at"]["x"], "sent": wrong, "clientId": "c1"}


def test_an_hour_behind_only_loses_to_what_was_later(device: Make) -> None:
    user = unique("clock")
    slow, right = device(user, "slow"), device(user, "right")
    right.write(edit("r", ahead(0), x="right", y="right"))
    result = slow.push(edit("r", ahead(-3600), x="slow", z="slow"))
    assert result["results"][0]["status"] == "applied"
    assert [c["field"] for c in result["conflicts"]] == ["x"]
    assert values(right.drain()[0]) == {"r": {"x": "right", "y": "right", "z": "slow"}}


def test_a_lowered_change_is_recognised_when_it_is_sent_again(device: Make) -> None:
    writer = device(unique("clock"))
    changes = [
        edit("r", f"{FAR}1Z", x=1),
        edit("s", f"{FAR}1Z", x=1, change_id=None),
        edit("t", at(1), x=1),
        {"table": "t", "id": "u", "op": "delete", "changeId": "d"},
    ]
    first = writer.push(*changes)["results"]
    assert [r["status"] for r in first] == ["applied"] * 4
    before = writer.drain(history=1)[0]
    again = writer.push(*changes)["results"]
    assert [(r["status"], r["seq"]) for r in again] == [("duplicate", r["seq"]) for r in first]
    mixed = writer.push(edit("v", f"{FAR}1Z", x=1), *changes)["results"]
    assert [r["status"] for r in mixed] == ["applied"] + ["duplicate"] * 4
    assert writer.drain(history=1)[0][:-1] == before


def test_a_change_of_the_future_in_a_refused_space_holds_nobody_up(device: Make) -> None:
    writer = device(unique("clock"))
    results = writer.push({**edit("r", f"{FAR}1Z", x=1), "spaceId": "nobody-s"}, edit("r", at(1), x=1))["results"]
    assert [r["status"] for r in results] == ["rejected", "applied"]
    assert writer.push({**edit("r", f"{FAR}1Z", x=1), "spaceId": "nobody-s"})["results"][0]["code"] == "space_not_found"


def test_a_delete_without_an_instant_is_at_the_time_of_receipt(device: Make) -> None:
    writer = device(unique("clock"))
    writer.write(edit("r", at(1), x=1), edit("s", ahead(40), deletedAt=None))
    for record in ("r", "s"):
        result = writer.push({"table": "t", "id": record, "op": "delete", "changeId": f"d{record}"})["results"][0]
        assert result["status"] == "applied"
        assert abs(seconds_from_now(result["at"]["deletedAt"])) < 60
    assert writer.drain()[0] == []
    deletes = [c for c in writer.drain(history=1)[0] if c["op"] == "delete"]
    assert [c["deletedAt"] for c in deletes] == [c["fields"]["deletedAt"]["value"] for c in deletes]
    assert writer.push({"table": "t", "id": "r", "op": "delete"})["results"][0]["status"] == "applied"


def test_a_delete_whose_tombstone_lost_reads_as_an_edit(device: Make) -> None:
    user = unique("clock")
    one, two = device(user, "c1"), device(user, "c2")
    one.write(edit("r", at(10), deletedAt=None))
    late: Json = {
        "table": "t",
        "id": "r",
        "op": "delete",
        "changeId": "d",
        "deletedAt": at(5),
        "fields": {"by": {"value": "c2", "at": at(6)}},
    }
    result = two.push(late)
    assert result["results"][0]["status"] == "applied"
    assert [c["field"] for c in result["conflicts"]] == ["deletedAt"]
    last = one.drain(history=1)[0][-1]
    assert (last["op"], set(last["fields"]), "deletedAt" in last) == ("update", {"by"}, False)


def test_what_lost_on_arrival_is_not_sent_to_anybody(device: Make) -> None:
    user = unique("clock")
    one, two = device(user, "c1"), device(user, "c2")
    one.write(edit("r", at(10), x="new"))
    _, cursor = one.drain()
    answer = two.push(edit("r", at(5), x="old"))
    assert answer["results"][0]["status"] == "superseded"
    assert answer["conflicts"] == [
        {
            "spaceId": f"_personal:{user}",
            "table": "t",
            "id": "r",
            "field": "x",
            "by": "c1",
            "clientValue": "old",
            "clientTimestamp": at(5),
            "serverValue": "new",
            "serverTimestamp": at(10),
        }
    ]
    assert one.drain(cursor)[0] == []
    assert [c["seq"] for c in one.drain(history=1)[0]] == [1]
    one.write(edit("r", at(11), x="newest"))
    assert [c["seq"] for c in one.drain(cursor)[0]] == [3]


def test_a_lowered_write_stands_over_what_its_writer_saw(device: Make) -> None:
    """The other's clock is ahead as far as is allowed, the writer's hours ahead: the later edit counts."""
    user = unique("clock")
    other, writer = device(user, "zzz"), device(user, "aaa")
    seen = ahead(30)
    other.write(edit("r", seen, x="seen"))
    over = edit("r", ahead(7200), x="over")
    over["fields"]["x"]["base"] = seen
    (result,) = writer.push(over)["results"]
    assert (result["status"], result["at"]["x"] > seen) == ("applied", True)
    assert register(other) == {
        "value": "over",
        "at": result["at"]["x"],
        "clientId": "aaa",
        "sent": register(other)["sent"],
    }
    # What it says it saw moves nothing beyond what is allowed, and nothing without a clock that is ahead.
    for record, at_, base in (("r2", ahead(7200), ahead(7100)), ("r3", ahead(0), ahead(30))):
        late = edit(record, at_, x=1)
        late["fields"]["x"]["base"] = base
        writer.write(late)
        assert abs(seconds_from_now(register(other, record)["at"])) < 10


def test_a_lowered_deletion_stands_over_the_put_that_its_writer_saw(device: Make) -> None:
    user = unique("clock")
    other, writer = device(user, "zzz"), device(user, "aaa")
    seen, sent = ahead(30), ahead(7200)
    other.write(edit("r", seen, x="seen", deletedAt=None))
    tombstone = {"value": sent, "at": sent, "base": seen}
    delete: Json = {"table": "t", "id": "r", "op": "delete", "changeId": "d", "deletedAt": sent}
    (result,) = writer.push({**delete, "fields": {"deletedAt": tombstone}})["results"]
    assert (result["status"], result["at"]["deletedAt"] > seen) == ("applied", True)
    assert values(other.drain()[0]) == {}
    assert other.drain(history=1)[0][-1]["deletedAt"] == result["at"]["deletedAt"]


def test_a_base_that_is_no_instant_is_refused(device: Make) -> None:
    change = edit("r", 1, x=1)
    change["fields"]["x"]["base"] = "soon"
    answer = device(unique("clock")).send(change)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/changes/0/fields/x/base")


AN_HOUR_AHEAD = """WITH feed AS (
    UPDATE syncd.sync_feeds h SET written_at = h.written_at + interval '1 hour'
    FROM syncd.sync_spaces s WHERE s.space_no = h.space_no AND s.space_id = $1 RETURNING h.*)
UPDATE syncd.sync_changes c SET created_at = f.written_at FROM feed f
WHERE c.space_no = f.space_no AND c.app_no = f.app_no
"""
CREATED = """SELECT c.created_at FROM syncd.sync_changes c JOIN syncd.sync_spaces s ON s.space_no = c.space_no
WHERE s.space_id = $1 ORDER BY c.seq"""


async def test_when_the_database_s_clock_steps_back_no_change_is_dated_before_an_earlier_one(
    server: Server, device: Make
) -> None:
    """Moments of the past are found by bisection of these dates."""
    writer = device(unique("clock"))
    space = writer.create(unique("space"))
    changes = [{**edit(f"r{n}", n + 1, x=n), "spaceId": space} for n in range(5)]
    database = await asyncpg.connect(server.owner_dsn)
    writer.write(changes[0])
    await database.execute(AN_HOUR_AHEAD, space)
    writer.write(changes[1])  # one alone and several take their places in different ways
    writer.write(*changes[2:4])
    writer.write(changes[4])
    dates = [row[0] for row in await database.fetch(CREATED, space)]
    await database.close()
    assert len(dates) == 5
    assert dates == sorted(dates)


@pytest.mark.parametrize("beside", [0, 1, 2], ids=["alone", "with others", "with another of its record"])
def test_a_stamp_that_was_given_to_another_value_is_raised(device: Make, beside: int) -> None:
    """Two users' stores with one client id: each way that a push takes through the log."""
    owner, other = device(unique("twice"), "given"), device(unique("twice"), "given")
    space = owner.create(unique("space"))
    owner.member(space, other.user)
    owner.push(edit("r", 5, x="first", y="same") | {"spaceId": space})
    second = edit("r", 5, x="second", y="same") | {"spaceId": space}
    others = [edit("s", 1, x="other"), edit("r", 2, y="earlier")][:beside]
    sent = [second, *({**change, "spaceId": space} for change in others)]
    answer = other.push(*sent)["results"]
    assert (answer[0]["status"], answer[0]["at"]) == ("applied", {"x": at(6)})
    assert all("at" not in result for result in answer[1:])
    held = next(c for c in owner.drain()[0] if c["id"] == "r")["fields"]
    assert held["x"].items() >= {"value": "second", "at": answer[0]["at"]["x"], "sent": at(5)}.items()
    assert (held["y"]["value"], held["y"]["at"]) == ("same", at(5))
    assert {result["status"] for result in other.push(*sent)["results"]} == {"duplicate"}


def test_in_one_push_the_later_of_two_values_with_one_stamp_is_raised(device: Make) -> None:
    writer = device(unique("twice"))
    times = (5, 5, 5, f"{FAR}9Z", f"{FAR}9Z")
    results = writer.push(*(edit("r", when, x=n) for n, when in enumerate(times)))["results"]
    assert [result.get("at") for result in results[:3]] == [None, {"x": at(6)}, {"x": at(7)}]
    assert results[3]["at"]["x"] < results[4]["at"]["x"]
    assert register(writer)["value"] == 4


def test_a_delete_and_what_brings_the_record_back_at_one_instant(device: Make) -> None:
    writer = device(unique("twice"))
    writer.push(edit("r", 1, x=1), edit("r", 5, deletedAt=None))
    delete = {"table": "t", "id": "r", "op": "delete", "changeId": unique("d"), "deletedAt": at(5)}
    raised = writer.push(delete)["results"][0]["at"]["deletedAt"]
    assert raised == at(6)
    [tombstone] = [c for c in writer.drain(history=1)[0] if c["op"] == "delete"]
    assert tombstone["fields"]["deletedAt"] == {"value": raised, "at": raised, "sent": at(5)}


def test_a_first_generation_device_keeps_the_stamps_that_it_gave(device: Make) -> None:
    writer = device(unique("twice"), legacy=True)
    for n in range(3):
        writer.push(edit("r", 5, x=n), edit("r", 5, y=n))
    held = next(c for c in device(writer.user).drain()[0] if c["id"] == "r")["fields"]
    assert {(name, held[name]["value"], held[name]["at"]) for name in "xy"} == {("x", 2, at(5)), ("y", 2, at(5))}
