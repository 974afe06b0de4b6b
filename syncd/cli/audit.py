"""`syncd audit`: what was done to spaces, and what was refused."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from syncd.cli.operator_database import BOUND, operator_database
from syncd.cli.options import load_settings, settings_options


@click.command("audit")
@click.option("--space", metavar="ID", help="Only what was done in this space.")
@click.option("--user", metavar="ID", help="Only what this user did, or what was done to it.")
@click.option("--what", metavar="KIND", help="Only this: member_added, export, refused_tokens, …")
@click.option("--after", metavar="N", type=click.IntRange(0), default=0, help="Only those with a greater auditId.")
@click.option("--database-url", metavar="URL", help="The database, as a superuser.")
@settings_options("data_dir")
def audit_command(
    space: str | None, user: str | None, what: str | None, after: int, database_url: str | None, **options: Any
) -> None:
    """Write what was done, oldest first, as lines of JSON."""
    from syncd.cli.migrate import refusals

    with operator_database(load_settings(**options), database_url, whole=True) as url:
        try:
            asyncio.run(_list(url, after, space, user, what))
        except BrokenPipeError:
            raise  # who reads has had enough, `head` for instance
        except refusals() as why:
            raise click.ClickException(f"the database said no: {why}") from None


async def _list(url: str, after: int, *which: str | None) -> None:
    from syncd.postgres.sessions import OPERATOR, connect
    from syncd.service.audit import lines
    from syncd.store.audit import AuditOperator
    from syncd.store.backup import standing

    connection = await connect(url, timeout=10, statement_cache_size=0, settings=OPERATOR)
    try:
        if not (await standing(connection)).whole:
            raise click.ClickException(BOUND)
        operator = AuditOperator(connection)
        while rows := await operator.list(after, *which):
            for line in lines(rows):
                click.echo(line)
            after = rows[-1].audit_no
    finally:
        await connection.close()
