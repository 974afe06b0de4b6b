"""Which JSON Schemas are taken, and what they say to a record."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest

from syncd.core.clock import EPOCH
from syncd.service.proposed import ProposedChange
from syncd.service.schema_checks import new_faults
from syncd.service.schema_faults import TookTooLong, judged_until
from syncd.service.schema_limits import SchemaRefused
from syncd.service.table_schema import TableSchema, ValidatorMissing
from syncd.store.rules import Seen

Json = dict[str, Any]
NOTHING: frozenset[str] = frozenset()


def doubled(times: int) -> Json:
    """Each part names the next one twice."""
    parts = {f"p{n}": {"allOf": [{"$ref": f"#/$defs/p{n + 1}"}] * 2} for n in range(times)}
    return {"$ref": "#/$defs/p0", "$defs": {**parts, f"p{times}": {}}}


def nested(times: int) -> Json:
    found: Json = {}
    for _ in range(times):
        found = {"properties": {"a": found}}
    return found


@pytest.mark.parametrize(
    ("schema", "place", "why"),
    [
        (True, "", "is an object"),
        ({"type": "text"}, "type", "text"),
        ({"properties": {"title": {"maxLength": "x"}}}, "properties/title/maxLength", "integer"),
        ({"type": "array"}, "type", "a record is an object"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "$schema", "2020-12"),
        ({"properties": {"a": {"$ref": "https://a.example/s.json"}}}, "properties/a/$ref", "the same schema"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "properties/a/$ref", "the same schema"),
        ({"properties": {"a": {"$ref": "other.json#/x"}}}, "properties/a/$ref", "the same schema"),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "properties/a/$ref", "there is no schema"),
        ({"properties": {"a": {"$ref": "#name"}}}, "properties/a/$ref", "there is no schema"),
        ({"properties": {"a": {"$id": "https://a.example/s.json"}}}, "properties/a/$id", "not read"),
        ({"properties": {"a": {"$dynamicRef": "#x"}}}, "properties/a/$dynamicRef", "not read"),
        ({"properties": {"a": {"$ref": "#"}}}, "", "contains itself"),
        (doubled(40), "", "parts"),
        (nested(100), "", "deep"),
        ({"allOf": [{"title": ""} for n in range(3000)]}, "", "parts"),
        ({"properties": {"a": {"pattern": "(?=x)y"}}}, "properties/a/pattern", "linear"),
        ({"properties": {"a": {"pattern": r"(a)\1"}}}, "properties/a/pattern", "linear"),
        ({"properties": {"a": {"pattern": "("}}}, "properties/a/pattern", ""),
        ({"properties": {"a": {"pattern": "(a{1000}){1000}"}}}, "properties/a/pattern", "linear"),
        ({"patternProperties": {"(": {}}}, "patternProperties", ""),
        ({"patternProperties": {f"^{n}$": {} for n in range(33)}}, "patternProperties", "more than 32 patterns"),
        ({"properties": {"a": {"format": "dat-time"}}}, "properties/a/format", "dat-time"),
        ({"description": "x" * 70_000}, "", "larger"),
    ],
)
def test_a_schema_that_is_not_taken_is_told_with_its_place(schema: Any, place: str, why: str) -> None:
    with pytest.raises(SchemaRefused) as refused:
        TableSchema(schema)
    assert "/".join(refused.value.path).startswith(place)
    assert why in refused.value.why


def test_a_word_that_is_no_keyword_is_told() -> None:
    schema = TableSchema({"properties": {"title": {"maxLenght": 3, "x-index": True, "title": "Title"}}, "index": 1})
    assert schema.unknown == [((), "index"), (("properties", "title"), "maxLenght")]


def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
    with pytest.raises(ValidatorMissing, match=r"pip install 'syncd\[schemas\]'"):
        TableSchema({})


FIELDS: Json = {"properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "fields", "there", "takes"),
    [
        (FIELDS, {"a": 1}, "", True),
        (FIELDS, {"a": "x"}, "", False),
        (FIELDS, {"b": 1}, "", False),
        (FIELDS, {"b": 1}, "a", True),
        (FIELDS, {"a": 1, "c": 1}, "", False),
        ({"properties": {"a": {}}, "minProperties": 1}, {"a": 1}, "", False),
        ({"properties": {"a": {}}, "dependentRequired": {"a": ["b"]}}, {"b": 1}, "", False),
        ({"$ref": "#/$defs/a", "$defs": {"a": {}}}, {"b": 1}, "", False),
        ({"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "null"}}}, {"a": None}, "", True),
        ({}, {"a": 1}, "", True),
    ],
)
def test_what_is_judged_without_the_record(schema: Json, fields: Json, there: str, takes: bool) -> None:
    assert TableSchema(schema).takes_alone(fields, frozenset(there)) == takes


def seen(record: Json | None, deleted: Json | None = None) -> Seen:
    return Seen("owner", "s", record, deleted, False)


def proposed(op: str, **fields: Any) -> ProposedChange:
    return ProposedChange("app", "t", "r", "s", op, fields, "c", None, None, None, EPOCH)


def texts(schema: Json, op: str, before: Seen, **fields: Any) -> list[str]:
    return sorted(fault.say() for fault in new_faults(TableSchema(schema), proposed(op, **fields), before))


NAMES: Json = {"propertyNames": {"maxLength": 3}}
TWO: Json = {
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
    "minProperties": 3,
}


def test_a_fault_counts_that_the_change_makes_or_writes() -> None:
    assert texts(TWO, "insert", seen(None), a="x") == [
        "The record must have at least 3 members", "a: must be a whole number", "b: is needed",
    ]  # fmt: skip
    old = seen({"a": "x", "c": 1})
    assert texts(TWO, "update", old, c=2) == []
    assert texts(TWO, "update", old, a="x") == []
    assert texts(TWO, "update", old, a="y") == ["a: must be a whole number"]
    assert texts(TWO, "update", old, a=1) == []
    assert texts(TWO, "insert", seen(None, {"a": "x", "c": 1})) == [
        "The record must have at least 3 members", "b: is needed",
    ]  # fmt: skip
    assert texts(TWO, "delete", seen(None)) == []
    assert texts(TWO, "delete", seen(None), a="x") == ["a: must be a whole number"]
    assert texts(NAMES, "update", seen({"long": 1}), longer=1) != []
    assert texts(NAMES, "update", seen({"long": 1}), abc=1) == []


WIDE: Json = {
    "properties": {"title": {"type": "string"}},
    "patternProperties": {"^x": {"type": "integer"}, "0$": {"maximum": 1_000_000}},
    "propertyNames": {"maxLength": 10},
    "additionalProperties": False,
}


def test_a_fault_is_found_among_many_fields_without_asking_about_each() -> None:
    """A change of 20 bytes to a record with 300,000 fields took seconds."""
    schema, asked = TableSchema(WIDE), 0
    stood = {f"x{n}": n for n in range(20_000)}
    judge = schema._finder._judge

    def counted(part: Any, value: Any, rule: Any) -> bool:
        nonlocal asked
        asked += 1
        return judge(part, value, rule)

    schema._finder._judge = counted
    wrong = proposed("update", title=5, x7="a", y=1, a_name_that_is_long=2)
    assert [fault.say() for fault in new_faults(schema, wrong, seen(stood))] == [
        "title: must be a text", "x7: must be a whole number", "a_name_that_is_long: is no name of a field",
        "y: is no field of this table", "a_name_that_is_long: is no field of this table",
    ]  # fmt: skip
    assert asked < 300


def test_judging_ends_in_time_within_a_record() -> None:
    schema, stood = TableSchema(WIDE), {f"x{n}": n for n in range(100)}
    with judged_until(time.monotonic() - 1), pytest.raises(TookTooLong):
        new_faults(schema, proposed("update", title=5), seen(stood))


def test_true_is_no_one() -> None:
    schema = {"properties": {"a": {"type": "integer", "minimum": 5}}}
    assert texts(schema, "update", seen({"a": True}), a=1) == ["a: must be at least 5"]


@pytest.mark.parametrize("value", [10**30, -(10**30), 1.5e308, 0.1, "\U0001f600", None, [[[]]], {"a": {"b": [1]}}])
def test_any_value_of_a_field_can_be_judged(value: Any) -> None:
    assert TableSchema({"properties": {"a": {"minimum": -(10**40)}}}).faults({"a": value}) == []


def test_what_is_nested_as_deeply_as_a_value_may_be_can_be_judged() -> None:
    value: Any = 1
    for _ in range(64):
        value = [value]
    assert TableSchema({"properties": {"a": {"type": "array"}}}).faults({"a": value}) == []


@pytest.mark.alone
@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": "^(a+)+$"}, "a" * 500_000 + "!"),
        ({"pattern": "^(a|a)*b$"}, "a" * 500_000),
        ({"uniqueItems": True}, [{"n": n} for n in range(50_000)]),
        ({"uniqueItems": True}, [f"{n}" for n in range(100_000)]),
        ({"format": "email"}, "a@" * 250_000),
        ({"items": {"anyOf": [{"type": "string"}, {"required": ["x"]}]}}, [{} for n in range(100_000)]),
        (
            {"unevaluatedProperties": False, "anyOf": [{"properties": {"n1": {}}}] * 4},
            {f"n{n}": n for n in range(50_000)},
        ),
        ({"additionalProperties": False}, {f"n{n}": n for n in range(50_000)}),
        ({"anyOf": [{"items": {"type": "string"}}, {"type": "null"}]}, [1] * 400_000),
        ({"items": {"type": "string"}}, [1] * 400_000),
        ({"items": {"type": "string"}}, ["x"] * 200_000 + [1]),
    ],
)
def test_the_largest_value_takes_no_longer_than_its_size(schema: Json, value: Any) -> None:
    table = TableSchema({"properties": {"a": schema}})
    began = time.process_time()
    table.faults({"a": value})
    assert time.process_time() - began < 5, "seconds of the processor, whoever else has it meanwhile"
