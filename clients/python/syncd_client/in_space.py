"""Handles of one space: the methods of a replica, none of which can forget to name it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .data.record import Record


class InSpace:
    """The records of one space: the methods of a replica, without `space`. Comes from `replica.in_("north")`."""

    def __init__(self, replica: Any, space: str | None) -> None:
        self._replica, self.space = replica, space

    def put(self, table: str, id: str, fields: Mapping[str, Any]) -> str:
        """See Replica.put."""
        done: str = self._replica.put(table, id, fields, space=self.space)
        return done

    def patch(self, table: str, id: str, fields: Mapping[str, Any], *, upsert: bool = False) -> str:
        """See Replica.patch."""
        done: str = self._replica.patch(table, id, fields, space=self.space, upsert=upsert)
        return done

    def update(self, table: str, id: str, change: Callable[[Record], Mapping[str, Any]]) -> str:
        """See Replica.update."""
        done: str = self._replica.update(table, id, change, space=self.space)
        return done

    def delete(self, table: str, id: str, *, upsert: bool = False) -> str:
        """See Replica.delete."""
        done: str = self._replica.delete(table, id, space=self.space, upsert=upsert)
        return done

    def undelete(self, table: str, id: str, *, upsert: bool = False) -> str:
        """See Replica.undelete."""
        done: str = self._replica.undelete(table, id, space=self.space, upsert=upsert)
        return done

    def get(self, table: str, id: str, *, deleted: bool = False) -> Record | None:
        """See Replica.get."""
        done: Record | None = self._replica.get(table, id, space=self.space, deleted=deleted)
        return done

    def query(self, table: str, *given: Any, **more: Any) -> list[Record]:
        """See Replica.query."""
        done: list[Record] = self._replica.query(table, *given, space=self.space, **more)
        return done

    def search(self, table: str, text: str, *, limit: int | None = 50) -> list[Record]:
        """See Replica.search."""
        done: list[Record] = self._replica.search(table, text, space=self.space, limit=limit)
        return done


class AsyncInSpace:
    """The same of an async replica: every method awaited. Comes from `replica.in_("north")`."""

    def __init__(self, replica: Any, space: str | None) -> None:
        self._replica, self.space = replica, space

    async def put(self, table: str, id: str, fields: Mapping[str, Any]) -> str:
        """See Replica.put."""
        done: str = await self._replica.put(table, id, fields, space=self.space)
        return done

    async def patch(self, table: str, id: str, fields: Mapping[str, Any], *, upsert: bool = False) -> str:
        """See Replica.patch."""
        done: str = await self._replica.patch(table, id, fields, space=self.space, upsert=upsert)
        return done

    async def update(self, table: str, id: str, change: Callable[[Record], Mapping[str, Any]]) -> str:
        """See Replica.update; `change` is called in another thread."""
        done: str = await self._replica.update(table, id, change, space=self.space)
        return done

    async def delete(self, table: str, id: str, *, upsert: bool = False) -> str:
        """See Replica.delete."""
        done: str = await self._replica.delete(table, id, space=self.space, upsert=upsert)
        return done

    async def undelete(self, table: str, id: str, *, upsert: bool = False) -> str:
        """See Replica.undelete."""
        done: str = await self._replica.undelete(table, id, space=self.space, upsert=upsert)
        return done

    async def get(self, table: str, id: str, *, deleted: bool = False) -> Record | None:
        """See Replica.get."""
        done: Record | None = await self._replica.get(table, id, space=self.space, deleted=deleted)
        return done

    async def query(self, table: str, *given: Any, **more: Any) -> list[Record]:
        """See Replica.query."""
        done: list[Record] = await self._replica.query(table, *given, space=self.space, **more)
        return done

    async def search(self, table: str, text: str, *, limit: int | None = 50) -> list[Record]:
        """See Replica.search."""
        done: list[Record] = await self._replica.search(table, text, space=self.space, limit=limit)
        return done
