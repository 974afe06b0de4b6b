"""Types of records from JSON Schemas: as narrow as the schema where a type can be, and never too narrow."""

from __future__ import annotations

import re
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.service.python_types import python_types
from syncd.service.record_types import Constant, ListOf, ObjectOf, Scalar, Types, record_type, types_of
from syncd.service.schema_limits import without_refs
from syncd.service.typescript_types import typescript_types

DEFS = {"$defs": {"day": {"type": "string", "format": "date"}}}


def in_typescript(part: object, **more: Any) -> str:
    """The type of a field, `x?: …` where it is not required."""
    made = typescript_types("a", {"t": record_type({"properties": {"x": part}, **DEFS, **more})})
    [line] = re.findall(r"^  (x\??: .*);$", made, re.MULTILINE)
    return line


def in_python(part: object) -> str:
    made = python_types("a", {"t": record_type({"properties": {"x": part}, **DEFS})})
    [line] = re.findall(r"^class T\(TypedDict, total=False\):\n    x: (.*)$", made, re.MULTILINE)
    return line


TEXT, WHOLE, NULL = {"type": "string"}, {"type": "integer"}, {"type": "null"}
EXACT = {"type": "integer", "minimum": 0, "maximum": 10}
AB = {"type": "object", "properties": {"a": TEXT, "b": WHOLE}, "required": ["a"]}


