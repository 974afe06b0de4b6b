"""An application's own backend: a role of its own in the database, which may write as the users that it names."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import asyncpg

from tests.support.direct import run

ORDERS = "CREATE TABLE IF NOT EXISTS public.{role}_orders (id text PRIMARY KEY, state text)"


class Databased(Protocol):
    """What has a database: a server of the tests', or the database alone."""

    @property
    def owner_dsn(self) -> str: ...

    def dsn(self, role: str, database: str = ...) -> str: ...


class Backend:
    """The role, with a table of its own, and its connections."""

    def __init__(self, of: Databased, role: str) -> None:
        self._of, self.role = of, role
        self.orders = f"public.{role}_orders"

    @property
    def dsn(self) -> str:
        """The database as this role."""
        return self._of.dsn(self.role)

    @asynccontextmanager
    async def connection(self, **more: Any) -> AsyncIterator[asyncpg.Connection]:
        """One by asyncpg."""
        connection = await asyncpg.connect(self.dsn, **more)
        try:
            yield connection
        finally:
            await connection.close()

    async def ordered(self) -> list[str]:
        """The ids in its own table."""
        return [row[0] for row in await run(self._of.owner_dsn, f"SELECT id FROM {self.orders} ORDER BY id")]


@asynccontextmanager
async def backend_of(of: Databased, *, grants: str = "syncd_writer") -> AsyncIterator[Backend]:
    """A new role with a login and these grants, and its table; both are gone afterwards."""
    role = f"shop_{os.urandom(4).hex()}"
    backend = Backend(of, role)
    made = ORDERS.format(role=role)
    await run(
        of.owner_dsn, f"CREATE ROLE {role} LOGIN IN ROLE {grants}", made, f"GRANT ALL ON {backend.orders} TO {role}"
    )
    try:
        yield backend
    finally:
        await run(of.owner_dsn, f"DROP TABLE {backend.orders}", f"DROP OWNED BY {role}", f"DROP ROLE {role}")
