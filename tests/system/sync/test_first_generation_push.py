"""G19: whatever a client of the first generation pushes is taken as it comes. One change must not keep the others."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from syncd.core.clock import parse_instant
from tests.support.wire import Device, Json, ahead, at, edit, unique, values

Make = Callable[..., Device]
URL = "/sync/app"


@pytest.fixture
def old(device: Make) -> Device:
    """A device of the first generation."""
    return device(unique("old"), legacy=True)


def update(record: str, **fields: Any) -> Json:
    """An update of the first generation: fields as they are given, no change id."""
    return {"table": "t", "id": record, "op": "update", "fields": fields}


def insert(record: str, **more: Any) -> Json:
    return {"table": "t", "id": record, "op": "insert", **more}


def statuses(answer: Any) -> list[str]:
    return [result["status"] for result in answer["results"]]


def state(old: Device) -> dict[str, Json]:
    """The records as they are now, with their registers."""
    return {change["id"]: change["fields"] for change in old.drain()[0] if change["op"] != "delete"}


def log(old: Device) -> list[Json]:
    return old.drain(history=1)[0]


class TestAChangeWithNothingInIt:
    @pytest.mark.parametrize("more", [{}, {"fields": {}}, {"fields": None}, {"data": {}}], ids=str)
    def test_an_update_without_fields_writes_nothing_and_the_others_stand(self, old: Device, more: Json) -> None:
        empty = {"table": "t", "id": "r", "op": "update", **more}
        answer = old.push(edit("q", 1, change_id=None, n=1), empty, insert("s", data={"title": "s"}))
        assert statuses(answer) == ["applied"] * 3
        assert "seq" not in answer["results"][1]
        assert set(state(old)) == {"q", "s"}
        assert [change["seq"] for change in log(old)] == [1, 2]

    @pytest.mark.parametrize("more", [{}, {"data": {}}, {"data": None, "fields": {}}], ids=str)
    def test_an_insert_without_data_makes_a_record_that_lives(self, old: Device, more: Json) -> None:
        assert statuses(old.push(insert("r", **more), insert("s", data={"title": "s"}))) == ["applied"] * 2
        assert set(values(old.drain()[0])) == {"r", "s"}

    def test_an_insert_without_data_brings_back_nothing_that_was_deleted_at_a_time(self, old: Device) -> None:
        old.push(edit("r", 1, change_id=None, n=1), {"table": "t", "id": "r", "op": "delete", "deletedAt": at(2)})
        old.push(insert("r"))
        assert state(old) == {}

    def test_a_push_of_nothing_but_empty_updates_is_answered(self, old: Device) -> None:
        cursor = old.pull()["syncedUntil"]
        answer = old.push(update("r"), update("s"), since=cursor, pull=True)
        assert (statuses(answer), answer["serverChanges"]) == (["applied"] * 2, [])
        assert log(old) == []

    def test_a_client_of_ours_is_still_told(self, device: Make) -> None:
        refused = device(unique("new")).send({"table": "t", "id": "r", "op": "update", "fields": {}, "changeId": "c"})
        assert (refused.status_code, refused.json()["code"]) == (400, "empty_change")


def test_a_register_without_a_value_is_null(old: Device, device: Make) -> None:
    old.push(update("r", due={"at": at(1)}, title={"value": "x", "updatedAt": at(1)}))
    assert state(old)["r"]["due"]["value"] is None
    ours = {**update("r", due={"at": at(2)}), "changeId": "c"}
    assert device(unique("new")).send(ours).status_code == 400


class TestAPushOfAnySize:
    def test_it_is_performed_in_parts_and_the_answer_is_one(self, old: Device, device: Make) -> None:
        other = device(old.user, "other")
        other.write(edit("before", 1, n=1))
        cursor = old.drain()[1]
        other.write(edit("from another", 1, n=1))
        padding = "x" * 600
        changes = [edit(f"r{n % 1500}", n + 1, change_id=None, n=n, padding=padding) for n in range(3000)]
        answer = old.push(*changes, since=cursor, pull=True)
        assert statuses(answer) == ["applied"] * 3000
        assert [result["seq"] for result in answer["results"]] == list(range(3, 3003))
        assert len({result["eventId"] for result in answer["results"]}) == 3000
        assert [change["id"] for change in answer["serverChanges"]] == ["from another"]
        assert old.pull(answer["syncedUntil"])["serverChanges"] == []
        now = {record: fields["n"]["value"] for record, fields in state(other).items()}
        assert now == {"before": 1, "from another": 1} | {f"r{n}": n + 1500 for n in range(1500)}

    def test_a_retry_of_all_or_of_what_came_after_a_part_writes_nothing_twice(self, old: Device) -> None:
        changes = [edit(f"r{n % 700}", n + 1, change_id=None, n=n) for n in range(2100)]
        old.push(*changes[:1000])  # as if the connection had been lost after the first part
        assert statuses(old.push(*changes)) == ["duplicate"] * 1000 + ["applied"] * 1100
        assert statuses(old.push(*changes)) == ["duplicate"] * 2100
        assert len(log(old)) == 2100

    def test_a_change_that_cannot_be_is_rejected_alone_wherever_it_is(self, old: Device) -> None:
        changes = [edit(f"r{n}", n + 1, change_id=None, n=n) for n in range(1500)]
        changes[1400]["id"] = ""
        wanted = ["applied"] * 1500
        wanted[1400] = "rejected"
        assert statuses(old.push(*changes)) == wanted

    def test_a_change_that_is_too_large_is_rejected_alone_wherever_it_is(self, old: Device) -> None:
        changes = [edit(f"r{n}", n + 1, change_id=None, n=n) for n in range(1200)]
        changes[1100]["fields"]["n"]["value"] = "x" * (1 << 20)
        wanted = ["applied"] * 1200
        wanted[1100] = "rejected"
        assert statuses(old.push(*changes)) == wanted

    def test_when_a_part_says_there_is_more_the_device_gets_the_rest_by_pulling(
        self, old: Device, device: Make
    ) -> None:
        other = device(old.user, "other")
        for _ in range(3):
            other.write(*(edit(unique("other"), n + 1, n=n) for n in range(700)))
        cursor = "1970-01-01T00:00:00.000Z"
        answer = old.push(*(edit(f"r{n}", n + 1, change_id=None, n=n) for n in range(2500)), since=cursor, pull=True)
        assert (statuses(answer), answer["hasMore"]) == (["applied"] * 2500, True)
        rest, _ = old.drain(answer["syncedUntil"])
        found = {change["id"] for change in [*answer["serverChanges"], *rest]}
        assert len({record for record in found if record.startswith("other")}) == 2100

    def test_a_client_of_ours_splits_by_itself(self, device: Make) -> None:
        refused = device(unique("new")).send(*(edit(f"r{n}", n=n) for n in range(1001)))
        assert (refused.status_code, refused.json()["code"]) == (413, "too_many_changes")


class TestWhatIsLeftOut:
    def test_no_space_is_the_personal_one(self, old: Device) -> None:
        change = edit("r", 1, change_id=None, n=1)
        old.push({**change, "spaceId": ""}, {**change, "id": "s", "spaceId": None})
        old.push(insert("t", data={"spaceId": "", "n": 1}))
        assert {change["spaceId"] for change in old.drain()[0]} == {f"_personal:{old.user}"}

    @pytest.mark.parametrize(
        "body", [{"changes": None}, {}, {"changes": None, "since": None, "clientId": None}], ids=str
    )
    def test_no_changes_are_none(self, old: Device, body: Json) -> None:
        answer = old.request("POST", URL, json=body)
        assert (answer.status_code, answer.json()["results"]) == (200, [])

    @pytest.mark.parametrize("client", [None, "", 5, "x" * 256, "a\u0001b"], ids=repr)
    def test_without_a_client_id_the_device_has_a_name_that_stays(self, old: Device, client: Any) -> None:
        del old.headers["x-client-id"]
        body = {"changes": [edit("r", 1, change_id=None, n=1)], "clientId": client}
        for status in ("applied", "duplicate"):
            answer = old.request("POST", URL, json=body)
            assert answer.status_code == 200, answer.text
            assert statuses(answer.json()) == [status]
        assert {change["clientId"] for change in log(old)} == {f"legacy:{old.user}"}

    def test_an_empty_header_leaves_the_name_to_the_body(self, old: Device) -> None:
        old.headers["x-client-id"] = ""
        body = {"changes": [edit("r", 1, change_id=None, n=1)], "clientId": "phone"}
        assert old.request("POST", URL, json=body).status_code == 200
        assert {change["clientId"] for change in log(old)} == {"phone"}

    @pytest.mark.parametrize("media", ["text/plain", "text/plain;charset=UTF-8", "application/json"])
    def test_json_may_call_itself_text(self, old: Device, media: str) -> None:
        body = json.dumps({"changes": [edit("r", 1, change_id=None, n=1)]}).encode()
        answer = old.request("POST", URL, content=body, headers={"content-type": media})
        assert answer.status_code == 200, answer.text
        assert set(state(old)) == {"r"}


class TestInstants:
    @pytest.mark.parametrize(
        ("given", "meant"),
        [
            ("2026-01-02", "2026-01-02T00:00:00.000000Z"),
            ("2026-01-02T10:05:00.123", "2026-01-02T10:05:00.123000Z"),
            ("2026-01-02 10:05:00", "2026-01-02T10:05:00.000000Z"),
            ("2026-01-02T10:05", "2026-01-02T10:05:00.000000Z"),
            ("2026-01-02 10:05:00.5+00", "2026-01-02T10:05:00.500000Z"),
            ("2026-01-02T10:05:00+0200", "2026-01-02T08:05:00.000000Z"),
            ("2026-01-02T10:05:00+02:00", "2026-01-02T08:05:00.000000Z"),
        ],
    )
    def test_a_date_is_its_midnight_and_without_a_zone_it_is_utc(self, old: Device, given: str, meant: str) -> None:
        old.push(
            update("at", x={"value": 1, "at": given}),
            update("updatedAt", x={"value": 1, "updatedAt": given}),
            insert("data", data={"x": 1, "updatedAt": given}),
        )
        assert {parse_instant(fields["x"]["at"]) for fields in state(old).values()} == {parse_instant(meant)}
        old.push({"table": "t", "id": "at", "op": "delete", "deletedAt": given})
        assert {change["deletedAt"] for change in log(old) if change["op"] == "delete"} == {meant}

    @pytest.mark.parametrize("given", [None, "", "yesterday", "2026-13-01", 1767225600000, {}, [[]], True], ids=repr)
    def test_what_cannot_be_read_is_the_time_of_receipt(self, old: Device, given: Any) -> None:
        before = time.time_ns() // 1000
        old.push(update("r", x={"value": 1, "at": given}), update("s", x={"value": 1, "updatedAt": given}))
        old.push({"table": "t", "id": "r", "op": "delete", "deletedAt": given})
        after = time.time_ns() // 1000
        [deletion] = [change for change in log(old) if change["op"] == "delete"]
        for instant in (state(old)["s"]["x"]["at"], deletion["deletedAt"]):
            assert before <= parse_instant(instant) <= after

    def test_a_register_without_an_instant_is_later_than_what_the_device_wrote_before(self, old: Device) -> None:
        old.push(update("r", x={"value": 1, "at": at(1)}))
        for n in range(2, 5):
            old.push(update("r", x={"value": n}))
            assert state(old)["r"]["x"]["value"] == n
        old.push(*(update("r", x={"value": n}) for n in range(5, 8)))
        assert state(old)["r"]["x"]["value"] == 7

    def test_an_insert_without_instants_never_beats_a_timed_write(self, old: Device) -> None:
        old.push(update("r", x={"value": 1, "at": at(1)}), insert("r", data={"x": 2, "updatedAt": "yesterday"}))
        assert state(old)["r"]["x"]["value"] == 1


class TestARetryOfAChangeWithoutInstants:
    """Its content and the cursor that it came with name it, because each answer moves the cursor."""

    def test_it_is_recognised_while_the_device_has_had_no_answer(self, old: Device, device: Make) -> None:
        other = device(old.user, "other")
        cursor = old.push(insert("r", data={"x": 0}), since="", pull=True)["syncedUntil"]
        changes = [update("r", x={"value": 1}), {"table": "t", "id": "s", "op": "delete"}, insert("q", data={"y": 1})]
        assert statuses(old.push(*changes, since=cursor)) == ["applied"] * 3
        other.write(edit("r", ahead(0), x="newer"))
        assert statuses(old.push(*changes, update("r", w={"value": 2}), since=cursor)) == ["duplicate"] * 3 + [
            "applied"
        ]
        assert state(other)["r"]["x"]["value"] == "newer"

    def test_the_same_value_written_again_later_is_a_new_change(self, old: Device) -> None:
        cursor = old.pull()["syncedUntil"]
        for value in (1, 2, 1):
            cursor = old.push(update("r", x={"value": value}), since=cursor, pull=True)["syncedUntil"]
        assert state(old)["r"]["x"]["value"] == 1
        assert statuses(old.push(*(update("r", x={"value": v}) for v in (1, 2, 1)), since=cursor)) == ["applied"] * 3
        assert state(old)["r"]["x"]["value"] == 1

    @pytest.mark.parametrize("since", ["", "1970-01-01T00:00:00.000Z", "garbage"])
    def test_without_a_cursor_it_is_written_again_rather_than_lost(self, old: Device, since: str) -> None:
        for value in (1, 2, 1):
            assert statuses(old.push(update("r", x={"value": value}), since=since)) == ["applied"]
        assert state(old)["r"]["x"]["value"] == 1
