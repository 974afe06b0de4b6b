"""`syncd import`: an export back into a server."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from pathlib import Path
from typing import IO, Any

import click

from syncd.cli.import_from_options import comparison, import_from_options, import_from_request
from syncd.cli.operator_database import BOUND, as_runtime, operator_database
from syncd.cli.options import load_settings, progress, settings_options
from syncd.settings import Settings

# A batch is thousands of objects that refer to each other in no circle: to look for circles in them costs as much as
# to read them.
RARELY = 50_000, 5, 5
# What is in a log was taken by the limits of its time.
DEEPEST = 500


@click.command("import")
@click.argument("source")
@click.option("--as-is", is_flag=True, help="Write every author's changes, and spaces with their members, as they are.")
@click.option("--database-url", metavar="URL", help="The server's database; --as-is and --from need a superuser.")
@import_from_options
@settings_options("data_dir", "max_clock_skew", "max_change", "max_held", "max_held_bytes")
def import_command(source: str, as_is: bool, database_url: str | None, **options: Any) -> None:
    """Verify an export (the file SOURCE), then write what of it is not there yet.

    Without --as-is it is written as its user would write it, and nobody else's changes are. It may be interrupted and
    run again. The exit code is 1 when something was refused. The database is found as for `syncd export`; one in the
    data directory is made if there is none.

    With --from, SOURCE is a file of another kind, or the database URL of a first-generation log (mana). Everything is
    checked, written, and compared with the source. Rows that cannot be imported are named; those of a first-generation
    log are held, as `syncd held` shows, the others left out. Run again, it writes nothing twice. The exit code is 1
    when something is not on the server as it is in the source.

    With --from mana and --compare, SOURCE is the old server's URL: nothing is written. Both servers are read as one
    device of the first generation reads them, with the token in SYNCD_TOKEN, and what differs is listed.
    """
    gc.set_threshold(*RARELY)
    if (wanted := comparison(source, options)) is not None:
        from syncd.cli.rehearsal import rehearse

        sys.exit(rehearse(*wanted))
    request = import_from_request(source, options)
    settings = load_settings(**options)
    if request is not None:
        from syncd.cli.import_from import bring

        if as_is:
            raise click.UsageError("--as-is is for exports: what comes from elsewhere is written in everybody's name.")
        sys.exit(bring(settings, request, database_url))
    file = Path(source)
    if not file.is_file():
        raise click.UsageError(f"there is no file {source}.")
    sys.exit(1 if _restore(settings, file, as_is, database_url) else 0)


def _restore(settings: Settings, file: Path, as_is: bool, database_url: str | None) -> int:
    """Writes an export back; how many changes were refused."""
    from syncd.cli.migrate import refusals
    from syncd.core.errors import SyncdError

    with file.open("rb") as opened, operator_database(settings, database_url, whole=as_is, create=True) as url:
        try:
            return asyncio.run(_import(settings, url, opened, as_is))
        except SyncdError as why:
            raise click.ClickException(why.detail) from None
        except refusals() as why:
            raise click.ClickException(f"the import was cut short: {why}. Run it again to go on.") from None


async def _import(settings: Settings, url: str, file: IO[bytes], as_is: bool) -> int:
    """Writes it; how many changes were refused."""
    from syncd.cli.progress_bar import bar
    from syncd.core.principal import Principal
    from syncd.protocol.normalize import Limits
    from syncd.store.pool import Pool
    from syncd.transfer.export_reader import ExportReader
    from syncd.transfer.importer import Importer

    form = "zip" if file.read(2) == b"PK" else "ndjson"
    progress("verifying")
    source = ExportReader(file, form, sys.maxsize)  # type: ignore[arg-type]
    manifest = source.verify()
    if not as_is and manifest.userId is None:
        raise click.ClickException("this is an export of several users: --as-is writes it in their names.")
    whole = await _standing(url)
    if as_is and not whole:
        raise click.ClickException(BOUND)
    pool = Pool(as_runtime(url) if whole and not as_is else url, size=1, context_key=settings.context_key)
    limits = Limits(max_depth=DEEPEST, max_schema_version=settings.max_schema_version)
    restorer = Importer(pool, limits)
    try:
        with bar("importing", manifest.eventCount) as step:
            if as_is:
                report, made, numbered = await restorer.as_is(source, step)
            else:
                latest = time.time_ns() // 1000 + int(settings.max_clock_skew * 1_000_000)
                report = await restorer.as_user(source, Principal(str(manifest.userId)), latest, step=step)
    finally:
        await pool.close()
    if whole:
        await _note(url, None if as_is else manifest.userId, {"imported": report.imported, "refused": report.refused})
    if as_is:
        progress(f"{made:,} spaces put back{_cursors(manifest.cursorKey is not None, numbered)}")
    for refusal in report.refusals:
        progress(f"line {refusal['line']}: {refusal['code']}: {refusal['detail']}")
    progress(f"{report.imported:,} changes imported, {report.duplicates:,} there already, {report.refused:,} refused")
    return report.refused


async def _note(url: str, user: str | None, detail: dict[str, Any]) -> None:
    """Says in the audit what an operator has brought in."""
    from syncd.postgres.sessions import OPERATOR, connect
    from syncd.store.audit import AuditOperator

    connection = await connect(url, timeout=10, statement_cache_size=0, settings=OPERATOR)
    try:
        await AuditOperator(connection).note("import", None, user, {"by": "operator", **detail})
    finally:
        await connection.close()


def _cursors(wanted: bool, numbered: bool) -> str:
    if not wanted:
        return ""
    if numbered:
        return "; devices go on from their cursors (restart a `syncd serve` that is running)"
    return (
        "; devices will start again from an empty cursor: the server held other data, or its database was started "
        "before the export was made"
    )


async def _standing(url: str) -> bool:
    from syncd.postgres import migrate
    from syncd.postgres.schema_files import MigrationError
    from syncd.postgres.sessions import OPERATOR, connect
    from syncd.store.backup import standing

    connection = await connect(url, timeout=10, statement_cache_size=0, settings=OPERATOR)
    try:
        if waiting := await migrate.pending(connection):
            raise click.ClickException(f"the database lacks {', '.join(waiting)}: run `syncd migrate` first.")
        return (await standing(connection)).whole
    except MigrationError as error:
        raise click.ClickException(str(error)) from None
    finally:
        await connection.close()
