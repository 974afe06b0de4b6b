"""Which database an operator means: the one named, the server's, or the data directory's own, running or not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import click

from syncd.cli.options import progress
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.launch import EmbeddedError
from syncd.settings import Settings


@contextlib.contextmanager
def operator_database(settings: Settings, url: str | None, *, whole: bool, create: bool = False) -> Iterator[str]:
    """A DSN that works until the block ends. `whole`: for more than one user's data; `create`: there may be none yet.

    The data directory's database is started for as long as it takes, unless `syncd serve` runs it.
    """
    url = url or (settings.migrate_url if whole and settings.migrate_url else settings.database_url)
    if url is not None:
        yield url
        return
    try:
        database = EmbeddedPostgres(settings.data_dir)
        if not database.made and not create:
            raise click.ClickException(
                f"there is no database in {settings.data_dir}: give --data-dir or --database-url."
            )
        if database.running_elsewhere():
            yield database.owner_dsn
            return
        progress(f"starting the database in {database.data_dir}")
        with database:
            if create:
                _migrate(database.owner_dsn)
            yield database.owner_dsn
    except EmbeddedError as error:
        raise click.ClickException(str(error)) from None


def _migrate(url: str) -> None:
    from syncd.postgres.migrate import migrate
    from syncd.postgres.schema_files import MigrationError

    try:
        asyncio.run(migrate(url, say=progress))
    except MigrationError as error:
        raise click.ClickException(str(error)) from None


def as_runtime(url: str) -> str:
    """The same database as the role that serves: what row security binds."""
    return f"{url}{'&' if urlsplit(url).query else '?'}role=syncd_runtime"


BOUND = (
    "row security binds this role, as it binds the tables' owner: connect as a superuser, or a role with BYPASSRLS, "
    "as for pg_dump. (One user's own changes need neither.)"
)
