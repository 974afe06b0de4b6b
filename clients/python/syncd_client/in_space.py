"""A handle of one space, so that none of its writes forgets to name it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .data.record import Record

if TYPE_CHECKING:
    from .replica import Replica


class InSpace:
    """The records of one space: the methods of a replica, without `space`. Comes from `replica.in_("north")`."""

    def __init__(self, replica: Replica, space: str | None) -> None:
        self._replica, self.space = replica, space

    def put(self, table: str, id: str, fields: Mapping[str, Any]) -> str:
        """See Replica.put."""
        return self._replica.put(table, id, fields, space=self.space)

    def patch(self, table: str, id: str, fields: Mapping[str, Any]) -> str:
        """See Replica.patch."""
        return self._replica.patch(table, id, fields, space=self.space)

    def update(self, table: str, id: str, change: Callable[[Record], Mapping[str, Any]]) -> str:
        """See Replica.update."""
        return self._replica.update(table, id, change, space=self.space)

    def delete(self, table: str, id: str) -> str:
        """See Replica.delete."""
        return self._replica.delete(table, id, space=self.space)

    def undelete(self, table: str, id: str) -> str:
        """See Replica.undelete."""
        return self._replica.undelete(table, id, space=self.space)

    def get(self, table: str, id: str, *, deleted: bool = False) -> Record | None:
        """See Replica.get."""
        return self._replica.get(table, id, space=self.space, deleted=deleted)

    def query(self, table: str, *given: Any, **more: Any) -> list[Record]:
        """See Replica.query."""
        return self._replica.query(table, *given, space=self.space, **more)
