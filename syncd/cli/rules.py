"""`syncd rules`: what schemas and the application's rules would say to what was written."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from syncd.cli.operator_database import BOUND, operator_database
from syncd.cli.options import load_settings, progress, settings_options
from syncd.cli.schema import read_schemas
from syncd.settings.setting import parse_seconds

if TYPE_CHECKING:
    from syncd.service.rules import Rules
    from syncd.service.table_schema import TableSchema


@click.group("rules")
def rules_command() -> None:
    """The application's rules, and the schemas of its tables."""


@rules_command.command("test")
@click.option("--since", metavar="TIME", default="30d", show_default=True, help="How far back: 30d, 12h.")
@click.option("--app", metavar="APP", help="Only this app.  [all]")
@click.option("--schema", "files", metavar="FILE", multiple=True, type=click.Path(exists=True, path_type=Path),
              help="Schemas in place of those in force, as for `schema apply`; can be repeated.")  # fmt: skip
@click.option("--most", metavar="N", type=click.IntRange(1), default=100, show_default=True, help="Lines at most.")
@click.option("--database-url", metavar="URL", help="The database, as a superuser.")
@settings_options("data_dir", "rules")
def test_command(
    since: str, app: str | None, files: tuple[Path, ...], most: int, database_url: str | None, **options: Any
) -> None:
    """List what schemas and rules would have refused of the log. Nothing is written.

    Each change is judged over its record as it was then. What lost a conflict is not looked at.
    """
    from syncd.cli.migrate import refusals
    from syncd.service.rules import Rules, rules_of

    settings = load_settings(**options)
    try:
        seconds = parse_seconds(since)
        rules = Rules(rules_of(settings.rules) if settings.rules else ())
    except ValueError as why:
        raise click.ClickException(str(why)) from None
    except ImportError as why:
        raise click.ClickException(f"SYNCD_RULES={settings.rules}: {why}") from None
    given = read_schemas(files) if files else None
    with operator_database(settings, database_url, whole=True) as url:
        try:
            asyncio.run(_tested(url, rules, given, seconds, app, most))
        except BrokenPipeError:
            raise  # who reads has had enough, `head` for instance
        except refusals() as why:
            raise click.ClickException(f"the database said no: {why}") from None


async def _tested(
    url: str, rules: Rules, given: Mapping[tuple[str, str], str] | None, seconds: float, app: str | None, most: int
) -> None:
    from syncd.postgres.sessions import OPERATOR, connect
    from syncd.service.replay import replayed
    from syncd.store.backup import standing
    from syncd.store.replay import ReplayReads

    connection = await connect(url, timeout=10, statement_cache_size=0, settings=OPERATOR)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            if not (await standing(connection)).whole:
                raise click.ClickException(BOUND)
            schemas = await _schemas(connection, given)
            count = refused = 0
            async for feed, change, verdict in replayed(ReplayReads(connection), schemas, rules, seconds, app):
                count += 1
                if verdict is not None:
                    refused += 1
                if verdict is not None and refused <= most:
                    record = f"{feed.app}/{change.table_name}/{change.record_id}"
                    click.echo(f"{change.created_at:%Y-%m-%d %H:%M}  {record}  {change.user_id}  {verdict.text}")
    finally:
        await connection.close()
    progress(f"{refused:,} of {count:,} changes would be refused")


async def _schemas(connection: Any, given: Mapping[tuple[str, str], str] | None) -> dict[tuple[str, str], TableSchema]:
    import msgspec

    from syncd.service.schema_limits import SchemaRefused
    from syncd.service.table_schema import TableSchema, ValidatorMissing
    from syncd.store.schemas import SchemaOperator

    if given is None:
        newest = {(one.app, one.table_name): one.body for one in await SchemaOperator(connection).versions()}
        given = {table: body for table, body in newest.items() if body is not None}
    try:
        return {table: TableSchema(msgspec.json.decode(body)) for table, body in given.items()}
    except (SchemaRefused, ValidatorMissing) as why:
        raise click.ClickException(str(why)) from None
