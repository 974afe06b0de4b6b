"""`syncd quota`: what users and spaces have and may have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from syncd.cli.operator_command import run_on_database
from syncd.cli.options import load_settings, progress, settings_options
from syncd.settings import Settings

if TYPE_CHECKING:
    from syncd.store.audit import AuditOperator
    from syncd.store.usage import QuotaOperator

Command = TypeVar("Command", bound=Callable[..., Any])
OF_A_USER = ("requests", "bytes_in", "bytes_out", "user_records", "user_bytes", "devices")
OF_A_SPACE = ("space_records", "space_bytes")
TOTALS = ("space_records", "space_bytes", "user_records", "user_bytes")


@click.group("quota")
def quota_command() -> None:
    """What users and spaces have, and quotas of their own in place of the settings."""


def _options(*settings: str) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        command = settings_options("data_dir", *settings)(command)
        command = click.option("--database-url", metavar="URL", help="The database, as a superuser.")(command)
        command = click.option("--space", metavar="ID", help="This space.")(command)
        return click.option("--user", metavar="ID", help="This user.")(command)

    return add


@quota_command.command("list")
@click.option("--most", metavar="N", type=click.IntRange(1), default=100, show_default=True, help="Lines at most.")
@_options(*(f"quota_{name}" for name in TOTALS))
def list_command(most: int, user: str | None, space: str | None, **options: Any) -> None:
    """Show what there is, the most first, and which quotas are somebody's own."""

    async def work(operator: QuotaOperator, noted: AuditOperator, settings: Settings) -> None:
        from rich.console import Console
        from rich.table import Table

        shown = Table("of", "id", "quota", "used", "limit", "", box=None)
        for row in await operator.list(user, space, most):
            limit = row.own if row.own is not None else getattr(settings, f"quota_{row.quota}", None)
            over = bool(limit) and (row.used or 0) > int(limit or 0)
            said = " ".join(word for word, true in (("own", row.own is not None), ("exceeded", over)) if true)
            used = "" if row.used is None else f"{row.used:,}"
            shown.add_row(row.kind, row.name, row.quota, used, f"{limit:,}" if limit else "none", said)
        if shown.row_count:
            Console(soft_wrap=True, markup=False).print(shown)
        else:
            progress("nothing was counted yet")

    _run(work, options)


@quota_command.command("set")
@click.argument("quota", type=click.Choice([*OF_A_USER, *OF_A_SPACE]))
@click.argument("most", metavar="N|default")
@_options()
def set_command(quota: str, most: str, user: str | None, space: str | None, **options: Any) -> None:
    """Give a user or a space a quota of its own: a number, 0 for none, or `default` to take it back.

    Servers know it with their next look (--quota-every).
    """
    if (user is None) == (space is None) or (space is not None) != (quota in OF_A_SPACE):
        whose = "space" if quota in OF_A_SPACE else "user"
        raise click.UsageError(f"{quota} is one of a {whose}: name that, and it alone.")
    if most != "default" and not (most.isascii() and most.isdigit() and len(most) < 19):
        raise click.BadParameter("a whole number, or `default`", param_hint="'N|default'")

    async def work(operator: QuotaOperator, noted: AuditOperator, settings: Settings) -> None:
        if not await operator.set(user, space, quota, None if most == "default" else int(most)):
            raise click.ClickException("there is none of this id")
        await noted.note("quota_set", space, user, {"quota": quota, "most": most})

    _run(work, options)


@quota_command.command("recount")
@click.option("--space", metavar="ID", help="Only this space.")
@click.option("--database-url", metavar="URL", help="The database, as a superuser.")
@settings_options("data_dir")
def recount_command(space: str | None, **options: Any) -> None:
    """Count records and bytes again from the beginning: servers do it, in small parts, within ten minutes."""

    async def work(operator: QuotaOperator, noted: AuditOperator, settings: Settings) -> None:
        progress(f"{await operator.recount(space):,} feeds are counted again")

    _run(work, options)


def _run(work: Callable[[QuotaOperator, AuditOperator, Settings], Awaitable[None]], options: dict[str, Any]) -> None:
    url = options.pop("database_url")
    settings = load_settings(**options)

    async def on_connection(connection: Any, _: str) -> None:
        from syncd.store.audit import AuditOperator
        from syncd.store.usage import QuotaOperator

        await work(QuotaOperator(connection), AuditOperator(connection), settings)

    run_on_database(settings, url, on_connection, unbound=True)
