"""What clients of the first generation send, taken as it comes: dates, deletions, and what cannot be read."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from syncd.core.errors import Malformed
from syncd.protocol.first_generation import (
    UNREADABLE,
    LegacyStamps,
    client_of,
    push_body,
    read_legacy,
    readable,
)
from syncd.protocol.messages import IncomingChange, PushBody

AT, LATER = "2026-01-01T10:00:00Z", "2026-01-02T10:00:00Z"
NULL = b"null"


def one(**members: Any) -> IncomingChange:
    body = push_body(json.dumps({"changes": [{"table": "t", "id": "r", "op": "update", **members}]}).encode())
    return body.changes[0]


def fields(change: IncomingChange) -> dict[str, Any]:
    """Each register as (value, at)."""
    return {name: (json.loads(bytes(r.value)), r.at) for name, r in (change.fields or {}).items()}


@pytest.mark.parametrize(("text", "found"), [
    ("2026-01-02", "2026-01-02T00:00:00.000000Z"),
    ("2026-01-02Z", "2026-01-02T00:00:00.000000Z"),
    ("2026-01-02T10:05", "2026-01-02T10:05:00.000000Z"),
    ("2026-01-02 10:05", "2026-01-02T10:05:00.000000Z"),
    ("2026-01-02t10:05:06", "2026-01-02T10:05:06.000000Z"),
    ("2026-01-02T10:05:06.5", "2026-01-02T10:05:06.500000Z"),
    ("2026-01-02T10:05:06.123456", "2026-01-02T10:05:06.123456Z"),
    ("2026-01-02T10:05:06z", "2026-01-02T10:05:06.000000Z"),
    ("2026-01-02T10:05:06 Z", "2026-01-02T10:05:06.000000Z"),
    ("2026-01-02T10:05:06+02", "2026-01-02T08:05:06.000000Z"),
    ("2026-01-02T10:05:06+0230", "2026-01-02T07:35:06.000000Z"),
    ("2026-01-02T10:05:06+02:30", "2026-01-02T07:35:06.000000Z"),
    ("2026-01-02T10:05:06-02:30", "2026-01-02T12:35:06.000000Z"),
    ("2026-01-02T10:05 -02", "2026-01-02T12:05:00.000000Z"),
    ("2026-01-02+02:00", "2026-01-01T22:00:00.000000Z"),
    ("  2026-01-02\n", "2026-01-02T00:00:00.000000Z"),
])  # fmt: skip
def test_a_date_or_a_time_without_a_zone_is_an_instant(text: str, found: str) -> None:
    stamps = LegacyStamps()
    assert stamps.of(text).text == found
    assert stamps.of(text) is stamps.of(text), "each is read once"
    assert stamps.written(text, "/x") == stamps.of(found)


@pytest.mark.parametrize("text", ["soon", "2026-1-2", "2026-01-02T10", "2026-13-02", "2026-01-02  Z", "x2026-01-02",
                                  "2026-01-02T25:00", "2026-01-02T10:05.5", "1767225600000"])  # fmt: skip
def test_what_is_no_date_is_of_the_time_of_receipt(text: str) -> None:
    assert LegacyStamps().written(text, "/x") is None
    with pytest.raises(ValueError, match="instant"):
        LegacyStamps().of(text)


def test_no_time_at_all_is_the_time_of_receipt_too() -> None:
    assert LegacyStamps().written(None, "/x") is LegacyStamps().written("", "/x") is None
    assert LegacyStamps.legacy is True


def test_a_change_without_times_is_a_retry_where_the_cursor_and_its_place_are_the_same() -> None:
    def ids(since: str | None, *contents: str) -> list[str | None]:
        stamps = LegacyStamps(since)
        return [stamps.untimed(content) for content in contents]

    once = ids("c1", "a", "a", "b", "a")
    assert len(set(once)) == 4
    assert ids("c1", "b", "a", "a", "a") == [once[2], once[0], once[1], once[3]]
    assert not set(ids("c2", "a", "a", "b")) & set(once)
    assert all(name and name.startswith("\x01") for name in once), "no client can send such an id"
    assert ids(None, "a", "b") == [None, None]


FALSE = [None, "", False, 0]
TRUE = [AT, True, 1, "soon"]


@pytest.mark.parametrize("said", FALSE)
@pytest.mark.parametrize("op", ["insert", "update"])
def test_what_javascript_takes_for_false_is_no_deletion(said: Any, op: str) -> None:
    written = {"x": {"value": 1, "at": AT}, "deletedAt": {"value": said, "at": LATER}}
    change = one(op=op, deletedAt=said, fields=written, data={"deletedAt": said, "x": said})
    assert fields(change)["deletedAt"] == (None, LATER)
    assert fields(change)["x"] == (1, AT)
    assert change.data is not None
    assert bytes(change.data["deletedAt"]) == NULL
    assert json.loads(bytes(change.data["x"])) == said
    assert "deletedAt" not in fields(one(op=op, deletedAt=said, fields={"x": {"value": 1, "at": AT}}))


@pytest.mark.parametrize("said", TRUE)
def test_a_deletion_is_taken_whatever_the_operation_is_called(said: Any) -> None:
    change = one(op="update", deletedAt=said, fields={"x": {"value": 1, "at": AT}})
    assert fields(change) == {"x": (1, AT), "deletedAt": (said, said if isinstance(said, str) else None)}
    kept = one(fields={"deletedAt": {"value": said, "at": AT, "updatedAt": LATER}}, data={"deletedAt": said})
    assert fields(kept) == {"deletedAt": (said, AT)}
    assert kept.data is not None
    assert json.loads(bytes(kept.data["deletedAt"])) == said
    old = one(fields={"deletedAt": {"value": said, "updatedAt": LATER}})
    assert fields(old) == {"deletedAt": (said, LATER)}


@pytest.mark.parametrize(("said", "at"), [(AT, AT), ("soon", "soon"), (7, None), (None, None), ({"x": 1}, None)])
def test_a_delete_has_its_instant_where_it_is_a_text(said: Any, at: str | None) -> None:
    change = one(op="delete", deletedAt=said)
    assert (change.op, change.deletedAt, change.fields) == ("delete", at, {})


@pytest.mark.parametrize(("data", "at"), [
    ({"x": 1, "updatedAt": LATER, "createdAt": AT}, LATER), ({"x": 1, "createdAt": AT}, AT),
    ({"x": 1, "updatedAt": 7, "createdAt": AT}, AT), ({"x": 1, "updatedAt": "", "createdAt": AT}, AT), ({"x": 1}, None),
])  # fmt: skip
def test_an_update_without_fields_is_of_its_data_and_the_time_in_it(data: Any, at: str | None) -> None:
    assert fields(one(data=data)) == {name: (value, at) for name, value in data.items()}
    assert fields(one(data=data, fields={})) == {name: (value, at) for name, value in data.items()}
    assert fields(one(data=data, fields={"y": {"value": 2, "at": AT}})) == {"y": (2, AT)}
    assert fields(one(op="insert", data=data)) == {}


def test_data_says_too_that_a_record_lives() -> None:
    assert fields(one(data={"deletedAt": "", "updatedAt": AT})) == {"deletedAt": (None, AT), "updatedAt": (AT, AT)}
    assert one().data == {}


@pytest.mark.parametrize(("register", "found"), [
    ({"value": 1, "at": AT, "updatedAt": LATER}, (1, AT)), ({"value": 1, "updatedAt": LATER}, (1, LATER)),
    ({"value": 1, "at": 7, "updatedAt": LATER}, (1, LATER)), ({"value": 1, "at": "", "updatedAt": LATER}, (1, LATER)),
    ({"at": AT}, (None, AT)), ({"value": 1}, (1, None)), ({"value": 1, "at": 7}, (1, None)),
])  # fmt: skip
def test_a_register_may_lack_its_value_or_its_time(register: Any, found: Any) -> None:
    assert fields(one(fields={"x": register})) == {"x": found}


def test_of_a_change_every_member_is_taken() -> None:
    change = one(changeId="k", spaceId="s", schemaVersion=3, actor={"n": 1}, origin="o", data={"x": 1})
    assert (change.table, change.id, change.op, change.changeId) == ("t", "r", "update", "k")
    assert (change.spaceId, change.schemaVersion, change.origin) == ("s", 3, "o")
    assert isinstance(change.actor, Raw)
    assert json.loads(bytes(change.actor)) == {"n": 1}
    assert {name: json.loads(bytes(value)) for name, value in (change.data or {}).items()} == {"x": 1}
    bare = one(spaceId="")
    assert (bare.changeId, bare.spaceId, bare.schemaVersion, bare.actor, bare.origin) == (
        None, None, None, msgspec.UNSET, None
    )  # fmt: skip


def test_of_a_push_every_member_is_taken() -> None:
    said = {"clientId": "c", "since": "s", "schemaVersion": 3, "atomic": True, "pull": False}
    assert push_body(json.dumps({"changes": [], **said}).encode()) == PushBody([], "c", "s", 3, True, False)
    assert push_body(b"{}") == push_body(b'{"changes":null}') == PushBody([], None, None, None, False, True)
    assert push_body(b'{"clientId":7,"since":{"x":1}}') == PushBody([], None, None, None, False, True)


def test_a_change_that_cannot_be_read_keeps_no_other_and_nothing_else_of_the_push() -> None:
    good = {"table": "t", "id": "r", "op": "update"}
    body = {"changes": [good, {"table": "t"}, {**good, "id": "q"}, 5], "clientId": "c", "atomic": True}
    read = push_body(json.dumps(body).encode())
    assert [change is UNREADABLE for change in read.changes] == [False, True, False, True]
    assert ([change.id for change in read.changes], read.clientId, read.atomic) == (["r", "", "q", ""], "c", True)


@pytest.mark.parametrize(("body", "code"), [
    (b'{"changes":[{"table":"t"}],"atomic":7}', "invalid_request"), (b'{"changes":7}', "invalid_request"),
    (b"{", "malformed_json"),
    (b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}", "invalid_value"),
    (b'{"changes":[],"x":' + b"[" * 5000 + b"]" * 5000 + b"}", "invalid_value"),
], ids=["atomic", "no list", "cut short", "deep", "deep without changes"])  # fmt: skip
def test_what_is_no_push_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(Malformed) as why:
        push_body(body)
    assert why.value.code == code


def test_what_is_at_fault_is_raised_unless_it_is_a_change() -> None:
    body = b'{"changes":[{"table":"t","id":"r","op":"delete"}],"clientId":"c"}'
    for code in ("invalid_change", "invalid_value"):
        envelope, changes = readable(body, Malformed(code=code))
        assert json.loads(envelope) == {"changes": [], "clientId": "c"}
        assert [change.id for change in changes] == ["r"]
    for code, text in (("invalid_request", body), ("invalid_change", b'{"changes":[]}')):
        why = Malformed(code=code)
        with pytest.raises(Malformed) as raised:
            readable(text, why)
        assert raised.value is why


def test_one_change_alone() -> None:
    assert read_legacy(b'{"table":"t","id":"r","op":"delete"}').id == "r"
    assert read_legacy(Raw(b'{"table":"t","id":"r","op":"upset"}')) is UNREADABLE
    assert read_legacy(rb'{"table":"t","id":"\ud800","op":"delete"}') is UNREADABLE
    assert read_legacy(b'{"table":' + b"[" * 5000 + b"]" * 5000 + b"}") is UNREADABLE
    assert read_legacy(b"{}", lambda raw: IncomingChange("u", bytes(raw).decode(), "delete")).id == "{}"
    for text in (b'{"table":"t"', rb'{"table":"\ud800"', b""):
        with pytest.raises(Malformed) as why:
            read_legacy(text)
        assert why.value.code == "malformed_json"
        assert why.value.detail.startswith("The body is not JSON: ")


@pytest.mark.parametrize(("given", "found"), [
    ("phone", "phone"), ("c" * 255, "c" * 255), ("c" * 256, "legacy:ann"), (None, "legacy:ann"), ("", "legacy:ann"),
    ("a\nb", "legacy:ann"), ("_server:1", "legacy:ann"), ("_servers", "_servers"),
])  # fmt: skip
def test_a_device_without_an_id_has_the_name_that_all_such_of_its_user_have(given: str | None, found: str) -> None:
    assert client_of(given, "ann") == found


def test_that_name_is_an_id_too() -> None:
    assert client_of(None, "a" * 255) == "legacy:" + "a" * 248
