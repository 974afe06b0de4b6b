"""`x-writable-by` in a table's schema: only where the database reads it, and only roles that there are."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.service.schema_limits import SchemaRefused
from syncd.service.writable_by import check_writable_by

WORD: dict[str, Any] = {"x-writable-by": "owner"}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        WORD,
        {"x-writable-by": "writer"},
        {"properties": {"state": WORD, "other": {"type": "string"}}},
        {"properties": {"x-writable-by": {"type": "string"}}},
        {"properties": {"state": {"$ref": "#/$defs/x", **WORD}}, "$defs": {"x": {"type": "string"}}},
        {"properties": {"state": {"const": WORD, "default": WORD}}, "examples": [WORD]},
    ],
)
def test_where_it_is_read(schema: dict[str, Any]) -> None:
    check_writable_by(schema)


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"properties": {"a": {"properties": {"b": WORD}}}}, "properties/a/properties/b/x-writable-by"),
        ({"patternProperties": {"^a": WORD}}, "patternProperties/^a/x-writable-by"),
        ({"$defs": {"state": WORD}}, "$defs/state/x-writable-by"),
        ({"allOf": [WORD]}, "allOf/0/x-writable-by"),
        ({"additionalProperties": WORD}, "additionalProperties/x-writable-by"),
        ({"x-writable-by": "admin"}, "x-writable-by"),
        ({"x-writable-by": ["owner"]}, "x-writable-by"),
        ({"x-writable-by": None}, "x-writable-by"),
        ({"properties": {"": WORD}}, "properties//x-writable-by"),
        ({"properties": {"deletedAt": WORD}}, "properties/deletedAt/x-writable-by"),
    ],
)
def test_elsewhere_it_would_be_read_by_nobody_and_is_refused(schema: dict[str, Any], place: str) -> None:
    with pytest.raises(SchemaRefused) as refused:
        check_writable_by(schema)
    assert "/".join(refused.value.path) == place
