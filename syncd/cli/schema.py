"""`syncd schema`: JSON Schemas of an application's tables, which every push is checked by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from syncd.cli.operator_command import run_on_database
from syncd.cli.options import load_settings, progress, settings_options
from syncd.core.ids import fault_in_id

if TYPE_CHECKING:
    from syncd.store.schemas import SchemaOperator, SchemaVersion

Command = TypeVar("Command", bound=Callable[..., Any])
NOT_OWNER = "only who may act as the tables' owner, or a superuser, keeps schemas: connect as one of them."
# Bytes of a file, and tables in one.
LARGEST_FILE, MOST_TABLES = 8 << 20, 1000


@click.group("schema")
def schema_command() -> None:
    """JSON Schemas (2020-12) of an application's tables: no device writes what is not valid by them."""


def _options(command: Command) -> Command:
    command = settings_options("data_dir")(command)
    return click.option("--database-url", metavar="URL", help="The database, as its owner or a superuser.")(command)


@schema_command.command("apply")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@_options
def apply_command(files: tuple[Path, ...], **options: Any) -> None:
    """Put the schemas of FILE in force: {"app": "notes", "tables": {"pages": {…}}}. All of them, or none.

    Servers judge by them within two seconds. A table that no file names keeps the schema that it has.
    """
    found = read_schemas(files)

    async def work(operator: SchemaOperator) -> None:
        for (app, table), body in found.items():
            version = await operator.put(app, table, body)
            progress(f"{app}/{table}: {'as it was' if version is None else f'version {version}'}")

    run_with_schemas(work, options)


def read_schemas(files: Sequence[Path]) -> dict[tuple[str, str], str]:
    """The schemas of files by app and table, as JSON texts. Raises click.ClickException, which says what is wrong, and
    where."""
    found = dict[tuple[str, str], str]()
    for file in files:
        for table, body in _read(file).items():
            if table in found:
                raise click.ClickException(f"{file}: another file has a schema of {'/'.join(table)}")
            found[table] = body
    return found


def _read(file: Path) -> dict[tuple[str, str], str]:
    """The schemas of a file by app and table, as JSON texts. Says what is wrong, and where."""
    try:
        text = file.read_bytes()
        if len(text) > LARGEST_FILE:
            raise click.ClickException(f"{file}: it is larger than {LARGEST_FILE >> 20} MiB")
        said = msgspec.json.decode(text)
    except OSError as why:
        raise click.ClickException(f"{file}: {why.strerror}") from None
    except (msgspec.DecodeError, RecursionError) as why:
        raise click.ClickException(f"{file}: it is no JSON: {why}") from None
    tables = said.get("tables") if isinstance(said, dict) else None
    if not isinstance(said, dict) or said.keys() != {"app", "tables"} or not isinstance(tables, dict):
        raise click.ClickException(f'{file}: write {{"app": "NAME", "tables": {{"TABLE": {{…}}}}}}')
    if len(tables) > MOST_TABLES:
        raise click.ClickException(f"{file}: it has more than {MOST_TABLES:,} tables")
    for name in (said["app"], *tables):
        if not isinstance(name, str) or (wrong := fault_in_id(name)):
            raise click.ClickException(f"{file}: an app or table {wrong if isinstance(name, str) else 'is a text'}")
    return {(said["app"], table): _checked(file, table, schema) for table, schema in tables.items()}


