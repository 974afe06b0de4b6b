"""Writes that the application asked for, checked at once and collected until they are committed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .data.change import Key, Write, check_asked, check_fields, check_id, name_space
from .data.merge import TOMBSTONE
from .data.record import Record
from .errors import InvalidQuery


def beside(**given: Any) -> dict[str, Any]:
    """The members that every change of a replica has beside its own: those that are given."""
    return {name: value for name, value in given.items() if value is not None}


class Batch:
    """Several writes that are seen all together or not at all: here, on the server and on other devices.

    Comes from `replica.batch()` and is committed at the end of the `with` block; an exception inside it
    leaves no trace. Reads inside the block do not see its writes yet. `change_ids` is filled by the commit.
    A `patch`, `delete` or `undelete` of a record that is neither on this device nor put in the batch before raises
    NoSuchRecord at the end of the block, and nothing is written; with `upsert` it is written all the same.
    `read`: reads a record in the transaction that the commit ends.
    """

    def __init__(
        self, extra: Mapping[str, Any], user: str | None = None, read: Callable[[Key], Record | None] | None = None
    ) -> None:
        self._extra, self._user, self._read = extra, user, read
        self.writes: list[Write] = []
        self.change_ids: list[str] = []

    def get(self, table: str, id: str, *, space: str | None = None) -> Record | None:
        """A record as it was before this batch; None where there is none.

        From here to the end of the block nobody else writes on this device, so that what is written is made of what was
        read. Raises InvalidQuery, also in an async batch, which has `update` for that.
        """
        if self._read is None:
            raise InvalidQuery("this batch cannot read: use update().")
        named = name_space(space, self._user, InvalidQuery)
        return self._read((check_asked("the table", table), named, check_asked("the record id", id)))

    def put(self, table: str, id: str, fields: Mapping[str, Any], *, space: str | None = None) -> None:
        """Writes a record: creates it, or brings it back if deleted. Fields not named stay."""
        values = check_fields(fields, name_space(space, self._user))
        self._add("insert", table, id, space, {**values, TOMBSTONE: None})

    def patch(
        self, table: str, id: str, fields: Mapping[str, Any], *, space: str | None = None, upsert: bool = False
    ) -> None:
        """Writes some fields of a record. A deleted record stays deleted."""
        self._add("update", table, id, space, check_fields(fields, name_space(space, self._user)), upsert)

    def delete(self, table: str, id: str, *, space: str | None = None, upsert: bool = False) -> None:
        """Deletes a record. Its fields are kept, so that `undelete` brings them back."""
        self._add("delete", table, id, space, {}, upsert)

    def undelete(self, table: str, id: str, *, space: str | None = None, upsert: bool = False) -> None:
        """Brings a deleted record back as it was."""
        self._add("update", table, id, space, {TOMBSTONE: None}, upsert)

    def _add(
        self, op: Any, table: str, record: str, space: str | None, values: Mapping[str, Any], upsert: bool = False
    ) -> None:
        check_id("the table", table)
        check_id("the record id", record)
        if space is not None:
            check_id("the space", space)
        self.writes.append(Write(op, table, name_space(space, self._user), record, values, self._extra, upsert))
