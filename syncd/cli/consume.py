"""`syncd consume`: what happens in feeds, for a command of the shell."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from syncd.cli.consumers import STARTS
from syncd.cli.operator_database import operator_database
from syncd.cli.options import load_settings, settings_options

if TYPE_CHECKING:
    from syncd.consumers import ConsumerBatch


@click.command("consume")
@click.argument("name")
@click.option(
    "--exec", "command", metavar="CMD", help="Runs for each batch, by `sh -c`.  [write it to standard output]"
)
@click.option("--app", "apps", metavar="APP", multiple=True, help="Only this app; can be repeated.  [all]")
@click.option("--table", "tables", metavar="TABLE", multiple=True, help="Only this table; can be repeated.  [all]")
@click.option("--start", "begins", type=STARTS, default="now", show_default=True,
              help="Of a consumer that is new: only what comes now, the state first, or the whole log.")  # fmt: skip
@click.option("--batch", metavar="N", type=click.IntRange(1, 10_000), default=1000, show_default=True,
              help="Changes in a batch, about.")  # fmt: skip
@click.option("--lease", metavar="SECONDS", type=click.FloatRange(1, 3600), default=15.0, show_default=True,
              help="After which others take over from a process that is not heard of.")  # fmt: skip
@click.option("--once", is_flag=True, help="End when all that there is by now is done.")
@click.option("--database-url", metavar="URL", help="The database, as an operator or a member of syncd_consumer.")
@settings_options("data_dir", "log_format", "log_level")
def consume_command(
    name: str, command: str | None, apps: tuple[str, ...], tables: tuple[str, ...], begins: Any, batch: int,
    lease: float, once: bool, database_url: str | None, **options: Any,
) -> None:  # fmt: skip
    """Hand what happens to a command, batch by batch, as the consumer NAME.

    The command reads one change a line, as JSON. Where it ends with 0 the batch is done with; else it comes again,
    after a growing pause. Processes of one NAME share the feeds. A NAME that is new is registered.
    """
    from syncd.cli.logs import start_logging
    from syncd.cli.migrate import refusals
    from syncd.consumers import UnknownConsumer

    settings = load_settings(**options)
    start_logging(settings)
    how = {"app": apps or None, "tables": tables or None, "start": begins, "batch": batch, "lease": lease}
    with operator_database(settings, database_url, whole=True) as url:
        try:
            asyncio.run(_consume(name, command, {**how, "database": url, "wait": not once}))
        except (UnknownConsumer, ValueError) as why:
            raise click.ClickException(str(why)) from None
        except BrokenPipeError:
            raise  # who reads has had enough, `head` for instance
        except refusals() as why:
            raise click.ClickException(f"the database said no: {why}") from None


async def _consume(name: str, text: str | None, how: dict[str, Any]) -> None:
    from syncd.consumers import consume
    from syncd.consumers.command import command, run

    stop = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)
    await run(consume(name, **how), _written if text is None else command(text, name), stop)


async def _written(batch: ConsumerBatch) -> bool:
    sys.stdout.buffer.write(batch.ndjson())
    sys.stdout.buffer.flush()
    return True
