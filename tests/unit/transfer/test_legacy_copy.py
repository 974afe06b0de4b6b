"""What a device of the first generation makes of what a server sends."""

from __future__ import annotations

from typing import Any

from syncd.transfer.sources.legacy_copy import LegacyCopy, compare

NOW = "2026-06-01T00:00:00Z"
TEN, FIVE_PAST = "2026-01-01T10:00:00Z", "2026-01-01T10:05:00Z"


def copied(*changes: dict[str, Any]) -> LegacyCopy:
    copy = LegacyCopy(NOW)
    for change in changes:
        copy.apply({"table": "tasks", "id": "r", **change})
    return copy


def held(*changes: dict[str, Any]) -> dict[str, Any] | None:
    return {key.record: fields for key, fields in copied(*changes).records().items()}.get("r")


def update(at: str, **values: Any) -> dict[str, Any]:
    return {"op": "update", "fields": {name: {"value": value, "at": at} for name, value in values.items()}}


def test_an_insert_is_dated_by_its_data_and_its_fields_are_not_read() -> None:
    insert = {"op": "insert", "data": {"title": "one", "createdAt": TEN}, "fields": update(NOW, title="x")["fields"]}
    assert held(insert) == {"title": "one", "createdAt": TEN}
    assert held(insert, update(FIVE_PAST, title="two")) == {"title": "two", "createdAt": TEN}
    assert held(update(FIVE_PAST, title="two"), insert) == {"title": "two", "createdAt": TEN}


def test_an_insert_without_a_time_is_dated_by_the_device() -> None:
    assert held(update(FIVE_PAST, title="two"), {"op": "insert", "data": {"title": "one"}}) == {"title": "one"}


def test_an_update_brings_a_record_that_is_not_there_from_its_data() -> None:
    whole = {**update(TEN, title="two"), "data": {"id": "r", "title": "two", "done": False}}
    assert held(whole) == {"id": "r", "title": "two", "done": False}


def test_a_field_with_a_dot_is_the_member_of_an_object() -> None:
    insert = {"op": "insert", "data": {"cfg": {"theme": "light", "size": 1}, "updatedAt": TEN}}
    assert held(insert, update(FIVE_PAST, **{"cfg.theme": "dark"})) == {
        "cfg": {"theme": "dark", "size": 1}, "updatedAt": TEN,
    }  # fmt: skip
    assert held(update("2026-01-01T09:00:00Z", **{"cfg.theme": "dark"}), insert) == {
        "cfg": {"theme": "light", "size": 1}, "updatedAt": TEN,
    }  # fmt: skip
    assert held(update(TEN, **{"a.b.c": 1})) == {"a": {"b": {"c": 1}}}


def test_a_deleted_record_is_gone_until_something_newer_brings_it_back() -> None:
    insert = {"op": "insert", "data": {"title": "one", "updatedAt": TEN}}
    delete = {"op": "delete", "deletedAt": FIVE_PAST}
    assert held(insert, delete) is None
    assert held(delete, insert) is None
    again = {"op": "insert", "data": {"title": "again", "updatedAt": "2026-01-02T00:00:00Z"}}
    assert held(insert, delete, again) == {"title": "again", "updatedAt": "2026-01-02T00:00:00Z"}


def test_what_is_no_change_is_left_out() -> None:
    assert copied({"op": "insert", "table": None}, {"op": "other"}, {"op": "update", "fields": ["x"]}).records() == {}


def test_two_copies_are_compared_by_record_and_field() -> None:
    early, late = ({"id": "u", **update(at, a=1)} for at in (TEN, NOW))
    old = copied(update(TEN, title="one", done=False), {"id": "s", **update(TEN, title="s")}, early)
    new = copied(update(TEN, title="two", done=False), {"id": "t", **update(TEN, title="t")}, late)
    found, same = compare(old, new)
    assert [one.sentence() for one in found] == [
        "tasks r differs in title", "tasks s is on the old server only", "tasks t is on the new server only",
    ]  # fmt: skip
    assert same == {"tasks": 1}


def test_the_id_is_no_field_that_may_differ() -> None:
    found, same = compare(copied(update(TEN, x=1)), copied({**update(TEN, x=1), "data": {"id": "r", "x": 1}}))
    assert (found, same) == ([], {"tasks": 1})
