"""What an operator's command does in the database: over a connection that sees what an operator sees."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import click

from syncd.cli.operator_database import BOUND, operator_database
from syncd.settings import Settings


def run_on_database(
    settings: Settings, url: str | None, work: Callable[[Any, str], Awaitable[None]], *, unbound: bool = False
) -> None:
    """Has `work` done on an operator's connection of asyncpg's to the database, whose DSN it is told too. `unbound`:
    the role has to be one that row security does not bind. Raises ClickException with what the database said."""
    from syncd.cli.migrate import refusals

    with operator_database(settings, url, whole=True) as found:
        try:
            asyncio.run(_connected(work, found, unbound))
        except BrokenPipeError:
            raise  # who reads has had enough, `head` for instance
        except refusals() as why:
            raise click.ClickException(f"the database said no: {why}") from None


async def _connected(work: Callable[[Any, str], Awaitable[None]], url: str, unbound: bool) -> None:
    from syncd.postgres.sessions import OPERATOR, connect
    from syncd.store.backup import standing

    connection = await connect(url, timeout=10, statement_cache_size=0, settings=OPERATOR)
    try:
        if unbound and not (await standing(connection)).whole:
            raise click.ClickException(BOUND)
        await work(connection, url)
    finally:
        await connection.close()
