"""Tables from elsewhere: which column is what, and what a row of named values becomes."""

from __future__ import annotations

import base64
import math
from typing import Any, NamedTuple

from msgspec import Raw

from syncd.core.errors import Malformed
from syncd.core.values import InvalidValue, check_text
from syncd.protocol.messages import IncomingChange, IncomingRegister
from syncd.transfer.sources.foreign import UNTIMED, ForeignChange, UnreadableRow, as_json, instant

CLIENT = "import"


class Columns(NamedTuple):
    """Which columns say what. Each of user, space and time is a fixed one, a column's, or (space, time) neither: the
    user's personal space; the weakest stamp, which never beats an edit. `json`: columns whose text is JSON."""

    app: str
    id: str = "id"
    user: str | None = None
    user_column: str | None = None
    space: str | None = None
    space_column: str | None = None
    at: str | None = None
    at_column: str | None = None
    json: frozenset[str] = frozenset()
    left_out: frozenset[str] = frozenset()
    imported_at: str = UNTIMED

    def needed(self) -> list[str]:
        """The columns without which no row can be read."""
        named = (self.id, self.user_column, self.space_column, self.at_column, *sorted(self.json))
        return [name for name in named if name is not None]


def found(columns: Columns, table: str, values: dict[str, Any]) -> list[ForeignChange]:
    """The change of a row: an insert of a record with a field for each column but the id's. Raises Unreadable."""
    user = _text(values, columns.user_column) if columns.user_column else columns.user
    if user is None:
        raise UnreadableRow("invalid_row", f"column {columns.user_column} is empty: a row needs its user")
    space = _text(values, columns.space_column) if columns.space_column else columns.space
    at = columns.at or UNTIMED
    if columns.at_column and values.get(columns.at_column) not in (None, ""):
        at = instant(_plain(values[columns.at_column]), f"column {columns.at_column}")
    record = _text(values, columns.id)
    if record is None:
        raise UnreadableRow("invalid_row", f"column {columns.id} is empty: a record needs its id")
    identity, left_out = columns.id, columns.left_out
    fields = {
        name: IncomingRegister(value if type(value) is Raw else _value(columns, name, value), at)
        for name, value in values.items()
        if name != identity and name not in left_out
    }
    fields = fields or {"deletedAt": IncomingRegister(Raw(b"null"), at)}  # it has only its id, and is there
    # Only its log is younger than it: what it replaces was not here.
    created = columns.imported_at if at == UNTIMED else at
    return [
        ForeignChange(columns.app, user, space, CLIENT, created, IncomingChange(table, record, "insert", fields=fields))
    ]


def _plain(value: Any) -> Any:
    """A value of a line of JSON, decoded."""
    import msgspec

    return msgspec.json.decode(value) if isinstance(value, Raw) else value


def _text(values: dict[str, Any], column: str | None) -> str | None:
    """What names something: text, or a whole number."""
    value = _plain(values.get(str(column)))
    if value is None or value == "":
        return None
    if isinstance(value, str):
        if not value.isprintable():
            as_json(value, f"column {column}")
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise UnreadableRow("invalid_row", f"column {column} is neither text nor a whole number")


def _value(columns: Columns, name: str, value: Any) -> Raw:
    if isinstance(value, Raw):
        return value
    if name in columns.json and isinstance(value, str):
        return _parsed(name, value)
    if isinstance(value, float) and not math.isfinite(value):
        raise UnreadableRow("invalid_value", f"column {name} is not a finite number")
    if isinstance(value, bytes):
        value = base64.b64encode(value).decode()
    return as_json(value, f"column {name}")


def _parsed(name: str, text: str) -> Raw:
    import msgspec

    if not text.strip():
        return Raw(b"null")
    try:
        raw = text.encode()
        check_text(raw)
        msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise UnreadableRow("invalid_value", f"column {name} is no JSON") from None
    except (InvalidValue, Malformed) as why:
        raise UnreadableRow("invalid_value", f"column {name}: {why}") from None
    return Raw(raw.strip())