def _checked(file: Path, table: str, schema: object) -> str:
    from syncd.service.schema_limits import SchemaRefused
    from syncd.service.table_schema import TableSchema, ValidatorMissing
    from syncd.service.writable_by import check_writable_by

    try:
        ready = TableSchema(schema)
        assert isinstance(schema, dict)
        check_writable_by(schema)
    except SchemaRefused as why:
        raise click.ClickException(f"{file}: {'/'.join(('tables', table, *why.path))}: {why.why}") from None
    except ValidatorMissing as why:
        raise click.ClickException(str(why)) from None
    for path, word in ready.unknown:
        place = "/".join(("tables", table, *path))
        progress(f"warning: {file}: {place}: {word} is no keyword of JSON Schema, and checks nothing")
    for name, cost in ready.cost.narrow():
        what = "fields that it does not name" if name is None else name
        text = "" if cost.characters is None else f", or texts of {cost.characters:,} characters,"
        objects = "" if cost.objects is None else f", or {cost.objects:,} objects,"
        progress(
            f"warning: {file}: tables/{table}: of {what}, lists of more than some {cost.items:,} items{objects}{text} "
            "are refused: so much of the schema is asked of each"
        )
    return msgspec.json.encode(schema).decode()


@schema_command.command("list")
@_options
def list_command(**options: Any) -> None:
    """Show which tables have a schema, its version, and who put it in force when."""

    async def work(operator: SchemaOperator) -> None:
        newest = {(one.app, one.table_name): one for one in await operator.versions()}
        rows = [("table", "version", "since", "by")]
        for (app, table), one in newest.items():
            if one.body is not None:
                rows.append((f"{app}/{table}", str(one.version), f"{one.applied_at:%Y-%m-%d %H:%M}", one.applied_by))
        if len(rows) == 1:
            progress("no table has a schema: `syncd schema apply FILE` puts one in force")
            return
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())

    run_with_schemas(work, options)


@schema_command.command("show")
@click.argument("table", metavar="APP/TABLE")
@click.option("--version", metavar="N", type=click.IntRange(1), help="An earlier one.  [the newest]")
@_options
def show_command(table: str, version: int | None, **options: Any) -> None:
    """Print a table's schema as JSON, and what versions it has had as messages."""

    async def work(operator: SchemaOperator) -> None:
        found = await operator.versions(*_named(table))
        for one in found:
            gone = ", removed" if one.body is None else ""
            progress(f"version {one.version}, {one.applied_at:%Y-%m-%d %H:%M}, {one.applied_by}{gone}")
        body = _body(found, version)
        if body is None:
            which = "" if version is None else f" of version {version}"
            raise click.ClickException(f"{table} has no schema{which}")
        click.echo(msgspec.json.format(body, indent=2))

    run_with_schemas(work, options)


def _body(found: list[SchemaVersion], version: int | None) -> str | None:
    chosen = [one.body for one in found if version in (None, one.version)]
    return chosen[-1] if chosen else None


@schema_command.command("remove")
@click.argument("table", metavar="APP/TABLE")
@_options
def remove_command(table: str, **options: Any) -> None:
    """Take a table's schema out of force. Its versions are kept."""

    async def work(operator: SchemaOperator) -> None:
        if await operator.put(*_named(table), None) is None:
            raise click.ClickException(f"{table} has no schema")
        progress(f"{table} has no schema any more")

    run_with_schemas(work, options)


def _named(table: str) -> tuple[str, str]:
    app, slash, name = table.partition("/")
    if not (app and slash and name):
        raise click.UsageError("name a table as APP/TABLE")
    return app, name


def run_with_schemas(work: Callable[[SchemaOperator], Awaitable[None]], options: dict[str, Any]) -> None:
    """Has `work` done in one transaction on the database that a command's options name. Raises ClickException."""

    async def on_connection(connection: Any, _: str) -> None:
        import asyncpg

        from syncd.store.schemas import SchemaOperator

        try:
            async with connection.transaction():
                await work(SchemaOperator(connection))
        except asyncpg.InsufficientPrivilegeError:
            raise click.ClickException(NOT_OWNER) from None
        except (asyncpg.UndefinedFunctionError, asyncpg.UndefinedTableError):
            raise click.ClickException(
                "the database has an older schema of syncd's: run `syncd migrate` first."
            ) from None

    url = options.pop("database_url")
    run_on_database(load_settings(**options), url, on_connection)
