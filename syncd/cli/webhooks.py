"""`syncd webhooks`: addresses that are told what happens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from syncd.cli.consumers import NOT_OWNER, STARTS, WIDE
from syncd.cli.operator_command import run_on_database
from syncd.cli.operator_database import operator_database
from syncd.cli.options import load_settings, progress, settings_options

if TYPE_CHECKING:
    from syncd.store.webhooks import Webhook, WebhookOperator

Command = TypeVar("Command", bound=Callable[..., Any])
OPS = click.Choice(["insert", "update", "delete"])


@click.group("webhooks")
def webhooks_command() -> None:
    """Addresses that are told what happens, by signed messages (Standard Webhooks)."""


def _options(command: Command) -> Command:
    command = settings_options("data_dir")(command)
    return click.option("--database-url", metavar="URL", help="The database, as its owner or a superuser.")(command)


@webhooks_command.command("add")
@click.argument("name")
@click.argument("url")
@click.option("--app", "apps", metavar="APP", multiple=True, help="Only this app; can be repeated.  [all]")
@click.option("--table", "tables", metavar="TABLE", multiple=True, help="Only this table; can be repeated.  [all]")
@click.option("--op", "ops", type=OPS, multiple=True, help="Only this operation; can be repeated.  [all]")
@click.option("--field", "fields", metavar="FIELD", multiple=True,
              help="Only changes that write this field; can be repeated.  [all]")  # fmt: skip
@click.option("--start", "begins", type=STARTS, default="now", show_default=True,
              help="What it is sent: only what comes now, the state first, or the whole log.")  # fmt: skip
@click.option("--secret", metavar="whsec_…", help="The key of its signatures.  [a new one]")
@click.option("--secret-file", type=click.File(), metavar="FILE",
              help="A file with it, - for standard input: others on the machine see a command line.")  # fmt: skip
@click.option("--private", is_flag=True, help="The address may be in a private network, and be http://.")
@_options
def add_command(
    name: str, url: str, apps: tuple[str, ...], tables: tuple[str, ...], ops: tuple[str, ...], fields: tuple[str, ...],
    begins: str, secret: str | None, secret_file: TextIO | None, private: bool, **options: Any,
) -> None:  # fmt: skip
    """Have what happens sent to URL, as the consumer NAME; its secret is printed once."""
    from syncd.consumers.delivery import UnusableAddress, check_url
    from syncd.consumers.message import SECRET_BYTES, secret_of, secret_text

    if secret is not None and secret_file is not None:
        raise click.UsageError("--secret and --secret-file say the same: give one of them.")
    secret = secret_file.read().strip() if secret_file is not None else secret
    try:
        check_url(url, private)
        key = os.urandom(SECRET_BYTES) if secret is None else secret_of(secret)
    except (UnusableAddress, ValueError) as why:
        raise click.ClickException(str(why)) from None

    async def work(operator: WebhookOperator, connection: Any) -> None:
        from syncd.store.consumers import ConsumerOperator

        async with connection.transaction():
            if not await ConsumerOperator(connection).add(name, "syncd_owner", apps or None, tables or None, begins):
                raise click.ClickException(f"there is a consumer {name}")
            await operator.add(name, url, key, ops or None, fields or None, private)

    _run(work, options)
    click.echo(secret_text(key))


@webhooks_command.command("list")
@_options
def list_command(**options: Any) -> None:
    """Show what there is, and where it sends."""

    async def work(operator: WebhookOperator, connection: Any) -> None:
        rows = [(one.name, one.url, _only(one), one.state, one.reason or "") for one in await operator.all()]
        _show(("name", "url", "only", "state", "why"), rows)

    _run(work, options)


def _only(one: Webhook) -> str:
    parts = {"apps": one.apps, "tables": one.tables, "ops": one.ops, "fields": one.fields}
    return "; ".join(f"{what} {', '.join(names)}" for what, names in parts.items() if names) or "all"


@webhooks_command.command("status")
@_options
def status_command(**options: Any) -> None:
    """Show how far each is behind, what was sent, and what the last attempt came to."""

    async def work(operator: WebhookOperator, connection: Any) -> None:
        from syncd.store.consumers import ConsumerOperator

        lags = {lag.name: lag for lag in await ConsumerOperator(connection).lags()}
        counts = {one.name: one for one in await operator.counts()}
        rows = []
        for one in await operator.all():
            lag, count = lags[one.name], counts[one.name]
            numbers = (lag.changes, count.sent, count.failed, count.dead)
            rows.append((one.name, one.state, *(f"{number:,}" for number in numbers), one.said or ""))
        _show(("name", "state", "changes behind", "sent", "failed", "dead letters", "last"), rows)

    _run(work, options)


@webhooks_command.command("pause")
@click.argument("name")
@_options
def pause_command(name: str, **options: Any) -> None:
    """Send nothing more, until it is resumed. Nothing is lost meanwhile."""
    _into(name, "paused", "by an operator", ["active", "draining"], options)


@webhooks_command.command("resume")
@click.argument("name")
@_options
def resume_command(name: str, **options: Any) -> None:
    """Go on with what has been waiting."""
    _into(name, "active", None, ["paused", "draining"], options)


@webhooks_command.command("drain")
@click.argument("name")
@_options
def drain_command(name: str, **options: Any) -> None:
    """Send what is waiting by now, then pause."""
    _into(name, "draining", None, ["active", "paused"], options)


@webhooks_command.command("retry")
@click.argument("name")
@_options
def retry_command(name: str, **options: Any) -> None:
    """Send its dead letters once more, oldest first, up to the first that is not taken."""

    async def work(operator: WebhookOperator, connection: Any) -> None:
        from syncd.consumers.webhook_sender import WebhookLine, revive

        webhook, line, count = await _named(operator, name), WebhookLine(connection), 0
        while letters := await operator.dead(name):
            for letter in letters:
                found = await revive(webhook, letter, line)
                if not found.taken:
                    raise click.ClickException(f"{count:,} were taken; the next was not: {found.said}")
                count += 1
        progress(f"{count:,} dead letters were taken")

    _run(work, options)


@webhooks_command.command("replay")
@click.argument("name")
@click.option("--since", metavar="TIME", type=click.DateTime(["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"]), required=True,
              help="An instant in UTC, as 2026-11-29T12:00:00Z.")  # fmt: skip
@_options
def replay_command(name: str, since: datetime, **options: Any) -> None:
    """Send again what was written since an instant, as far as the log has it."""

    async def work(operator: WebhookOperator, connection: Any) -> None:
        await _named(operator, name)
        await operator.rewind(name, since.replace(tzinfo=UTC))

    _run(work, options)


@webhooks_command.command("remove")
@click.argument("name")
@_options
def remove_command(name: str, **options: Any) -> None:
    """Remove a webhook, how far it was, and its dead letters."""

    async def work(operator: WebhookOperator, connection: Any) -> None:
        from syncd.store.consumers import ConsumerOperator

        await _named(operator, name)
        await ConsumerOperator(connection).remove(name)

    _run(work, options)


@webhooks_command.command("run")
@click.option("--pauses", metavar="SECONDS", default="5,30,120,600,1800,7200,21600", show_default=True,
              help="Before each further attempt; after the last the message is a dead letter.")  # fmt: skip
@click.option("--database-url", metavar="URL", help="The database, as its owner or a superuser.")
@settings_options("data_dir", "log_format", "log_level")
def run_command(pauses: str, database_url: str | None, **options: Any) -> None:
    """Send for all webhooks that are not paused, until it is stopped."""
    from syncd.cli.logs import start_logging
    from syncd.consumers.webhook_sender import WebhookOptions, WebhookRunner

    try:
        chosen = WebhookOptions(tuple(float(one) for one in pauses.split(",") if one))
    except ValueError:
        raise click.BadParameter("seconds, separated by commas", param_hint="--pauses") from None
    settings = load_settings(**options)
    start_logging(settings)
    with operator_database(settings, database_url, whole=True) as url:
        asyncio.run(_until_stopped(WebhookRunner(url, chosen).run()))


async def _until_stopped(work: Any) -> None:
    task = asyncio.ensure_future(work)
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _into(name: str, state: str, why: str | None, of: list[str], options: dict[str, Any]) -> None:
    async def work(operator: WebhookOperator, connection: Any) -> None:
        now = (await _named(operator, name)).state
        if now != state and not await operator.into(name, state, why, of=of):
            raise click.ClickException(f"the webhook {name} is {now}")

    _run(work, options)


async def _named(operator: WebhookOperator, name: str) -> Webhook:
    found = next((one for one in await operator.all() if one.name == name), None)
    if found is None:
        raise click.ClickException(f"there is no webhook {name}")
    return found


def _show(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(*columns, box=None)
    for row in rows:
        shown.add_row(*row)
    if rows:
        Console(soft_wrap=True, markup=False, width=None if sys.stdout.isatty() else WIDE).print(shown)
    else:
        progress("there are no webhooks")


def _run(work: Callable[[WebhookOperator, Any], Awaitable[None]], options: dict[str, Any]) -> None:
    async def on_connection(connection: Any, _: str) -> None:
        import asyncpg

        from syncd.store.webhooks import WebhookOperator

        try:
            await work(WebhookOperator(connection), connection)
        except asyncpg.InsufficientPrivilegeError:
            raise click.ClickException(NOT_OWNER) from None
        except asyncpg.CheckViolationError:
            raise click.ClickException("a name is of small letters, digits, `_`, `.` and `-`, 63 at most") from None

    url = options.pop("database_url")
    run_on_database(load_settings(**options), url, on_connection)
