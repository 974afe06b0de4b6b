"""Records with those that they are related to by an id, the same as in the TypeScript client. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .data.record import Record
from .errors import InvalidQuery
from .measures import read

_Find = Callable[[Record], Any]


def include(records: Iterable[Record], related: Mapping[str, Mapping[str, Any]]) -> list[Record]:
    """The records, each with those that it is related to in `included`.

    `{"owner": {"one": replica.query("users"), "by": "owner"}}`: of other records the one whose id stands in the field
    `by` of this one, else None. `{"comments": {"many": replica.query("comments", order="at"), "by": "task"}}`: those
    whose field `by` holds the id of this one, as ordered there, at most `limit`. They are of the record's own space,
    unless `anySpace`. Raises InvalidQuery.
    """
    finds = {name: _read(how) for name, how in related.items()}
    return [record.including({name: find(record) for name, find in finds.items()}) for record in records]


def _read(how: Mapping[str, Any]) -> _Find:
    given = dict(how) if isinstance(how, Mapping) else {}
    one, many, by = given.pop("one", None), given.pop("many", None), given.pop("by", None)
    limit, any_space = given.pop("limit", None), given.pop("anySpace", False)
    rows = many if one is None else one
    if given or (one is not None and many is not None) or not _fit(rows, by, limit):
        raise InvalidQuery(
            'what is related is {"one": records, "by": field}, or {"many": records, "by": field, "limit"}.'
        )

    def place(record: Record, id_: str) -> tuple[str | None, str]:
        return None if any_space else record.space, id_

    held: dict[tuple[str | None, str], list[Record]] = {}
    for row in rows:
        id_ = row.id if many is None else read(row, by)
        if isinstance(id_, str):
            held.setdefault(place(row, id_), []).append(row)

    def find_one(record: Record) -> Record | None:
        id_ = read(record, by)
        return held.get(place(record, id_), [None])[0] if isinstance(id_, str) else None

    def find_many(record: Record) -> list[Record]:
        return held.get(place(record, record.id), [])[:limit]

    return find_one if many is None else find_many


def _fit(rows: Any, by: Any, limit: Any) -> bool:
    return (
        isinstance(rows, list)
        and all(isinstance(row, Record) for row in rows)
        and isinstance(by, str)
        and (limit is None or (isinstance(limit, int) and not isinstance(limit, bool) and limit >= 0))
    )
