"""Queries: one SELECT where SQLite compares as JSON does, finished in Python where not."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .condition import All, AnyCondition, Condition, Not, Some, Where, read_where
from .data.change import check_asked
from .data.merge import TOMBSTONE
from .data.order import sort_key, value_at
from .data.record import Record
from .data.values import parse
from .errors import InvalidQuery
from .expressions import kind_of, path_of, quoted, value_of

_COMPARED = ("<", "<=", ">", ">=")
_INT64 = 2**63
_MOST = 100  # conditions side by side that SQLite is asked; it takes none that are nested a thousand deep, as many are
_DEEPEST = 8  # and its parser nests little
_MOST_PARAMS = 2 * _MOST
_MOST_TERMS = 64
_Clause = tuple[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Term:
    """A part of an order: a field or path, and whether what is greater comes first."""

    path: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked, checked. `space`: None asks every space. `after`: what the answer begins behind."""

    table: str
    space: str | None
    condition: AnyCondition
    order: tuple[Term, ...]
    limit: int | None
    offset: int
    deleted: bool
    after: Record | None


def check_query(
    table: str,
    space: str | None,
    where: Where,
    order: str | Sequence[str],
    limit: int | None,
    offset: int,
    deleted: bool,
    after: Record | None,
) -> Query:
    """A query that can be answered. Raises InvalidQuery."""
    names = [order] if isinstance(order, str) else order
    if not isinstance(names, list | tuple) or len(names) > _MOST_TERMS:
        raise InvalidQuery(f"an order is a field, or a list of {_MOST_TERMS} at most.")
    if after is not None and (not isinstance(after, Record) or after.table != table):
        raise InvalidQuery("`after` is a record of the table that is asked.")
    terms = tuple(map(_term, names))
    most = None if limit is None else _count(limit)
    return Query(
        check_asked("the table", table), space, read_where(where), terms, most, _count(offset), deleted, after
    )  # fmt: skip


def _term(name: str) -> Term:
    descending = isinstance(name, str) and name.startswith("-")
    return Term(check_asked("an order field", name[1:] if descending else name), descending)


def _count(number: object) -> int:
    """A number of records, as far as SQLite counts. Raises InvalidQuery."""
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise InvalidQuery("limit and offset count from 0.")
    return min(number, _INT64 - 1)


@dataclass(frozen=True, slots=True)
class _Found:
    """A row of the file, not yet a record."""

    names: tuple[str, str, str]
    fields: dict[str, Any]

    @property
    def ties(self) -> tuple[str, str]:
        """What is in order where nothing else is: the id, then the space."""
        return self.names[2], self.names[1]


def find(db: sqlite3.Connection, query: Query) -> list[Record]:
    """The records that a query asks for."""
    selected, whole = _where(query)
    ordering = _order_by(query.order)
    if ordering is not None:
        found = _in_order(db, query, selected, ordering, whole)
        if not any(_is_large(value_at(one.fields, term.path)) for one in found for term in query.order):
            return [Record(*one.names, one.fields) for one in found]
    matching = [one for one in _rows(db, selected) if whole or query.condition.holds(one.fields)]
    matching.sort(key=lambda one: one.ties)
    for term in reversed(query.order):
        matching.sort(key=lambda one: sort_key(value_at(one.fields, term.path)), reverse=term.descending)
    beyond = [one for one in matching if _is_beyond(one, query)]
    end = None if query.limit is None else query.offset + query.limit
    return [Record(*one.names, one.fields) for one in beyond[query.offset : end]]


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """How a query is answered.

    `index`: the fields of the declared index that finds its records, None where all of the table in its space are
    looked through. `sorted`: the index has them in order already, or at least by the first field. `decided`: SQLite
    decides the whole condition and order; else the rest is decided in Python. `steps`: SQLite's own words.
    """

    index: tuple[str, ...] | None
    sorted: bool
    decided: bool
    steps: tuple[str, ...]


def explain(db: sqlite3.Connection, query: Query, indexes: Mapping[str, tuple[str, ...]]) -> QueryPlan:
    """How a query is answered. `indexes`: the fields of those that there are, by name."""
    selected, whole = _where(query)
    ordering = _order_by(query.order)
    ends = "" if ordering is None else f" ORDER BY {ordering}"
    sql = f"EXPLAIN QUERY PLAN SELECT doc FROM records WHERE {selected[0]}{ends}"
    steps = tuple(row[3] for row in db.execute(sql, selected[1]))
    words = {word for step in steps for word in step.split()}
    used = [fields for name, fields in indexes.items() if name in words]
    unsorted = any(step.endswith("B-TREE FOR ORDER BY") for step in steps)
    return QueryPlan(
        used[0] if used else None, ordering is not None and not unsorted, whole and ordering is not None, steps
    )


def _in_order(db: sqlite3.Connection, query: Query, selected: _Clause, ordering: str, whole: bool) -> list[_Found]:
    """What SQLite has put in order. `whole`: it has decided the whole condition."""
    clauses, params = selected
    if query.after is not None:
        bound, values = _bound(query)
        clauses, params = f"{clauses}{bound}", [*params, *values]
    ends = f" ORDER BY {ordering}"
    if whole and query.after is None:
        page = [-1 if query.limit is None else query.limit, query.offset]
        return list(_rows(db, (clauses, params), f"{ends} LIMIT ? OFFSET ?", page))
    found: list[_Found] = []
    end = None if query.limit is None else query.offset + query.limit
    for one in _rows(db, (clauses, params), ends):
        if end is not None and len(found) >= end:
            break
        if (whole or query.condition.holds(one.fields)) and _is_beyond(one, query):
            found.append(one)
    return found[query.offset : end]


