"""What a view of a table has for columns, by the table's JSON Schema; and what views and columns are called.

What each column is made of is in sync_report_column (schema/functions/reports.sql), and for a projection in
projections.sql.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from syncd.service.schema_limits import without_refs

# What every record has. The columns of fields stand between the two.
BEFORE = {"space_id": "text", "id": "text"}
AFTER = {"created_at": "timestamptz", "updated_at": "timestamptz", "updated_by": "text", "deleted": "boolean"}
# What no column of a table can be called in PostgreSQL.
OF_THE_SYSTEM = ("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid")
FIXED = frozenset({*BEFORE, *AFTER, *OF_THE_SYSTEM})
# Bytes of a name in PostgreSQL; a view's leaves room for `_indexed`.
LONGEST, LONGEST_VIEW = 63, 55
# PostgreSQL has 1,664 columns at most in what a query answers.
MOST_COLUMNS = 1500
# A row of a table has 8 KB at most, and what lies outside of it takes 18 bytes there.
MOST_PROJECTED = 300
OF_TYPES = {"string": "text", "integer": "bigint", "number": "double precision", "boolean": "boolean"}
OF_FORMATS = {"date": "date", "date-time": "timestamptz"}
OPEN = "jsonb"


class ReportColumn(NamedTuple):
    """A column of a view. `field`: whose values it has, None for what every record has, under the column's name."""

    column: str
    type: str
    field: str | None = None

    def said(self) -> dict[str, str]:
        """As the database keeps it."""
        named = {"is": self.column} if self.field is None else {"field": self.field}
        return {"column": self.column, "type": self.type, **named}

    @classmethod
    def of(cls, said: dict[str, str]) -> ReportColumn:
        """From what the database keeps."""
        return cls(said["column"], said["type"], said.get("field"))


class ReportRefused(Exception):
    """A table has no view. Its text says why."""


def report_columns(schema: dict[str, Any]) -> list[ReportColumn]:
    """The columns of a table's view in their order. Raises ReportRefused."""
    whole = without_refs(schema)
    fields = {name: _type(part) for name, part in _properties(whole)}
    if len(fields) > MOST_COLUMNS:
        raise ReportRefused(f"it has more than {MOST_COLUMNS:,} fields")
    columns = [ReportColumn(column_name(name), type_, name) for name, type_ in fields.items()]
    if len({one.column for one in columns}) < len(columns):
        raise ReportRefused("two of its fields would have the same name as columns")
    before = [ReportColumn(name, type_) for name, type_ in BEFORE.items()]
    return [*before, *columns, *(ReportColumn(name, type_) for name, type_ in AFTER.items())]


def indexed_fields(schema: dict[str, Any]) -> list[str]:
    """The fields with `"x-index": true`, in their order. Raises ReportRefused for one that no index is made of."""
    whole = without_refs(schema)
    fields = [name for name, part in _properties(whole) if _is_indexed(part)]
    columns = {one.field: one for one in report_columns(schema)}
    for name in fields:
        if columns[name].type == OPEN:
            raise ReportRefused(f"{name}: an index is made of a text, a number, a boolean, a date or an instant")
    if fields:
        check_projected(list(columns.values()))
    return fields


def _is_indexed(part: Any) -> bool:
    if not isinstance(part, dict):
        return False
    return part.get("x-index") is True or any(_is_indexed(one) for one in part.get("allOf") or ())


def _properties(whole: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields that a schema names at its top, and in the parts that all hold for a record. The tombstone is none,
    and no text in PostgreSQL has a null character."""
    for name, part in (whole.get("properties") or {}).items():
        if name != "deletedAt" and "\0" not in name:
            yield name, part
    for part in whole.get("allOf") or ():
        if isinstance(part, dict):
            yield from _properties(part)


def _type(part: Any) -> str:
    """The type of a field's column: a scalar one where the schema leaves no other, beside null."""
    found = _types(part)
    if found == {"bigint", "double precision"}:
        return "double precision"
    return found.pop() if len(found) == 1 else OPEN


def _types(part: Any) -> set[str]:
    """The types of columns that a field's values would be of, null left out. Of what holds together one is enough."""
    if not isinstance(part, dict):
        return {OPEN}
    if "type" in part:
        said = part["type"] if isinstance(part["type"], list) else [part["type"]]
        return {_of_type(name, part) for name in said if name != "null"} or {OPEN}
    if "const" in part or "enum" in part:
        values = [part["const"]] if "const" in part else part["enum"]
        return {_of_value(value) for value in values if value is not None} or {OPEN}
    for word in ("anyOf", "oneOf"):
        if word in part:
            return {type_ for one in part[word] if one != {"type": "null"} for type_ in _types(one)} or {OPEN}
    known = [types for one in part.get("allOf") or () if (types := _types(one)) != {OPEN}]
    return known[0] if known else {OPEN}


def _of_type(name: str, part: dict[str, Any]) -> str:
    if name == "string":
        return OF_FORMATS.get(part.get("format", ""), "text")
    return OF_TYPES.get(name, OPEN)


def _of_value(value: Any) -> str:
    kinds = ((bool, "boolean"), (str, "text"), (int, "bigint"), (float, "double precision"))
    return next((type_ for kind, type_ in kinds if isinstance(value, kind)), OPEN)


def column_name(field: str) -> str:
    """What a field's column is called: as the field. One that is too long, or another column's, is known by a digest
    of its name, so that no other field of the table changes what it is called."""
    if field in FIXED or not field:
        return f"field_{field}"
    taken = field.startswith("field_") and (field[6:] in FIXED or field == "field_")
    return _shortened(field, LONGEST) if taken or len(field.encode()) > LONGEST else field


def view_name(app: str, table: str, taken: Collection[str]) -> str:
    """What a table's view is called: APP_TABLE, or with a digest where that is another's or too long."""
    plain = f"{app}_{table}"
    if len(plain.encode()) > LONGEST_VIEW or {plain, indexed(plain)} & set(taken):
        return _shortened(plain, LONGEST_VIEW, f"{app}/{table}")
    return plain


def indexed(view: str) -> str:
    """What the view over the indexed copy of a table is called."""
    return f"{view}_indexed"


def _shortened(name: str, longest: int, of: str | None = None) -> str:
    digest = sha256((of or name).encode()).hexdigest()[:8]
    return f"{name.encode()[: longest - 9].decode(errors='ignore')}_{digest}"


def replaced(before: Sequence[ReportColumn], wanted: Sequence[ReportColumn]) -> list[ReportColumn] | None:
    """The columns of a view that is put in the place of another whose dependents stay: those that it has, and then what
    is new. None where one has another type now, or is no longer wanted."""
    if not set(before) <= set(wanted):
        return None
    return [*before, *(one for one in wanted if one not in before)]


def kept(before: Sequence[ReportColumn], wanted: Sequence[ReportColumn]) -> list[ReportColumn] | None:
    """The same with those that are no longer wanted; None where one has another type or field now. Raises
    ReportRefused for too many."""
    by_name = {one.column: one for one in wanted}
    if any(by_name.get(one.column, one) != one for one in before):
        return None
    columns = [*before, *(one for one in wanted if one not in before)]
    if len(columns) > MOST_COLUMNS + len(BEFORE) + len(AFTER):
        raise ReportRefused(f"with those that stay it has more than {MOST_COLUMNS:,} fields")
    return columns


def check_projected(columns: Sequence[ReportColumn]) -> None:
    """Raises ReportRefused for more columns than a table with indexes has."""
    if len(columns) > MOST_PROJECTED:
        raise ReportRefused(f"it has an index and more than {MOST_PROJECTED} fields")
