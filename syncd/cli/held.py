"""`syncd held`: what first-generation clients pushed and may not be written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from syncd.cli.operator_command import run_on_database
from syncd.cli.operator_database import as_runtime
from syncd.cli.options import load_settings, progress, settings_options
from syncd.settings import Settings

if TYPE_CHECKING:
    from syncd.store.held import HeldFilter, HeldOperator

Command = TypeVar("Command", bound=Callable[..., Any])
LIMITS = ("max_changes", "max_change", "max_depth", "max_schema_version", "max_clock_skew")


@click.group("held")
def held_command() -> None:
    """What first-generation clients pushed and may not be written.

    It is written by itself once its author is a writer of its space; the rest waits for `retry`, after what it was
    refused for was changed. Each command takes all of it, or what --user, --app, --space and --reason say.
    """


def _options(*settings: str) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        command = settings_options("data_dir", *settings)(command)
        command = click.option("--database-url", metavar="URL", help="The database, as a superuser.")(command)
        for name, what in (("reason", "held for this code"), ("space", "under this space's id"), ("app", "of this app"),
                           ("user", "of this user")):  # fmt: skip
            command = click.option(f"--{name}", metavar="ID", help=f"Only what is {what}.")(command)
        return command

    return add


@held_command.command("list")
@_options()
def list_command(**options: Any) -> None:
    """Say what is held: how much, whose, where and why."""

    async def work(held: HeldOperator, which: HeldFilter, settings: Settings, url: str) -> None:
        from rich.console import Console
        from rich.table import Table

        shown = Table("user", "app", "space", "reason", "changes", "bytes", "since", box=None)
        for group in await held.groups(which):
            since = group.oldest.strftime("%Y-%m-%d %H:%M")
            numbers = (f"{group.changes:,}", f"{group.bytes:,}", since)
            shown.add_row(group.user_id, group.app, group.space_id or "", group.reason, *numbers)
        if shown.row_count:
            Console(soft_wrap=True, markup=False).print(shown)
        else:
            progress("nothing is held")

    _run(work, options)


@held_command.command("export")
@_options()
def export_command(**options: Any) -> None:
    """Write each held change as a line of JSON."""

    async def work(held: HeldOperator, which: HeldFilter, settings: Settings, url: str) -> None:
        import msgspec

        from syncd.core.clock import format_instant
        from syncd.service.held import as_it_came

        after = 0
        while rows := await held.found(which, after):
            for row in rows:
                said = {
                    "heldId": row.held_no, "userId": row.user_id, "clientId": row.client_id, "app": row.app,
                    "spaceId": row.space_id, "table": row.table_name, "id": row.record_id, "reason": row.reason,
                    "receivedAt": format_instant(round(row.received_at.timestamp() * 1_000_000)),
                }  # fmt: skip
                click.echo(msgspec.json.encode(said | as_it_came(row.change)))
            after = rows[-1].held_no

    _run(work, options)


@held_command.command("drop")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_options()
def drop_command(yes: bool, **options: Any) -> None:
    """Drop held changes for good: `syncd held export` keeps them elsewhere."""

    async def work(held: HeldOperator, which: HeldFilter, settings: Settings, url: str) -> None:
        count = sum(group.changes for group in await held.groups(which))
        if count and not yes:
            click.confirm(f"Drop {count:,} changes for good?", abort=True, err=True)
        progress(f"{await held.drop(which) if count else 0:,} changes dropped")

    _run(work, options)


@held_command.command("retry")
@_options(*LIMITS)
def retry_command(**options: Any) -> None:
    """Try to write held changes now, as their users and devices. Give it the limits that the server has."""
    _run(_retry, options)


async def _retry(held: HeldOperator, which: HeldFilter, settings: Settings, url: str) -> None:
    from syncd.cli.progress_bar import bar
    from syncd.protocol.normalize import Limits
    from syncd.service.held import AT_ONCE, Releaser
    from syncd.store.held import Due, HeldChanges
    from syncd.store.log import Log, cursor_key
    from syncd.store.pool import Pool

    limits = Limits(
        settings.max_changes, settings.max_change, settings.max_depth, settings.max_schema_version, settings.max_touched
    )
    devices = await held.devices(which)
    pool, outcomes = Pool(as_runtime(url), size=2), Counter[str]()
    try:
        skew = int(settings.max_clock_skew * 1_000_000)
        releaser = Releaser(
            Log(pool), HeldChanges(pool), await cursor_key(pool), limits, skew, lambda space, app, seq: None
        )
        with bar("retrying", sum(len(device.nos) for device in devices)) as step:
            for user, client, app, nos in devices:
                while nos:
                    released = await releaser.release(Due(user, client, app), nos[:AT_ONCE])
                    done = released.written | released.kept
                    outcomes["written"] += len(released.written)
                    outcomes.update(f"still held: {code}" for code in released.kept.values())
                    # Where nothing was done, somebody else was first.
                    left = [no for no in nos if no not in done] if done else nos[AT_ONCE:]
                    step(len(nos) - len(left))
                    nos = left
    finally:
        await pool.close()
    for outcome, count in sorted(outcomes.items()):
        progress(f"{count:,} {outcome}")


def _run(work: Callable[[HeldOperator, HeldFilter, Settings, str], Awaitable[None]], options: dict[str, Any]) -> None:
    """Does something with what an operator means."""
    from syncd.core.errors import SyncdError
    from syncd.store.held import HeldFilter

    which = HeldFilter(*(options.pop(name) for name in HeldFilter._fields))
    url = options.pop("database_url")
    settings = load_settings(**options)

    async def on_connection(connection: Any, found: str) -> None:
        from syncd.store.held import HeldOperator

        try:
            await work(HeldOperator(connection), which, settings, found)
        except SyncdError as why:
            raise click.ClickException(why.detail) from None

    run_on_database(settings, url, on_connection, unbound=True)