@pytest.mark.parametrize(
    ("part", "typescript", "python"),
    [
        (TEXT, "string", "str"),
        (WHOLE, "number | bigint", "int"),
        (EXACT, "number", "int"),
        ({"type": "integer", "minimum": 0, "maximum": 2**53}, "number | bigint", "int"),
        ({"type": "number", "exclusiveMinimum": -5, "exclusiveMaximum": 5}, "number", "float"),
        ({"type": "number", "minimum": 0}, "number | bigint", "float"),
        ({"type": "boolean"}, "boolean", "bool"),
        ({"type": ["string", "null"]}, "string | null", "str | None"),
        ({"type": "string", "format": "date"}, "string", "str"),
        ({"enum": ["a", 1, 2.5, None, True]}, '"a" | 1 | 2.5 | null | true', "Literal['a', 1, True] | float | None"),
        ({"enum": ["a", 1], "type": "string"}, '"a"', "Literal['a']"),
        ({"enum": [1, 1.0, True]}, "1 | true", "Literal[1, True]"),
        ({"enum": [[1], {"a": 1}]}, "readonly 1[] | { readonly a: 1 }", "list[Literal[1]] | TX"),
        ({"const": 2**60}, "number | bigint", "int"),
        ({"enum": ["a"], "anyOf": [{"maxLength": 3}, NULL]}, '"a"', "Literal['a']"),
        ({}, "Json", "Any"),
        (True, "Json", "Any"),
        (False, "never", "Never"),
        ({"maxLength": 3}, "Json", "Any"),
        ({"not": NULL}, "Json", "Any"),
        ({"if": TEXT, "then": {"maxLength": 3}, "else": NULL}, "Json", "Any"),
        ({"properties": {"a": TEXT}}, "Json", "Any"),
        ({"type": "array"}, "readonly Json[]", "list[Any]"),
        ({"type": "array", "items": WHOLE}, "readonly (number | bigint)[]", "list[int]"),
        ({"type": "array", "prefixItems": [TEXT], "items": False}, "readonly string[]", "list[str]"),
        ({"type": "array", "prefixItems": [TEXT]}, "readonly Json[]", "list[Any]"),
        ({"type": "array", "contains": TEXT}, "readonly Json[]", "list[Any]"),
        ({"type": "object"}, "JsonObject", "dict[str, Any]"),
        ({"type": "object", "additionalProperties": TEXT}, "{ readonly [name: string]: string }", "dict[str, str]"),
        ({"type": "object", "additionalProperties": False}, "{ readonly [name: string]: never }", "dict[str, Never]"),
        (
            {"type": "object", "patternProperties": {"^x": TEXT}, "additionalProperties": EXACT},
            "{ readonly [name: string]: number | string }", "dict[str, int | str]",
        ),
        (AB, "{ readonly a: string; readonly b?: number | bigint }", "TX"),
        (
            {**AB, "additionalProperties": True},
            "{ readonly a: string; readonly b?: number | bigint; readonly [name: string]: Json | undefined }",
            "dict[str, Any]",
        ),
        (
            {"type": "object", "properties": {"a-b": TEXT}, "required": ["c"]},
            '{ readonly "a-b"?: string; readonly c: Json }', "TX",
        ),
        ({"$ref": "#/$defs/day"}, "string", "str"),
        ({"$ref": "#/$defs/day", "enum": ["x", 1]}, '"x"', "Literal['x']"),
        ({"anyOf": [TEXT, NULL, {"const": "a"}]}, "string | null", "str | None"),
        ({"oneOf": [EXACT, {"type": "number"}]}, "number | bigint", "int | float"),
        ({"allOf": [{"type": ["string", "integer"]}, {"type": ["integer", "null"]}]}, "number | bigint", "int"),
        ({"allOf": [TEXT, WHOLE]}, "never", "Never"),
        ({"allOf": [{"type": "number"}, EXACT]}, "number", "int"),
        (
            {"type": "object", "properties": {"a": TEXT},
             "allOf": [{"properties": {"a": {"const": "x"}}, "required": ["a"]}]},
            '{ readonly a: "x" }', "TX",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_a_part_of_a_schema_is_of_the_type(part: object, typescript: str, python: str) -> None:
    assert in_typescript(part) == f"x?: {typescript}"
    assert in_python(part).replace('"', "'") == python


def test_fields_are_those_of_all_alternatives_and_the_tombstone_is_none() -> None:
    one = {"properties": {"kind": {"const": "a"}, "x": TEXT}, "required": ["kind", "x"], "additionalProperties": False}
    two = {"properties": {"kind": {"const": "b"}}, "required": ["kind"], "additionalProperties": False}
    found = dict(record_type({"oneOf": [one, two], "properties": {"deletedAt": TEXT}}).members)
    assert {name: member.required for name, member in found.items()} == {"kind": True, "x": False}
    assert [one.value for one in found["kind"].types or () if isinstance(one, Constant)] == ["a", "b"]
    assert in_typescript(TEXT, required=["x"]) == "x: string"
    open_ = {"properties": {"kind": {"const": "b"}}}
    assert dict(record_type({"anyOf": [one, open_]}).members)["x"].types is None


def test_many_alternatives_are_looked_at_in_no_time() -> None:
    some = [{"properties": {"x": {"properties": {str(n): TEXT}, "type": "object"}}} for n in range(40)]
    assert record_type({"allOf": [{"anyOf": some}] * 20}).members
    many = {"enum": [f"{n}" for n in range(8000)]}
    assert len(types_of({"type": "string", **many}) or ()) == 8000


def test_names_that_are_none_in_the_language_and_names_that_are_there_twice() -> None:
    names = ("a b", "a-b", "1", "", "tables", "☃", 'q"\n')
    tables = {name: record_type({"properties": {"x": TEXT}}) for name in names}
    typescript, python = typescript_types("a*/", tables), python_types('a"\n', tables)
    assert "export interface AB {" in typescript
    assert '  "a b": AB;\n  "a-b": AB2;\n' in typescript
    assert '  "1": T1;\n' in typescript
    assert "  tables: Tables2;\n" in typescript
    assert '/** The tables of "a*\\/"' in typescript
    given = re.findall(r"^export interface (\w+)", typescript, re.MULTILINE)
    assert len(set(given)) == len(given) == 8
    compile(python, "made", "exec")
    assert re.findall(r"^class (\w+)\(TypedDict", python, re.MULTILINE) == given[:-1]


def test_a_note_is_one_line_and_no_more_than_a_note() -> None:
    part = {"type": "string", "description": "type: ignore\n\u202e*/ and # more"}
    tables = {"t": record_type({"properties": {"x": part}})}
    assert "class T(TypedDict, total=False):\n    #: type: ignore */ and # more\n    x: str\n" in python_types(
        "a", tables
    )
    assert "  /** type: ignore *\\/ and # more */\n  x?: string;\n" in typescript_types("a", tables)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 2.0, 2**60, "", "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=6,
)
KINDS = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
SIMPLE = st.booleans() | st.fixed_dictionaries({}, optional={
    "type": KINDS | st.lists(KINDS, min_size=1, max_size=3, unique=True),
    "enum": st.lists(JSON, min_size=1, max_size=3, unique_by=repr),
    "required": st.lists(st.sampled_from(["a", "b", "c"]), max_size=2, unique=True),
    "minimum": st.integers(-2, 2), "maximum": st.integers(-2, 2), "maxLength": st.integers(0, 1),
})  # fmt: skip
PARTS = st.recursive(SIMPLE, lambda inner: st.fixed_dictionaries({}, optional={
    "type": KINDS, "const": JSON,
    "properties": st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    "patternProperties": st.dictionaries(st.sampled_from(["^a", "c"]), inner, max_size=1),
    "additionalProperties": inner, "items": inner, "prefixItems": st.lists(inner, min_size=1, max_size=2),
    "anyOf": st.lists(inner, min_size=1, max_size=3), "oneOf": st.lists(inner, min_size=1, max_size=3),
    "allOf": st.lists(inner, min_size=1, max_size=3), "not": inner, "if": inner, "then": inner, "else": inner,
}), max_leaves=8)  # fmt: skip


def is_of(types: Types, value: Any) -> bool:
    """Whether a value is of one of the types."""
    return types is None or any(is_of_one(one, value) for one in types)


def is_of_one(one: Any, value: Any) -> bool:
    kinds: dict[str, Any] = {"null": type(None), "boolean": bool, "string": str, "number": int | float, "integer": int}
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    match one:
        case Scalar(kind) | Constant(kind):
            fits = isinstance(value, kinds[kind]) and isinstance(value, bool) is (kind == "boolean")
            return fits and (isinstance(one, Scalar) or one.value == value)
        case ListOf(items):
            return isinstance(value, list) and all(is_of(items, item) for item in value)
        case ObjectOf(members):
            there = isinstance(value, dict) and all(name in value for name, member in members if member.required)
            return there and all(is_of(one.member(name).types, part) for name, part in value.items())
    raise AssertionError(one)


@settings(max_examples=400, deadline=None)
@given(PARTS, st.lists(JSON, min_size=1, max_size=8))
def test_no_type_is_too_narrow_for_what_the_schema_takes(part: Any, values: list[Any]) -> None:
    validator = jsonschema_rs.Draft202012Validator(part)
    types = types_of(without_refs(part) if isinstance(part, dict) else part)
    for value in values:
        assert is_of(types, value) or not validator.is_valid(value), (part, value, types)
        if isinstance(part, dict) and isinstance(value, dict) and validator.is_valid(value):
            value.pop("deletedAt", None)
            assert is_of_one(record_type(part), value), (part, value)
