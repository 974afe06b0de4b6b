"""`syncd erase`: a user or a record leaves the database for good."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from syncd.cli.operator_command import run_on_database
from syncd.cli.options import load_settings, progress, settings_options

if TYPE_CHECKING:
    from syncd.store.erasures import ErasureOperator

Command = TypeVar("Command", bound=Callable[..., Any])
REFUSED = {
    "record_not_found": "there is no such record",
    "user_not_found": "there is no such user",
    "not_begun": "the erasure of this user has not begun. Call `syncd erase asked`, which begins it",
    "last_owner": "the user alone owns spaces that have other members. Make somebody else an owner of each, "
    "or remove the others, and erase the user then: ",
}


@click.group("erase")
def erase_command() -> None:
    """Erase a user or a record for good, while servers run.

    Values leave the log, the state and every device at its next sync; stamps stay, so nothing comes back. What is
    printed at the end is a receipt. An erasure that was interrupted goes on when it is asked for again.
    """


def _options(command: Command) -> Command:
    command = settings_options("data_dir")(command)
    return click.option("--database-url", metavar="URL", help="The database, as a superuser.")(command)


@erase_command.command("record")
@click.argument("space")
@click.argument("table")
@click.argument("record", metavar="ID")
@click.option("--app", required=True, metavar="APP", help="The app that the record is of.")
@_options
def record_command(space: str, table: str, record: str, app: str, database_url: str | None, **options: Any) -> None:
    """Erase the record ID of TABLE in SPACE. The id itself stays, and is never used again.

    A record that moved there is erased where it was, too: each place has its receipt.
    """

    async def work(operator: ErasureOperator) -> None:
        first = await operator.begin_record(space, app, table, record)
        for ordinal in (first, *await operator.moved(first)):
            await _perform(operator, ordinal, "record")

    _run(work, database_url, options)


@erase_command.command("user")
@click.argument("user", metavar="ID")
@click.option("--anonymise", is_flag=True, help="Keep what the user wrote in spaces where others are.")
@_options
def user_command(user: str, anonymise: bool, database_url: str | None, **options: Any) -> None:
    """Erase the user ID: its name, memberships and devices, the spaces where nobody else is, and all that it wrote.

    End its tokens first: who comes with one again is a new user of the same id. Where an erasure was interrupted,
    that one is finished, and a new user of the id is left alone until you give the command again.
    """

    async def work(operator: ErasureOperator) -> None:
        await _perform(operator, await operator.begin_user(user, anonymise), "user")
        if await operator.known(user):
            progress(
                "The id is in use again, by somebody who came since. To erase that one too, give this command again."
            )

    _run(work, database_url, options)


@erase_command.command("asked")
@click.option("--anonymise", is_flag=True, help="Keep what the users wrote in spaces where others are.")
@_options
def asked_command(anonymise: bool, database_url: str | None, **options: Any) -> None:
    """Erase the users who asked for it by `DELETE /me` (--erase-me), and finish what was interrupted.

    Have a timer call it.
    """

    async def work(operator: ErasureOperator) -> None:
        import asyncpg

        for ordinal in await operator.asked():
            try:
                left = await operator.begin(ordinal, anonymise)
            except asyncpg.PostgresError as why:
                if why.sqlstate != "SY010":
                    raise
                progress(f"erasure {ordinal} waits: {_said(why)}")
                continue
            if left:
                await _perform(operator, ordinal, "user")

    _run(work, database_url, options)


@erase_command.command("list")
@_options
def list_command(database_url: str | None, **options: Any) -> None:
    """Print what was erased as lines of JSON, without values: keep them beside your backups."""

    async def work(operator: ErasureOperator) -> None:
        import msgspec

        for one in await operator.list():
            click.echo(msgspec.json.encode(one.facts()).decode())

    _run(work, database_url, options)


@erase_command.command("again")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_options
def again_command(file: Path, database_url: str | None, **options: Any) -> None:
    """Erase again what FILE, made by `syncd erase list`, names: in a database that was restored from before it."""

    async def work(operator: ErasureOperator) -> None:
        await erase_again(operator, _listed(file))

    _run(work, database_url, options)


@erase_command.command("check")
@click.argument("receipt")
@_options
def check_command(receipt: str, database_url: str | None, **options: Any) -> None:
    """Print what RECEIPT says, if this server signed it."""

    async def work(operator: ErasureOperator) -> None:
        import msgspec

        from syncd.service.erase import BadReceipt, read_receipt

        try:
            facts = read_receipt(receipt, await operator.key())
        except BadReceipt as wrong:
            raise click.ClickException(f"this is no receipt of this server's: {wrong}") from None
        click.echo(msgspec.json.encode(facts).decode())

    _run(work, database_url, options)


async def erase_again(operator: ErasureOperator, listed: list[Any]) -> int:
    """Performs those of a list that a database does not know to be done; how many."""
    from syncd.service.erase import perform

    begun = set(await operator.take_over(listed))
    chosen = [one for one in await operator.list() if one.ordinal in begun]
    for one in chosen:
        moved = await operator.moved(one.ordinal) if one.what == "record" else []
        for ordinal in (one.ordinal, *moved):
            await perform(operator, ordinal, one.what)
    progress(f"erased again: {len(chosen):,} of {len(listed):,}")
    return len(chosen)


def _listed(file: Path) -> list[Any]:
    import msgspec

    from syncd.store.erasures import Erasure

    try:
        lines = [msgspec.json.decode(line) for line in file.read_bytes().splitlines() if line.strip()]
        empty = dict.fromkeys(Erasure._fields)
        return [Erasure(**{**empty, **line, "counts": msgspec.json.encode(line["counts"]).decode()}) for line in lines]
    except (msgspec.MsgspecError, KeyError, TypeError):
        raise click.ClickException(f"{file} is not what `syncd erase list` prints.") from None


async def _perform(operator: ErasureOperator, ordinal: int, what: str) -> None:
    from syncd.service.erase import perform, receipt

    done = await perform(operator, ordinal, what)
    counts = ", ".join(f"{count:,} {name}" for name, count in done.facts()["counts"].items())
    progress(f"erased: {counts or 'nothing was left'}. The receipt:")
    click.echo(receipt(done, await operator.key()))


def _run(work: Callable[[ErasureOperator], Awaitable[None]], url: str | None, options: dict[str, Any]) -> None:
    async def on_connection(connection: Any, _: str) -> None:
        import asyncpg

        from syncd.store.erasures import ErasureOperator

        try:
            await work(ErasureOperator(connection))
        except asyncpg.PostgresError as why:
            if why.sqlstate != "SY010":
                raise
            raise click.ClickException(_said(why)) from None

    run_on_database(load_settings(**options), url, on_connection, unbound=True)


def _said(why: Any) -> str:
    said: dict[str, str] = why.as_dict()
    return REFUSED.get(said["message"], said["message"]) + (said.get("detail") or "")


__all__ = ["erase_again", "erase_command"]
