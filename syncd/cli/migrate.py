"""`syncd migrate`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import click

from syncd.cli.options import load_settings
from syncd.settings import Settings


@click.command("migrate")
@click.option("--database-url", metavar="URL", help="The database, as its owner or as a superuser.")
@click.option(
    "--data-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The database that `syncd serve` keeps in this data directory.",
)
@click.option(
    "--older-functions",
    is_flag=True,
    help="Put in this syncd's functions although a newer one's are there: for who develops, and goes back.",
)
@click.option(
    "--legacy-view",
    is_flag=True,
    help="Make the view public.sync_changes too, for SQL users of the first generation's table.",
)
@click.option(
    "--memberships",
    type=click.Choice(["table", "external"]),
    help="Whether lists of them are taken over: external, from tokens or a service (SYNCD_MEMBERSHIPS); table, not.",
)
@click.option(
    "--contexts",
    type=click.Choice(["signed", "unsigned"]),
    help="Whether servers prove who acts: signed, by SYNCD_CONTEXT_KEY, which all have by then; unsigned, they do not.",
)
@click.option("--emit", metavar="DIR", type=click.Path(path_type=Path), help="Write .sql files there, apply nothing.")
def migrate_command(
    database_url: str | None, data_dir: Path | None, older_functions: bool, legacy_view: bool,
    memberships: Literal["table", "external"] | None, contexts: Literal["signed", "unsigned"] | None, emit: Path | None,
) -> None:  # fmt: skip
    """Apply what the database lacks, or write the schema as .sql files for your own tooling.

    The database is --database-url, else SYNCD_MIGRATE_URL, else SYNCD_DATABASE_URL. Safe to run again, and by
    several servers at once. (`syncd serve` does it by itself for the database that it starts.)
    """
    if emit is not None:
        from syncd.postgres import emit as files

        for path in files.emit(emit):
            click.echo(str(path))
        return
    if data_dir is not None and database_url is None:
        from syncd.cli.operator_database import operator_database

        with operator_database(Settings(data_dir=data_dir), None, whole=True) as url:
            _migrate(url, older_functions, legacy_view, memberships, _context_key(contexts))
        return
    url = database_url or _configured(load_settings())
    _migrate(url, older_functions, legacy_view, memberships, _context_key(contexts))


def _context_key(contexts: Literal["signed", "unsigned"] | None) -> str | None:
    """The key that the database is to check contexts with; "": none; None: as it is."""
    if contexts is None:
        return None
    key = load_settings().context_key
    if contexts == "signed" and key is None:
        raise click.ClickException("with which key? Set SYNCD_CONTEXT_KEY, to what all servers have.")
    return key if contexts == "signed" else ""


def _migrate(
    url: str, older_functions: bool, legacy_view: bool, memberships: Literal["table", "external"] | None,
    context_key: str | None,
) -> None:  # fmt: skip
    from syncd.postgres.legacy_view import make_view
    from syncd.postgres.migrate import migrate
    from syncd.postgres.schema_files import MigrationError

    try:
        work = migrate(
            url, say=click.echo, older_functions=older_functions, memberships=memberships, context_key=context_key
        )
        applied = asyncio.run(work)
        if legacy_view:
            asyncio.run(make_view(url, say=click.echo))
    except MigrationError as error:
        raise click.ClickException(str(error)) from None
    except refusals() as error:
        raise click.ClickException(f"the database cannot be reached: {error}") from None
    click.echo("the schema is current" if applied else "nothing to do: the schema is current")


def _configured(settings: Settings) -> str:
    url = settings.migrate_url or settings.database_url
    if url is None:
        raise click.ClickException(
            "which database? Give --database-url or set SYNCD_MIGRATE_URL. (The database that `syncd serve` "
            "starts itself is migrated by it.)"
        )
    return url


def refusals() -> tuple[type[Exception], ...]:
    """What the database's library raises when there is no way in, or none any more."""
    from syncd.postgres import sessions

    return sessions.refusals()
