"""What a table's view has for columns, and what they and it are called."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.service.report_columns import (
    FIXED,
    LONGEST,
    LONGEST_VIEW,
    ReportColumn,
    ReportRefused,
    column_name,
    kept,
    replaced,
    report_columns,
    view_name,
)

Json = dict[str, Any]


def of(part: object, **more: Any) -> str:
    """The type of a field's column."""
    [column] = [one for one in report_columns({"properties": {"x": part}, **more}) if one.field == "x"]
    return column.type


@pytest.mark.parametrize(
    ("part", "type_"),
    [
        ({"type": "string"}, "text"),
        ({"type": "integer"}, "bigint"),
        ({"type": "number"}, "double precision"),
        ({"type": "boolean"}, "boolean"),
        ({"type": "string", "format": "date"}, "date"),
        ({"type": "string", "format": "date-time"}, "timestamptz"),
        ({"type": "string", "format": "email"}, "text"),
        ({"type": ["string", "null"]}, "text"),
        ({"type": ["integer", "number"]}, "double precision"),
        ({"type": ["integer", "string"]}, "jsonb"),
        ({"type": "array"}, "jsonb"),
        ({"type": "object"}, "jsonb"),
        ({"type": "null"}, "jsonb"),
        ({"enum": ["a", "b", None]}, "text"),
        ({"enum": [1, 2.5]}, "double precision"),
        ({"enum": ["a", 1]}, "jsonb"),
        ({"const": True}, "boolean"),
        ({"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}, "date"),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, "jsonb"),
        ({"$ref": "#/$defs/day"}, "date"),
        ({"allOf": [{"maxLength": 3}, {"type": "string"}]}, "text"),
        ({"maxLength": 3}, "jsonb"),
        (True, "jsonb"),
        ({}, "jsonb"),
    ],
)
def test_a_column_has_the_type_that_a_schema_leaves(part: object, type_: str) -> None:
    assert of(part, **{"$defs": {"day": {"type": "string", "format": "date"}}}) == type_


def test_fields_stand_in_their_order_between_what_every_record_has() -> None:
    schema = {"properties": {"title": {}, "deletedAt": {}, "done": {}}, "allOf": [{"properties": {"more": {}}}]}
    names = [one.column for one in report_columns(schema)]
    assert names == [
        "space_id", "id", "title", "done", "more", "created_at", "updated_at", "updated_by", "deleted",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "column"),
    [
        ("dueAt", "dueAt"),
        ('say "x"', 'say "x"'),
        ("id", "field_id"),
        ("deleted", "field_deleted"),
        ("ctid", "field_ctid"),
        ("", "field_"),
        ("x" * 63, "x" * 63),
        ("x" * 64, f"{'x' * 54}_7ce100971f64e7001e8fe5a51973ecdfe1ced42befe7ee8d5fd6219506b5393c"[:63]),
    ],
)
def test_a_column_is_called_as_its_field(field: str, column: str) -> None:
    assert column_name(field) == column


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=80) | st.sampled_from(
    [*FIXED, *(f"field_{name}" for name in FIXED), "field_"]
)


@given(st.lists(NAMES, unique=True, max_size=30))
def test_names_of_columns_are_theirs_alone_and_fit(fields: list[str]) -> None:
    names = [column_name(field) for field in fields]
    assert len(set(names)) == len(names)
    assert all(0 < len(name.encode()) <= LONGEST for name in names)
    assert FIXED.isdisjoint(names)


@given(st.lists(st.tuples(NAMES, NAMES), unique=True, max_size=20))
def test_names_of_views_are_theirs_alone_and_leave_room(tables: list[tuple[str, str]]) -> None:
    taken = list[str]()
    for app, table in tables:
        name = view_name(app, table, taken)
        assert len(name.encode()) <= LONGEST_VIEW
        assert not {name, f"{name}_indexed"} & set(taken)
        taken += [name, f"{name}_indexed"]


def test_views_that_would_have_the_same_name() -> None:
    assert view_name("a", "b_c", []) == "a_b_c"
    other = view_name("a_b", "c", ["a_b_c"])
    assert other.startswith("a_b_c_")
    assert other != "a_b_c"
    assert view_name("notes", "pages", ["notes_pages_indexed"]) != "notes_pages"


def test_more_columns_than_a_query_has_are_refused() -> None:
    with pytest.raises(ReportRefused, match="more than"):
        report_columns({"properties": {f"f{n}": {} for n in range(1501)}})


def test_what_a_view_becomes_when_its_schema_changes() -> None:
    a, b, c = (ReportColumn(name, "text", name) for name in "abc")
    assert replaced([a, b], [b, c, a]) == [a, b, c]
    assert replaced([a, b], [a]) is None
    assert kept([a, b], [a, c]) == [a, b, c]
    assert kept([a, b], [a._replace(type="bigint"), b]) is None
    assert kept([a, b], [a._replace(field="x"), b]) is None
