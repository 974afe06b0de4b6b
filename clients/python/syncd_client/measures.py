"""What is counted, summed and grouped of records, the same as in the TypeScript client. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .data.merge import TOMBSTONE
from .data.order import has_order, kind, sort_key, value_at
from .data.record import Record
from .data.values import normal
from .errors import InvalidQuery

Measure = str | Mapping[str, str]
_Take = Callable[[list[Record]], Any]


def aggregate(records: Iterable[Record], measures: Mapping[str, Measure]) -> dict[str, Any]:
    """What records come to, by the name of each measure: `{"open": "count", "hours": {"sum": "hours"}}`.

    `"count"`: how many records; `{"count": field}`: of those how many have a value there. `{"sum": field}`: of the
    numbers there, exact where they are integers; 0 where there are none. `{"min": field}`, `{"max": field}`: the first
    and the last in the order of a query of what is there, without null, lists and objects; None where there is nothing.
    Raises InvalidQuery.
    """
    takes = _read(measures)
    rows = list(records)
    return {name: take(rows) for name, take in takes.items()}


def group_by(records: Iterable[Record], by: str, measures: Mapping[str, Measure]) -> list[dict[str, Any]]:
    """The same for each value of a field, which is `by`: None for those that have none.

    In the order of a query; groups that have none stand in the order of their first records. Raises InvalidQuery.
    """
    takes = _read(measures)
    if not isinstance(by, str) or "by" in takes:
        raise InvalidQuery("a group is by one field, and `by` is its value.")
    groups: dict[Any, tuple[Any, list[Record]]] = {}
    for record in records:
        value = read(record, by)
        groups.setdefault(_name(value), (value, []))[1].append(record)
    ordered = sorted(groups.values(), key=lambda group: sort_key(group[0]))
    return [{name: take(rows) for name, take in takes.items()} | {"by": value} for value, rows in ordered]


def read(record: Record, path: str) -> Any:
    """What a record has at a path; `deletedAt` is its deletion."""
    return record.deleted_at if path == TOMBSTONE else value_at(record, path)


def _name(value: Any) -> Any:
    """What equal values have in common."""
    match value:
        case list():
            return ("list", *map(_name, value))
        case dict():
            return ("object", frozenset((member, _name(part)) for member, part in value.items()))
        case _:
            return kind(value), value


def _read(measures: Mapping[str, Measure]) -> dict[str, _Take]:
    return {name: _read_measure(measure) for name, measure in measures.items()}


def _read_measure(measure: Any) -> _Take:
    if measure == "count":
        return len
    if isinstance(measure, Mapping) and len(measure) == 1:
        ((word, path),) = measure.items()
        take = _MEASURES.get(word)
        if take is not None and isinstance(path, str):
            return lambda rows: take([read(row, path) for row in rows])
    raise InvalidQuery('a measure is "count", or one of {"count", "sum", "min", "max"} of a field.')


def _present(values: list[Any]) -> list[Any]:
    return [value for value in values if has_order(value) or isinstance(value, bool)]


def _sum(values: list[Any]) -> Any:
    """Exact where all are integers, else the double that is next to the exact sum."""
    numbers = [value for value in values if kind(value) == "number"]
    whole = [int(value) for value in numbers if isinstance(value, int) or value.is_integer()]
    if len(whole) == len(numbers):
        return normal(sum(whole))
    try:
        return math.fsum(numbers)
    except OverflowError:
        return normal(sum(whole))


_MEASURES: Mapping[str, Callable[[list[Any]], Any]] = {
    "count": lambda values: sum(value is not None for value in values),
    "sum": _sum,
    "min": lambda values: min(_present(values), key=sort_key, default=None),
    "max": lambda values: max(_present(values), key=sort_key, default=None),
}
