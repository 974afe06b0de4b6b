"""G7, G19: whatever a first-generation device pushes, and is told `applied` of, is in the log as it was meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.legacy_devices import FIRST
from tests.support.wire import Device, Json, unique

Make = Callable[..., Device]
T10, T10_05 = "2026-01-01T10:00:00.000Z", "2026-01-01T10:05:00.000Z"


@pytest.fixture
def old(device: Make) -> Device:
    return device(unique("old"), "d1", legacy=True)


def change(op: str, **more: Any) -> Json:
    return {"table": "t", "id": "r", "op": op, **more}


def inserted(**more: Any) -> Json:
    return change("insert", data={"id": "r", "x": 1, "createdAt": T10, **more})


def living(old: Device) -> Json:
    """The records that a new device has, by id."""
    return {c["id"]: c["data"] for c in old.pull()["serverChanges"] if c["op"] == "update" and "data" in c}


def written(old: Device, *changes: Json) -> None:
    for result in old.push(*changes)["results"]:
        assert (result["status"], result["seq"] > 0) == ("applied", True)


def test_an_update_with_data_alone_writes_it(old: Device) -> None:
    """As of the time that is in it, or else of its receipt."""
    written(old, inserted(), change("update", data={"id": "r", "x": 5, "updatedAt": T10_05}))
    assert living(old)["r"]["x"] == 5
    written(old, change("update", data={"x": 4, "updatedAt": "2026-01-01T10:01:00.000Z", "y": 1}))
    assert (living(old)["r"]["x"], living(old)["r"]["y"]) == (5, 1)
    written(old, change("update", data={"x": 6}, fields=None))
    assert living(old)["r"]["x"] == 6


@pytest.mark.parametrize("op", ["update", "insert"])
@pytest.mark.parametrize("deleted", [T10_05, "2026-01-01", "yesterday", 1767261900000, True], ids=repr)
def test_a_time_of_deletion_deletes_whatever_the_change_is_called(old: Device, op: str, deleted: object) -> None:
    before = {**inserted(), "data": {"x": 1, "createdAt": "2025-01-01"}}
    fields = {"x": {"value": 2, "at": "2025-06-01T00:00:00.000Z"}}
    more = {"data": {"x": 2, "createdAt": "2025-06-01"}} if op == "insert" else {"fields": fields}
    written(old, before, change(op, **more, deletedAt=deleted), {**inserted(), "id": "s"})
    assert set(living(old)) == {"s"}
    assert {c["id"] for c in old.pull(FIRST)["serverChanges"] if c["op"] == "delete"} == {"r"}


@pytest.mark.parametrize("none", [None, "", False, 0], ids=repr)
def test_what_is_false_is_no_time_of_deletion(old: Device, none: object) -> None:
    written(
        old,
        inserted(deletedAt=none),
        {**change("insert", deletedAt=none, data={"x": 1, "createdAt": T10}), "id": "s"},
        {**inserted(), "id": "q"},
        {**change("update", fields={"deletedAt": {"value": none, "at": T10_05}}), "id": "q"},
    )
    assert set(living(old)) == {"r", "s", "q"}
    assert all(record["deletedAt"] is None for record in living(old).values())
