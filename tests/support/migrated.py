"""Databases of a test's own in the session's PostgreSQL: migrated, or copied from one that is."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.migrate import migrate
from tests.support.direct import run


def silent(text: str) -> None:
    """Progress that nobody reads."""


@asynccontextmanager
async def migrated_database(database: EmbeddedPostgres) -> AsyncIterator[str]:
    """The name of a new database that was migrated; it is dropped when the block ends."""
    async with _made(database, "") as name:
        await migrate(database.dsn("postgres", name), say=silent)
        yield name


@asynccontextmanager
async def copied_database(database: EmbeddedPostgres, template: str) -> AsyncIterator[str]:
    """The name of a copy of another database, to which nobody may be connected."""
    async with _made(database, f" TEMPLATE {template}") as name:
        yield name


@asynccontextmanager
async def _made(database: EmbeddedPostgres, how: str) -> AsyncIterator[str]:
    name = f"own_{os.urandom(4).hex()}"
    await run(database.dsn("postgres", "postgres"), f"CREATE DATABASE {name}{how}")
    try:
        yield name
    finally:
        await run(database.dsn("postgres", "postgres"), f"DROP DATABASE {name} WITH (FORCE)")
