"""`syncd restore`: a dump of pg_dump in place of the database, which stays beside it under another name."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import click

from syncd.cli.operator_database import operator_database
from syncd.cli.options import load_settings, progress, settings_options


@click.command("restore")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--database-url", metavar="URL", help="The database, as a superuser.")
@settings_options("data_dir")
def restore_command(file: Path, database_url: str | None, **options: Any) -> None:
    """Put FILE, made by `pg_dump -Fc`, in the place of the database.

    It is restored into a new database first, which gets the other's name when all is there: what fails changes nothing.
    The former database stays, under a name that is printed. A server may be running: its devices are told to try
    again for a moment. What was erased since the dump was made is erased again (`syncd erase`).
    """
    from syncd.cli.migrate import refusals
    from syncd.postgres.schema_files import MigrationError

    settings = load_settings(**options)
    program = _program(settings.data_dir, own=(database_url or settings.migrate_url or settings.database_url) is None)
    with operator_database(settings, database_url, whole=True) as url:
        try:
            asyncio.run(_restore(url, file, program))
        except MigrationError as why:
            raise click.ClickException(str(why)) from None
        except refusals() as why:
            raise click.ClickException(f"the restore was cut short: {why}") from None


def _program(data_dir: Path, *, own: bool) -> str:
    """pg_restore: of the version of the data directory's database, or the one on the path."""
    from syncd.postgres.embedded import EmbeddedPostgres

    found = None if own else shutil.which("pg_restore")
    path = Path(found) if found else EmbeddedPostgres(data_dir).bindir / "pg_restore"
    if not path.exists():
        raise click.ClickException("there is no pg_restore: put PostgreSQL's client programs on the PATH.")
    return str(path)


async def _restore(url: str, file: Path, program: str) -> None:
    from syncd.postgres.migrate import migrate
    from syncd.postgres.sessions import OPERATOR, connect

    name = unquote(urlsplit(url).path.lstrip("/"))
    fresh, former = f"{name}_restoring", f"{name}_before_{datetime.now(UTC):%Y%m%d_%H%M%S}"
    server = await connect(_named(url, "postgres"), statement_cache_size=0, timeout=10, settings=OPERATOR)
    try:
        progress(f"making the database {fresh}, with the roles and rights that no dump has")
        await server.execute(f"DROP DATABASE IF EXISTS {_quoted(fresh)} WITH (FORCE)")
        await server.execute(f"CREATE DATABASE {_quoted(fresh)}")
        try:
            await migrate(_named(url, fresh))
            await _fill(_named(url, fresh), file, program)
            progress("bringing its schema up to this syncd's")
            await migrate(_named(url, fresh), say=progress)
            await _erase_again(url, _named(url, fresh))
        except BaseException:
            await server.execute(f"DROP DATABASE IF EXISTS {_quoted(fresh)} WITH (FORCE)")
            raise
        progress(f"putting it in the place of {name}")
        await _swap(server, name, fresh, former)
    finally:
        await server.close()
    progress(f"done. What was there is the database {former}: drop it when you are sure.")


async def _fill(url: str, file: Path, program: str) -> None:
    from syncd.postgres.sessions import OPERATOR, connect

    progress(f"restoring {file}")
    connection = await connect(url, statement_cache_size=0, timeout=10, settings=OPERATOR)
    try:
        await connection.execute("DROP SCHEMA syncd CASCADE")
    finally:
        await connection.close()
    plain, secret = parted(url)
    command, environment = [program, "--exit-on-error", "-d", plain, str(file)], {**os.environ, **secret}
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error:" in line), done.stderr.strip())
        raise click.ClickException(f"{file} cannot be restored, and nothing was changed. {said}")


async def _erase_again(url: str, fresh: str) -> None:
    """The dump may be from before an erasure, which the database in whose place it comes knows."""
    from syncd.cli.erase import erase_again
    from syncd.postgres.sessions import OPERATOR, connect
    from syncd.store.erasures import ErasureOperator

    before = await connect(url, statement_cache_size=0, timeout=10, settings=OPERATOR)
    try:
        known = await before.fetchval("SELECT pg_catalog.to_regclass('syncd.sync_erasures') IS NOT NULL")
        listed = await ErasureOperator(before).list() if known else []
    finally:
        await before.close()
    if not listed:
        return
    after = await connect(fresh, statement_cache_size=0, timeout=10, settings=OPERATOR)
    try:
        await erase_again(ErasureOperator(after), listed)
    finally:
        await after.close()


async def _swap(server: Any, name: str, fresh: str, former: str) -> None:
    """Gives a name to another database; who is connected is cut off, and nobody connects in between."""
    await server.execute(f"ALTER DATABASE {_quoted(name)} ALLOW_CONNECTIONS false")
    try:
        await server.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = ANY ($1)", [name, fresh]
        )
        async with server.transaction():
            await server.execute(f"ALTER DATABASE {_quoted(name)} RENAME TO {_quoted(former)}")
            await server.execute(f"ALTER DATABASE {_quoted(fresh)} RENAME TO {_quoted(name)}")
    except BaseException:
        await server.execute(f"ALTER DATABASE {_quoted(name)} ALLOW_CONNECTIONS true")
        raise
    await server.execute(f"ALTER DATABASE {_quoted(former)} ALLOW_CONNECTIONS true")


def parted(url: str) -> tuple[str, dict[str, str]]:
    """A database URL without its password, and that for the environment: everybody on the machine can read the command
    line of a running program."""
    parts = urlsplit(url)
    user, colon, password = parts.netloc.rpartition("@")[0].partition(":")
    asked = parse_qsl(parts.query, keep_blank_values=True)
    password = next((value for name, value in asked if name == "password"), unquote(password) if colon else "")
    if not password:
        return url, {}
    host = parts.netloc.rpartition("@")[2]
    query = urlencode([(name, value) for name, value in asked if name != "password"], safe="/")
    plain = parts._replace(netloc=f"{user}@{host}" if user else host, query=query)
    return plain.geturl(), {"PGPASSWORD": password}


def _named(url: str, database: str) -> str:
    return urlsplit(url)._replace(path=f"/{database}").geturl()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
