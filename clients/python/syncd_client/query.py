"""Queries by field: one SELECT where SQLite compares as JSON does, finished in Python where not."""

from __future__ import annotations

import operator
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .data.change import check_asked
from .data.record import Record
from .data.values import parse
from .errors import InvalidQuery

Where = Mapping[str, Any] | Sequence[tuple[str, str, Any]]

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_OPERATORS = (*_COMPARE, "=", "!=", "in")
_INT64 = 2**63
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Query:
    """A SELECT with its parameters, and what remains to be decided in Python (None: nothing)."""

    sql: str
    params: tuple[Any, ...]
    residue: Callable[[Mapping[str, Any]], bool] | None
    limit: int | None
    offset: int


@dataclass(frozen=True, slots=True)
class Condition:
    """`field operator operand`."""

    field: str
    operator: str
    operand: Any

    def holds(self, fields: Mapping[str, Any]) -> bool:
        """Whether a record fulfils it. A missing field counts as null; other types are never in order."""
        value = fields.get(self.field)
        match self.operator:
            case "=":
                return same(value, self.operand)
            case "!=":
                return not same(value, self.operand)
            case "in":
                return any(same(value, item) for item in self.operand)
            case _:
                return _kind(value) == _kind(self.operand) and _COMPARE[self.operator](value, self.operand)


def same(one: Any, other: Any) -> bool:
    """Equality of JSON: true is not 1, and 1 is 1.0."""
    if _kind(one) != _kind(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    return bool(one == other)


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case _:
            return type(value).__name__


def compile_query(
    table: str,
    space: str | None,
    where: Where,
    order: str | Sequence[str],
    limit: int | None,
    offset: int,
    deleted: bool,
) -> Query:
    """Compiles a query. `space`: None asks every space. Raises InvalidQuery."""
    conditions = read_conditions(where)
    clauses, params = ["tbl = ?"], [check_asked("the table", table)]
    if space is not None:
        clauses.append("space = ?")
        params.append(space)
    if not deleted:
        clauses.append("deleted = 0")
    rest = []
    for condition in conditions:
        clause = _clause(condition)
        if clause is None:
            rest.append(condition)
        else:
            clauses.append(clause[0])
            params += clause[1]
    sql = f"SELECT tbl, space, id, doc FROM records WHERE {' AND '.join(clauses)} ORDER BY "
    terms = [_term(name) for name in ([order] if isinstance(order, str) else order) if name]
    sql += ", ".join([*(term for term, _ in terms), "id", "space"])
    params += [path for _, path in terms]
    most, offset = None if limit is None else _count(limit), _count(offset)
    if rest:
        return Query(sql, tuple(params), lambda fields: all(c.holds(fields) for c in rest), most, offset)
    return Query(f"{sql} LIMIT ? OFFSET ?", (*params, -1 if most is None else most, offset), None, None, 0)


def _count(number: object) -> int:
    """A number of records, as far as SQLite counts. Raises InvalidQuery."""
    if not isinstance(number, int) or number < 0:
        raise InvalidQuery("limit and offset count from 0.")
    return min(number, _INT64 - 1)


def find(db: sqlite3.Connection, query: Query) -> list[Record]:
    """The records that a compiled query asks for."""
    rows = db.execute(query.sql, query.params)
    if query.residue is None:
        return [Record(tbl, held, id, parse(doc)) for tbl, held, id, doc in rows]
    found: list[Record] = []
    end = None if query.limit is None else query.offset + query.limit
    for tbl, held, id, doc in rows:
        if end is not None and len(found) >= end:
            break
        fields = parse(doc)
        if query.residue(fields):
            found.append(Record(tbl, held, id, fields))
    return found[query.offset : end]


def read_conditions(where: Where) -> list[Condition]:
    """Both forms of `where` as conditions. Raises InvalidQuery."""
    if isinstance(where, Mapping):
        triples = [(f, *v) if isinstance(v, tuple) else (f, "=", v) for f, v in where.items()]
    else:
        triples = [tuple(triple) for triple in where]
    conditions = []
    for triple in triples:
        if len(triple) != 3 or triple[1] not in _OPERATORS:
            raise InvalidQuery(f"a condition is (field, operator, value) with one of {', '.join(_OPERATORS)}.")
        condition = Condition(check_asked("a field name", triple[0]), triple[1], triple[2])
        if condition.operator in _COMPARE and _kind(condition.operand) not in ("number", "str"):
            raise InvalidQuery(f"{type(condition.operand).__name__} has no order: compare with a number or with text.")
        if condition.operator == "in" and not isinstance(condition.operand, list | tuple | set | frozenset):
            raise InvalidQuery("`in` needs a list of values.")
        conditions.append(condition)
    return conditions


def _path(field: str) -> str | None:
    """A JSON path, if the name can stand in one."""
    return None if '"' in field or "\\" in field else f'$."{field}"'


def _term(name: str) -> tuple[str, str]:
    field, descending = (name[1:], " DESC") if name.startswith("-") else (name, "")
    path = _path(check_asked("an order field", field))
    if path is None:
        raise InvalidQuery(f"cannot order by {field!r}: its name has a quote or a backslash.")
    return f"json_extract(doc, ?){descending}", path


def _clause(condition: Condition) -> tuple[str, list[Any]] | None:
    """SQL that means the same as the condition, or None where SQLite's comparison would differ."""
    path, operand = _path(condition.field), condition.operand
    if path is None or condition.operator not in ("=", *_COMPARE) or not operand_fits(operand):
        return None
    if operand is None:
        return "json_extract(doc, ?) IS NULL", [path]
    if isinstance(operand, bool):
        return "json_type(doc, ?) = ?", [path, "true" if operand else "false"]
    types = "= 'text'" if isinstance(operand, str) else "IN ('integer', 'real')"
    comparison = f"json_extract(doc, ?) {condition.operator} ?"
    return f"(json_type(doc, ?) {types} AND {comparison})", [path, path, operand]


def operand_fits(operand: Any) -> bool:
    """Whether SQLite holds the operand as it is."""
    if isinstance(operand, int) and not isinstance(operand, bool):
        return -(2**53) <= operand <= 2**53
    if isinstance(operand, str):
        return operand.isascii() or not _SURROGATE.search(operand)
    return operand is None or isinstance(operand, bool | float)
