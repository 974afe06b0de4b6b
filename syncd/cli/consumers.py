"""`syncd consumers`: what reads on the server's side, for what, and how far it is."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from syncd.cli.operator_command import run_on_database
from syncd.cli.options import load_settings, progress, settings_options

if TYPE_CHECKING:
    from syncd.store.consumers import ConsumerOperator

Command = TypeVar("Command", bound=Callable[..., Any])
STARTS = click.Choice(["now", "state", "beginning"])
# Columns of a table that a program reads: nothing is cut off.
WIDE = 500
NOT_OWNER = "only who may act as the tables' owner, or a superuser, keeps consumers: connect as one of them."


@click.group("consumers")
def consumers_command() -> None:
    """Programs on the server's side that read what happens: what they are registered for, and how far they are."""


def _options(command: Command) -> Command:
    command = settings_options("data_dir")(command)
    return click.option("--database-url", metavar="URL", help="The database, as its owner or a superuser.")(command)


@consumers_command.command("add")
@click.argument("name")
@click.option("--app", "apps", metavar="APP", multiple=True, help="Only this app; can be repeated.  [all]")
@click.option("--table", "tables", metavar="TABLE", multiple=True, help="Only this table; can be repeated.  [all]")
@click.option("--start", "begins", type=STARTS, default="now", show_default=True,
              help="What it is handed: only what comes now, the state first, or the whole log.")  # fmt: skip
@click.option("--role", metavar="ROLE", default="syncd_owner", show_default=True,
              help="Whose members may be this consumer: a login of its own, or an operator alone.")  # fmt: skip
@_options
def add_command(
    name: str, apps: tuple[str, ...], tables: tuple[str, ...], begins: str, role: str, **options: Any
) -> None:
    """Register the consumer NAME, for an operator, or by `--role` for a login that is none."""

    async def work(operator: ConsumerOperator) -> None:
        if not await operator.add(name, role, list(apps) or None, list(tables) or None, begins):
            raise click.ClickException(f"there is a consumer {name}")

    _run(work, options)


@consumers_command.command("list")
@_options
def list_command(**options: Any) -> None:
    """Show what there is."""

    async def work(operator: ConsumerOperator) -> None:
        _show(
            ("name", "apps", "tables", "role", "since"),
            [
                (row.name, _names(row.apps), _names(row.tables), row.role, f"{row.made_at:%Y-%m-%d %H:%M}")
                for row in await operator.list()
            ],
        )

    _run(work, options)


def _names(names: list[str] | None) -> str:
    return "all" if names is None else ", ".join(names)


@consumers_command.command("status")
@_options
def status_command(**options: Any) -> None:
    """Show how far each is behind: feeds, changes, and for how long the oldest change has been waiting."""

    async def work(operator: ConsumerOperator) -> None:
        _show(
            ("name", "processes", "feeds behind", "changes behind", "seconds"),
            [
                (row.name, f"{row.processes:,}", f"{row.feeds:,}", f"{row.changes:,}", f"{row.seconds:,.0f}")
                for row in await operator.lags()
            ],
        )

    _run(work, options)


@consumers_command.command("reset")
@click.argument("name")
@click.option("--start", "begins", type=STARTS, required=True, help="What comes first, as for `add`.")
@_options
def reset_command(name: str, begins: str, **options: Any) -> None:
    """Have the consumer NAME begin again. Its processes are handed again the batches that they are at."""

    async def work(operator: ConsumerOperator) -> None:
        if not await operator.reset(name, begins):
            raise click.ClickException(f"there is no consumer {name}")

    _run(work, options)


@consumers_command.command("remove")
@click.argument("name")
@_options
def remove_command(name: str, **options: Any) -> None:
    """Remove the consumer NAME and how far it was."""

    async def work(operator: ConsumerOperator) -> None:
        if not await operator.remove(name):
            raise click.ClickException(f"there is no consumer {name}")

    _run(work, options)


def _show(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return progress("there are no consumers")
    shown = Table(*columns, box=None)
    for row in rows:
        shown.add_row(*row)
    return Console(soft_wrap=True, markup=False, width=None if sys.stdout.isatty() else WIDE).print(shown)


def _run(work: Callable[[ConsumerOperator], Awaitable[None]], options: dict[str, Any]) -> None:
    async def on_connection(connection: Any, _: str) -> None:
        import asyncpg

        from syncd.store.consumers import ConsumerOperator

        try:
            await work(ConsumerOperator(connection))
        except asyncpg.InsufficientPrivilegeError:
            raise click.ClickException(NOT_OWNER) from None
        except asyncpg.CheckViolationError:
            raise click.ClickException(
                "a consumer's name is of small letters, digits, `_`, `.` and `-`, 63 at most"
            ) from None

    url = options.pop("database_url")
    run_on_database(load_settings(**options), url, on_connection)
