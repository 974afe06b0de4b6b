"""`syncd export`: a user, a space or everything into a file."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal

import click

from syncd.cli.operator_database import BOUND, as_runtime, operator_database
from syncd.cli.options import load_settings, progress, settings_options


@click.command("export")
@click.argument("user", required=False)
@click.option("--space", metavar="ID", help="A whole space: every author's changes in it, and its members.")
@click.option("--all", "everything", is_flag=True, help="Every space, member and change, and the key of the cursors.")
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="The file; else standard output.")
@click.option("--format", "form", type=click.Choice(["ndjson", "zip"]), help="[by the file's name, else ndjson]")
@click.option("--database-url", metavar="URL", help="The database; more than one user needs a superuser.")
@settings_options("data_dir")
def export_command(
    user: str | None, space: str | None, everything: bool, output: Path | None, form: Literal["ndjson", "zip"] | None,
    database_url: str | None, **options: Any,
) -> None:  # fmt: skip
    """Write what USER wrote, a space, or everything, as one consistent export.

    Interrupted, it goes on when it is called again with the same FILE. The database is --database-url, else
    SYNCD_MIGRATE_URL or SYNCD_DATABASE_URL, else that of the data directory, whether it is being served or not.
    """
    if [user is not None, space is not None, everything].count(True) != 1:
        raise click.UsageError("name a USER, a --space or --all: one of them.")
    from syncd.cli.migrate import refusals
    from syncd.core.errors import SyncdError

    form = form or ("zip" if output is not None and output.suffix == ".zip" else "ndjson")
    settings = load_settings(**options)
    with operator_database(settings, database_url, whole=user is None) as url:
        try:
            asyncio.run(_export(url, user, space, output, form, settings.context_key))
        except SyncdError as why:
            raise click.ClickException(why.detail) from None
        except BrokenPipeError:
            raise  # who reads has had enough, `head` for instance
        except refusals() as why:
            raise click.ClickException(f"the export was cut short: {why}") from None


async def _export(
    url: str, user: str | None, space: str | None, output: Path | None, form: Literal["ndjson", "zip"],
    context_key: str | None,
) -> None:  # fmt: skip
    from syncd.postgres.contexts import ContextSession
    from syncd.postgres.sessions import OPERATOR, connect
    from syncd.store.backup import snapshot_of, standing
    from syncd.transfer.export import Scope

    session = None if context_key is None else ContextSession(context_key)
    connection = await connect(url, timeout=10, settings=OPERATOR)
    try:
        found = await standing(connection)
        if user is None and not found.whole:
            raise click.ClickException(BOUND)
        if user is not None and found.whole:
            await connection.close()
            connection = await connect(as_runtime(url), timeout=10, settings=OPERATOR)
        key = found.key if user is None and space is None else None
        scope = Scope("user" if user is not None else "space" if space is not None else "all", user, space, key)
        async with snapshot_of(connection, user, session) as snapshot:
            if output is None:
                await _to_stdout(snapshot, scope, form)
            else:
                await _to_file(snapshot, scope, output, form, found.key)
        if found.whole:
            await _note(url, space, user)
    finally:
        await connection.close()


async def _note(url: str, space: str | None, user: str | None) -> None:
    """Says in the audit what an operator has taken out."""
    from syncd.postgres.sessions import OPERATOR, connect
    from syncd.store.audit import AuditOperator

    connection = await connect(url, timeout=10, statement_cache_size=0, settings=OPERATOR)
    try:
        await AuditOperator(connection).note("export", space, user, {"by": "operator"})
    finally:
        await connection.close()


async def _to_stdout(snapshot: Any, scope: Any, form: Literal["ndjson", "zip"]) -> None:
    from syncd.transfer.export import export

    async with aclosing(export(snapshot, scope, form)) as data:
        async for part in data:
            sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()


async def _to_file(snapshot: Any, scope: Any, output: Path, form: Literal["ndjson", "zip"], server: bytes) -> None:
    from syncd.cli.progress_bar import bar
    from syncd.transfer.export_file import ExportFile

    target = ExportFile(output, scope, server)
    plan = await target.begin(snapshot)
    if target.resumed:
        progress(f"going on with the export of {plan.made}")
    with bar("exporting", plan.total) as step:
        tally = await target.write(snapshot, form, step)
    progress(f"{tally.events:,} changes in {len(plan.spaces):,} spaces: {output}")
