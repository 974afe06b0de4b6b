"""Writes that the application asked for, checked at once and collected until they are committed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .data.change import Key, Write, check_asked, check_fields, check_id, name_space
from .data.merge import TOMBSTONE
from .data.record import Record
from .errors import InvalidQuery


class Batch:
    """Several writes that are seen all together or not at all: here, on the server and on other devices.

    Comes from `replica.batch()` and is committed at the end of the `with` block; an exception inside it
    leaves no trace. Reads inside the block do not see its writes yet. `change_ids` is filled by the commit.
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

    def patch(self, table: str, id: str, fields: Mapping[str, Any], *, space: str | None = None) -> None:
        """Writes some fields of a record. A deleted record stays deleted."""
        self._add("update", table, id, space, check_fields(fields, name_space(space, self._user)))

    def delete(self, table: str, id: str, *, space: str | None = None) -> None:
        """Deletes a record. Its fields are kept, so that `undelete` brings them back."""
        self._add("delete", table, id, space, {})

    def undelete(self, table: str, id: str, *, space: str | None = None) -> None:
        """Brings a deleted record back as it was."""
        self._add("update", table, id, space, {TOMBSTONE: None})

    def _add(self, op: Any, table: str, record: str, space: str | None, values: Mapping[str, Any]) -> None:
        check_id("the table", table)
        check_id("the record id", record)
        if space is not None:
            check_id("the space", space)
        self.writes.append(Write(op, table, name_space(space, self._user), record, values, self._extra))


class InSpace:
    """The records of one space: the methods of a replica, without `space`. Comes from `replica.in_("north")`."""

    def __init__(self, replica: Any, space: str | None) -> None:
        self._replica, self.space = replica, space

    def put(self, table: str, id: str, fields: Mapping[str, Any]) -> str:
        """See Replica.put."""
        done: str = self._replica.put(table, id, fields, space=self.space)
        return done

    def patch(self, table: str, id: str, fields: Mapping[str, Any]) -> str:
        """See Replica.patch."""
        done: str = self._replica.patch(table, id, fields, space=self.space)
        return done

    def update(self, table: str, id: str, change: Callable[[Record], Mapping[str, Any]]) -> str:
        """See Replica.update."""
        done: str = self._replica.update(table, id, change, space=self.space)
        return done

    def delete(self, table: str, id: str) -> str:
        """See Replica.delete."""
        done: str = self._replica.delete(table, id, space=self.space)
        return done

    def undelete(self, table: str, id: str) -> str:
        """See Replica.undelete."""
        done: str = self._replica.undelete(table, id, space=self.space)
        return done

    def get(self, table: str, id: str, *, deleted: bool = False) -> Record | None:
        """See Replica.get."""
        done: Record | None = self._replica.get(table, id, space=self.space, deleted=deleted)
        return done

    def query(self, table: str, *given: Any, **more: Any) -> list[Record]:
        """See Replica.query."""
        done: list[Record] = self._replica.query(table, *given, space=self.space, **more)
        return done
