"""A record as the application sees it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .merge import TOMBSTONE


class Record(Mapping[str, Any]):
    """A record as the application sees it: a read-only mapping of its fields.

    `space` is None in the personal space; `deleted_at` is RFC 3339 text, or None for a live record. `included`: the
    records that it is related to, where `include` was asked for them.
    """

    __slots__ = ("_fields", "deleted_at", "id", "included", "space", "table")

    def __init__(self, table: str, space: str, record: str, fields: dict[str, Any]) -> None:
        self.deleted_at = fields.pop(TOMBSTONE, None)
        self._fields = fields
        self.table = table
        self.id = record
        self.space = space or None
        self.included: Mapping[str, Any] = {}

    def including(self, included: Mapping[str, Any]) -> Record:
        """The same record, with these that it is related to."""
        other = Record(self.table, self.space or "", self.id, dict(self._fields))
        other.deleted_at, other.included = self.deleted_at, included
        return other

    def __getitem__(self, field: str) -> Any:
        return self._fields[field]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"Record({self.table!r}, {self.id!r}, space={self.space!r}, {self._fields!r})"
