"""`syncd types`: types for applications, from the JSON Schemas that the server checks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from syncd.cli.options import progress, settings_options
from syncd.cli.schema import read_schemas, run_with_schemas

if TYPE_CHECKING:
    from syncd.store.schemas import SchemaOperator

NO_SCHEMA = "no table has a schema: `syncd schema apply FILE` puts one in force, or name a file by --file"


@click.command("types")
@click.argument("language", metavar="LANGUAGE", type=click.Choice(["typescript", "python"]))
@click.option("--file", "files", metavar="FILE", multiple=True, type=click.Path(exists=True, path_type=Path),
              help="A file as `syncd schema apply` takes it, instead of the database. May be given again.")  # fmt: skip
@click.option("--app", metavar="APP", help="Whose tables, where there are schemas of several apps.")
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
              help="Where to write.  [the standard output]")  # fmt: skip
@settings_options("data_dir")
@click.option("--database-url", metavar="URL", help="The database, as its owner or a superuser.")
def types_command(language: str, files: tuple[Path, ...], app: str | None, out: Path | None, **options: Any) -> None:
    """Write the types of an app's tables, for LANGUAGE typescript or python.

    They are made of the JSON Schemas that are in force, or that --file has. The same schemas make the same text.
    """
    schemas = read_schemas(files) if files else _in_force(options)
    if not schemas:
        raise click.ClickException(NO_SCHEMA)
    chosen = app or _only_app(schemas)
    tables = {table: msgspec.json.decode(body) for (of, table), body in schemas.items() if of == chosen}
    if not tables:
        raise click.ClickException(f"there is no schema of {chosen}; there are those of {_listed(schemas)}")
    text = _written(language, chosen, tables)
    if out is None:
        click.echo(text, nl=False)
    else:
        _put(out, text)


def _in_force(options: dict[str, Any]) -> dict[tuple[str, str], str]:
    found = dict[tuple[str, str], str]()

    async def work(operator: SchemaOperator) -> None:
        found.update({(one.app, one.table_name): one.body for one in await operator.in_force()})

    run_with_schemas(work, options)
    return found


def _only_app(schemas: Mapping[tuple[str, str], str]) -> str:
    apps = {app for app, _ in schemas}
    if len(apps) > 1:
        raise click.UsageError(f"there are schemas of {_listed(schemas)}: name one by --app")
    return apps.pop()


def _listed(schemas: Mapping[tuple[str, str], str]) -> str:
    return ", ".join(sorted({app for app, _ in schemas}))


def _written(language: str, app: str, tables: Mapping[str, dict[str, Any]]) -> str:
    from syncd.service.python_types import python_types
    from syncd.service.record_types import ObjectOf, record_type
    from syncd.service.schema_limits import SchemaRefused
    from syncd.service.typescript_types import typescript_types

    records = dict[str, ObjectOf]()
    for table, schema in tables.items():
        try:
            records[table] = record_type(schema)
        except SchemaRefused as why:
            raise click.ClickException(f"{app}/{table}: this syncd cannot read its schema: {why}") from None
    return typescript_types(app, records) if language == "typescript" else python_types(app, records)


def _put(out: Path, text: str) -> None:
    """Writes the file, unless it says the same already, so that nothing that watches it is told for nothing."""
    try:
        if out.exists() and out.read_bytes() == text.encode():
            progress(f"{out}: as it was")
            return
        out.write_bytes(text.encode())
    except OSError as why:
        raise click.ClickException(f"{out}: {why.strerror}") from None
    progress(f"{out}: written")
