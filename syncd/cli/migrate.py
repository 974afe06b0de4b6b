"""`syncd migrate`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from syncd.cli.options import load_settings
from syncd.settings import Settings


@click.command("migrate")
@click.option("--database-url", metavar="URL", help="The database, as its owner or as a superuser.")
@click.option("--emit", metavar="DIR", type=click.Path(path_type=Path), help="Write .sql files there, apply nothing.")
def migrate_command(database_url: str | None, emit: Path | None) -> None:
    """Apply what the database lacks, or write the schema as .sql files for your own tooling.

    The database is --database-url, else SYNCD_MIGRATE_URL, else SYNCD_DATABASE_URL. Safe to run again, and by
    several servers at once. (`syncd serve` does it by itself for the database that it starts.)
    """
    from syncd.store import migrate

    if emit is not None:
        for path in migrate.emit(emit):
            click.echo(str(path))
        return
    url = database_url or _configured(load_settings())
    try:
        applied = asyncio.run(migrate.migrate(url, say=click.echo))
    except migrate.MigrationError as error:
        raise click.ClickException(str(error)) from None
    except refusals() as error:
        raise click.ClickException(f"the database cannot be reached: {error}") from None
    click.echo(f"{len(applied)} migrations applied" if applied else "nothing to do: the schema is current")


def _configured(settings: Settings) -> str:
    url = settings.migrate_url or settings.database_url
    if url is None:
        raise click.ClickException(
            "which database? Give --database-url or set SYNCD_MIGRATE_URL. (The database that `syncd serve` "
            "starts itself is migrated by it.)"
        )
    return url


def refusals() -> tuple[type[Exception], ...]:
    """What asyncpg raises when there is no way in: no server, no such role, a bad URL."""
    import asyncpg

    return (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError)
