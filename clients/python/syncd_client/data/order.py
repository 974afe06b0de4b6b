"""Comparison of JSON values, the same as the TypeScript client's: equality, order, and what is at a path. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_GROUPS = {"null": 0, "boolean": 1, "number": 1, "text": 2, "list": 3, "object": 4}


def kind(value: Any) -> str:
    """The kind of a JSON value, as queries tell them apart: true is not 1."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "text"
        case list():
            return "list"
        case _:
            return "object"


def same(one: Any, other: Any) -> bool:
    """Equality of JSON: true is not 1, and 1 is 1.0."""
    if kind(one) != kind(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    return bool(one == other)


def has_order(value: Any) -> bool:
    """Whether there are smaller and greater ones of its kind."""
    return kind(value) in ("number", "text")


def sort_key(value: Any) -> tuple[Any, ...]:
    """What values are sorted by: null, numbers (false as 0, true as 1), texts by code point, lists, objects.

    Lists have no order among themselves, and objects have none.
    """
    group = _GROUPS[kind(value)]
    return (group, value) if group in (1, 2) else (group,)


def value_at(fields: Mapping[str, Any], path: str) -> Any:
    """What a record has at a path, say `place.city`; None where there is nothing.

    A field of that very name, with its dots, goes first. A path leads through objects only.
    """
    if path in fields:
        return fields[path]
    first, *names = path.split(".")
    value = fields.get(first)
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
