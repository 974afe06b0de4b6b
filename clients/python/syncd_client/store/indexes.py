"""Indexes on fields, which the application declares."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Mapping, Sequence

from ..data.change import check_asked
from ..errors import InvalidQuery
from ..expressions import path_of, quoted, value_of
from .store import Store

Indexes = Mapping[str, Sequence[str | Sequence[str]]]
_PREFIX = "fields_"
_MANY, _FEW = 1_000_000, 50
_FIELD = re.compile(r"""ELSE json_extract\(doc, '\$\."((?:[^']|'')*)"'\)""")


def declare(store: Store, indexes: Indexes | None) -> None:
    """Makes these indexes, and removes those that were declared before and are not among them. None: leaves all.

    Raises InvalidQuery.
    """
    if indexes is None:
        return
    wanted = dict(_statement(table, fields) for table, each in indexes.items() for fields in each)
    with store.write() as db:
        before = held(db).keys()
        for name in before - wanted.keys():
            db.execute(f"DROP INDEX {name}")
        for statement in wanted.values():
            db.execute(statement)
        if before != wanted.keys():
            _describe(db, wanted)


def _describe(db: sqlite3.Connection, wanted: Mapping[str, str]) -> None:
    """Tells SQLite what to expect, which it would not know of a file that is empty when its indexes are declared.

    A table in its space has many records, a value of a field few of them.
    """
    rows = [("records", "sqlite_autoindex_records_1", f"{_MANY} {_MANY} {_MANY} 1")]
    for name, statement in wanted.items():
        few = [max(2, _FEW >> (2 * n)) for n in range(len(fields_of(statement)))]
        rows.append(("records", name, " ".join(map(str, [_MANY, _MANY, _MANY, *few, 1]))))
    db.execute("ANALYZE meta")  # makes the table
    db.execute("DELETE FROM sqlite_stat1")
    db.executemany("INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (?, ?, ?)", rows)
    db.execute("ANALYZE sqlite_schema")  # reads it


def held(db: sqlite3.Connection) -> dict[str, str]:
    """The declared indexes of a file, by name, as SQL."""
    found = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND name GLOB ?", (f"{_PREFIX}*",))
    return dict(found.fetchall())


def fields_of(statement: str) -> tuple[str, ...]:
    """The fields of an index, by its SQL."""
    return tuple(field.replace("''", "'") for field in _FIELD.findall(statement))


def _statement(table: str, fields: str | Sequence[str]) -> tuple[str, str]:
    names = [fields] if isinstance(fields, str) else list(fields)
    check_asked("the table", table)
    if not names:
        raise InvalidQuery("an index is on one field or more.")
    values = []
    for field in names:
        path = path_of(check_asked("a field name", field))
        if path is None:
            raise InvalidQuery(f"no index on {field}: its name has a dot, a quote or a backslash.")
        values.append(value_of(path))
    said = json.dumps([table, names])
    name = _PREFIX + hashlib.sha256(said.encode()).hexdigest()[:16]
    columns = ", ".join(["space", "deleted", *values, "id"])
    return name, f"CREATE INDEX IF NOT EXISTS {name} ON records ({columns}) WHERE tbl = {quoted(table)}"
