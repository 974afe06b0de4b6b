"""JSON Schemas of tables in the database: what is in force, for who serves, and every version, for an operator."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from syncd.postgres.statements import statement
from syncd.store.pool import Pool


class SchemaInForce(NamedTuple):
    """A table's schema as it is now, as JSON text."""

    app: str
    table_name: str
    version: int
    body: str


class SchemaVersion(NamedTuple):
    """One version of a table's schema: who put it in force, and when. `body`: JSON text, None where from then on there
    was none."""

    app: str
    table_name: str
    version: int
    body: str | None
    applied_by: str
    applied_at: datetime


class SchemaReads:
    """Reads as the role that serves. Raises Busy, DatabaseUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def mark(self) -> str:
        """Another text whenever a schema was put in force or taken out."""
        return str((await self._pool.fetch("schemas_mark"))[0][0])

    async def in_force(self) -> list[SchemaInForce]:
        """The schemas of all tables that have one."""
        return [SchemaInForce(*row) for row in await self._pool.fetch("schemas_in_force")]


class SchemaOperator:
    """Everybody's, for a connection of the tables' owner or a superuser."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def put(self, app: str, table: str, body: str | None) -> int | None:
        """Puts a schema in force, None: takes it out. Its version, None where it was so already."""
        found: int | None = await self._connection.fetchval(statement("schema_put"), app, table, body)
        return found

    async def in_force(self) -> list[SchemaInForce]:
        """The schemas of all tables that have one."""
        return [SchemaInForce(*row) for row in await self._connection.fetch(statement("schemas_in_force"))]

    async def versions(self, app: str | None = None, table: str | None = None) -> list[SchemaVersion]:
        """All versions, of all tables or one, by app and table, the oldest first."""
        return [SchemaVersion(*row) for row in await self._connection.fetch(statement("schema_versions"), app, table)]