def _rows(db: sqlite3.Connection, selected: _Clause, ends: str = "", more: Sequence[Any] = ()) -> Iterator[_Found]:
    sql = f"SELECT tbl, space, id, doc FROM records WHERE {selected[0]}{ends}"
    for table, space, record, doc in db.execute(sql, (*selected[1], *more)):
        yield _Found((table, space, record), parse(doc))


def _where(query: Query) -> tuple[_Clause, bool]:
    """What SQLite decides, and whether nothing is left to be decided."""
    params: list[Any] = []
    clauses = [f"tbl = {quoted(query.table)}"]  # said in the text, by which an index on fields of the table is found
    if query.space is not None:
        clauses.append("space = ?")
        params.append(query.space)
    if not query.deleted:
        clauses.append("deleted = 0")
    parts = query.condition.parts if isinstance(query.condition, All) else (query.condition,)
    decided = [_clause(part) if n < _MOST else None for n, part in enumerate(parts)]
    for clause in decided:
        if clause is not None:
            clauses.append(clause[0])
            params += clause[1]
    return (" AND ".join(clauses), params), None not in decided


def _order_by(order: Sequence[Term]) -> str | None:
    paths = [path_of(term.path) for term in order]
    terms = [
        f"{value_of(path)}{' DESC' if term.descending else ''}" for path, term in zip(paths, order, strict=True) if path
    ]
    return None if None in paths else ", ".join([*terms, "id", "space"])


def _bound(query: Query) -> _Clause:
    """What spares SQLite most of what comes before `after`; the rest is told apart in Python."""
    assert query.after is not None
    if not query.order:
        return " AND id >= ?", [query.after.id]
    first, path = query.order[0], path_of(query.order[0].path)
    value = value_at(fields_of(query.after), first.path)
    if path is None or isinstance(value, list | dict) or not operand_fits(value):
        return "", []
    if not first.descending:
        return ("", []) if value is None else (f" AND {value_of(path)} >= ?", [value])
    if value is None:
        return f" AND {value_of(path)} IS NULL", []
    return f" AND ({value_of(path)} IS NULL OR {value_of(path)} <= ?)", [value]


def fields_of(record: Record) -> dict[str, Any]:
    """The fields of a record with its tombstone."""
    return {**record, TOMBSTONE: record.deleted_at}


def _is_beyond(one: _Found, query: Query) -> bool:
    """Whether it comes after what the answer begins behind."""
    if query.after is None:
        return True
    start = fields_of(query.after)
    for term in query.order:
        here, there = sort_key(value_at(one.fields, term.path)), sort_key(value_at(start, term.path))
        if here != there:
            return bool((here > there) != term.descending)
    return one.ties > (query.after.id, query.after.space or "")


def _is_large(value: Any) -> bool:
    """SQLite rounds integers of this size, so that it cannot tell them apart."""
    return isinstance(value, int | float) and abs(value) >= _INT64


def _clause(condition: AnyCondition, nested: int = 0) -> _Clause | None:
    """SQL that means the same as a condition, or None where SQLite's comparison would differ, or it takes none such."""
    if nested > _DEEPEST:
        return None
    match condition:
        case Condition():
            return _compared(condition)
        case Not(part):
            inner = _clause(part, nested + 1)
            return inner and (f"NOT coalesce({inner[0]}, 0)", inner[1])
        case All(parts) | Some(parts):
            clauses = [clause for part in parts[:_MOST] if (clause := _clause(part, nested + 1)) is not None]
            params = [param for _, some in clauses for param in some]
            if len(clauses) < len(parts) or len(params) > _MOST_PARAMS:
                return None
            word, none = (" AND ", "1") if isinstance(condition, All) else (" OR ", "0")
            joined = word.join(text for text, _ in clauses) or none
            return f"({joined})", params


def _compared(condition: Condition) -> _Clause | None:
    path, operator, operand = path_of(condition.field), condition.operator, condition.operand
    if operator == "between":
        low, high = (Condition(condition.field, end, operand[n]) for n, end in enumerate((">=", "<=")))
        return _clause(All((low, high)))
    if path is None or operator not in ("=", *_COMPARED) or not operand_fits(operand):
        return None
    if operand is None:
        return f"{value_of(path)} IS NULL", []
    if isinstance(operand, bool):
        kinds = f"= '{'true' if operand else 'false'}'"
    else:
        kinds = "= 'text'" if isinstance(operand, str) else "IN ('integer', 'real')"
    return f"({value_of(path)} {operator} ? AND {kind_of(path)} {kinds})", [operand]


def operand_fits(operand: Any) -> bool:
    """Whether SQLite holds the operand as it is, and compares with it exactly, whichever digits a double is kept in."""
    match operand:
        case bool() | None:
            return True
        case int():
            return -(2**53) <= operand <= 2**53
        case float():
            return abs(operand) <= 2**53
        case str():
            return operand.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in operand)
        case _:
            return False
