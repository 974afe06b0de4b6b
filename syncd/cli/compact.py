"""`syncd compact`: fold what was overwritten long ago out of the log, now and with a bar."""

from __future__ import annotations

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from syncd.cli.operator_database import operator_database
from syncd.cli.options import load_settings, progress, settings_options

NOT_COMPACTOR = (
    "compaction is done as the role syncd_compactor, which `syncd migrate` makes and this login is no member of: "
    "connect as a superuser, or have one run: GRANT syncd_compactor TO …;"
)


@click.command("compact")
@click.option("--space", metavar="ID", help="Only this space.")
@click.option("--archive", "folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
              help="Keep the changes that go, in a compressed file there.")  # fmt: skip
@click.option("--rest", metavar="SHARE", type=click.FloatRange(0, 100), default=1.0, show_default=True,
              help="How long to rest after each part, as a share of what it took.")  # fmt: skip
@click.option("--vacuum/--no-vacuum", default=True, help="Make the room usable again at once.  [vacuum]")
@click.option("--database-url", metavar="URL", help="The database, as one who may act as syncd_compactor.")
@settings_options("data_dir", "compact_history", "compact_tombstones", "compact_audit", "compact_devices")
def compact_command(
    space: str | None, folder: Path | None, rest: float, vacuum: bool, database_url: str | None, **options: Any
) -> None:
    """Fold what was overwritten long ago out of the log, feed by feed.

    Records stay as they are, and so does every look at them that is younger than --compact-history. It works in
    small parts beside a server that serves. Ctrl-C stops it after the part it is at; run again, it goes on there.
    """
    from syncd.cli.migrate import refusals
    from syncd.service.compact import Policy
    from syncd.transfer.log_archive import ArchiveError, LogArchive

    settings = load_settings(**options)
    kept = timedelta(seconds=settings.compact_tombstones) if settings.compact_tombstones else None
    audit = timedelta(seconds=settings.compact_audit) if settings.compact_audit else None
    devices = timedelta(seconds=settings.compact_devices) if settings.compact_devices else None
    policy = Policy(timedelta(seconds=settings.compact_history), kept, space, audit, devices)
    with operator_database(settings, database_url, whole=True) as url:
        try:
            archive = LogArchive(folder) if folder is not None else None
            asyncio.run(_compact(url, policy, archive, rest, vacuum))
        except ArchiveError as why:
            raise click.ClickException(f"{why}. Nothing of this part has left the log.") from None
        except refusals() as why:
            raise click.ClickException(f"the compaction was cut short: {why}") from None


async def _compact(url: str, policy: Any, archive: Any, rest: float, vacuum: bool) -> None:
    from syncd.cli.progress_bar import bar
    from syncd.postgres.sessions import OPERATOR, connect
    from syncd.service.compact import Compaction
    from syncd.store.compaction import Compactor, LeaseLost, NotAllowed

    connection = await connect(url, timeout=10, settings=OPERATOR)
    try:
        compactor = Compactor(connection)
        try:
            if not await compactor.take():
                raise click.ClickException("another compaction is under way: try again when it is done.")
        except NotAllowed:
            raise click.ClickException(NOT_COMPACTOR) from None
        before = await compactor.sizes()
        work = Compaction(compactor, policy, datetime.now(UTC), archive=archive, rest=rest)
        plan = await work.plan()
        for sign in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(sign, work.stop)
        try:
            with bar("compacting", sum(feed.upto - feed.done for feed in plan)) as step:
                report = await work.run(plan, step)
        except LeaseLost:
            raise click.ClickException("another compaction took over, as this one had stood still.") from None
        if vacuum and report.dropped and not report.stopped:
            progress("making the room usable again")
            await compactor.vacuum()
        await compactor.give_back()
        _tell(report, before, await compactor.sizes(), archive)
    finally:
        if archive is not None:
            archive.close()
        await connection.close()


def _tell(report: Any, before: tuple[int, int], after: tuple[int, int], archive: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, show_header=False)
    for name, value in (
        ("feeds gone through", f"{report.feeds:,}"),
        ("changes looked at", f"{report.looked:,}"),
        ("changes dropped", f"{report.dropped:,}"),
        ("deleted records emptied", f"{report.emptied:,}"),
        ("deleted records forgotten", f"{report.forgotten:,}"),
        ("unused cursors collected", f"{report.cursors:,}"),
        ("names removed", f"{report.names:,}"),
        ("log on disk", f"{before[0] / 1e6:,.1f} MB, now {after[0] / 1e6:,.1f} MB"),
        ("records on disk", f"{before[1] / 1e6:,.1f} MB, now {after[1] / 1e6:,.1f} MB"),
    ):
        shown.add_row(name, value)
    if archive is not None and archive.path is not None:
        shown.add_row("archived", f"{archive.lines:,} changes, {archive.bytes / 1e6:,.1f} MB: {archive.path}")
    Console(stderr=True).print(shown)
    if report.stopped:
        progress("stopped; run it again to go on")
