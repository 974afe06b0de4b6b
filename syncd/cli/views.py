"""`syncd views`: a view in SQL of each table that has a schema, and the logins that read them for reports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from syncd.cli.operator_command import run_on_database
from syncd.cli.options import load_settings, progress, settings_options
from syncd.core.ids import fault_in_id

if TYPE_CHECKING:
    from syncd.cli.projecting import Projecting
    from syncd.service.report_columns import ReportColumn
    from syncd.store.reports import ReportLogin, ReportOperator, ReportView
    from syncd.store.schemas import SchemaInForce

Command = TypeVar("Command", bound=Callable[..., Any])
NOT_OWNER = (
    "views and their roles are made by a superuser, or by a member of the tables' owner that may create roles: "
    "connect as one of them."
)
EXTERNAL = (
    "memberships are taken over from outside: it reads what {user} was last seen to be a member of, and goes on where "
    "{user} was removed outside and has not been seen since. Revoke it yourself then"
)
NONE_YET = "there are no views: `syncd views apply` makes them"


@click.group("views")
def views_command() -> None:
    """Views in SQL of the tables that have a JSON Schema, and the logins that read them."""


def _options(command: Command) -> Command:
    command = settings_options("data_dir")(command)
    return click.option("--database-url", metavar="URL", help="The database, as a superuser.")(command)


@views_command.command("apply")
@_options
def apply_command(**options: Any) -> None:
    """Make the view syncd_app.APP_TABLE of each table that has a schema, or bring it up to date.

    What a new version of the schema adds comes last. A view whose columns go or get another type is made new, unless
    something depends on it, which is told. Where fields have `"x-index": true`, a copy with these indexes is
    filled, and read in syncd_app.APP_TABLE_indexed. Run it again after `syncd schema apply`.
    """

    async def work(operator: ReportOperator, connection: Any) -> None:
        from syncd.cli.projecting import Projecting
        from syncd.store.schemas import SchemaOperator

        await operator.prepare()
        schemas = await SchemaOperator(connection).in_force()
        if not schemas:
            progress("no table has a schema: `syncd schema apply FILE` puts one in force")
        there = {(one.app, one.table_name): one for one in await operator.views()}
        work = _Applying(operator, there, Projecting(operator, await operator.projections()))
        for schema in schemas:
            await work.bring(schema)
        for app, table in there.keys() - {(one.app, one.table_name) for one in schemas}:
            progress(f"{app}/{table}: it has no schema any more; its view stays until `syncd views drop {app}/{table}`")
        if work.failed:
            raise click.ClickException(f"{work.failed} could not be made as the schemas have them")

    _run(work, options)


class _Applying:
    """Views of tables, made one after the other. `failed`: how many could not be."""

    def __init__(
        self, operator: ReportOperator, there: dict[tuple[str, str], ReportView], projecting: Projecting
    ) -> None:
        self._operator, self._there, self._projecting = operator, there, projecting
        self.failed = 0

    async def bring(self, schema: SchemaInForce) -> None:
        """Makes the view of a table, or brings it up to date, and says what became of it."""
        import asyncpg

        from syncd.service.report_columns import (
            ReportColumn,
            ReportRefused,
            check_projected,
            indexed_fields,
            report_columns,
        )

        named = f"{schema.app}/{schema.table_name}"
        try:
            said = msgspec.json.decode(schema.body)
            wanted, indexes = report_columns(said), indexed_fields(said)
            before = self._there.get((schema.app, schema.table_name))
            if before is None:
                await self._make(schema, wanted)
            else:
                columns = [ReportColumn.of(one) for one in msgspec.json.decode(before.columns)]
                await self._change(schema, before, columns, wanted)
            made = self._there[schema.app, schema.table_name]
            if indexes:
                check_projected([ReportColumn.of(one) for one in msgspec.json.decode(made.columns)])
            await self._projecting.bring(made, indexes)
        except (ReportRefused, asyncpg.PostgresError, click.ClickException) as why:
            # A table's fault is no other's, unless no table can be made any more.
            if self._operator.lost():
                raise
            self.failed += 1
            said = getattr(why, "detail", None) or str(why)
            progress(f"{named}: not made: {' '.join(said.split())}")

    async def _make(self, schema: SchemaInForce, wanted: list[ReportColumn]) -> None:
        from syncd.service.report_columns import indexed, view_name

        plain = [one.view_name for one in self._there.values()]
        name = view_name(schema.app, schema.table_name, [*plain, *map(indexed, plain)])
        await self._put(schema, name, wanted, again=False)
        progress(f"{schema.app}/{schema.table_name}: made syncd_app.{name}")
        for one in wanted:
            if one.field not in (None, one.column):
                progress(f"  the field {one.field} is its column {one.column}")

    async def _change(
        self, schema: SchemaInForce, before: ReportView, columns: list[ReportColumn], wanted: list[ReportColumn]
    ) -> None:
        import asyncpg

        from syncd.service.report_columns import kept, replaced

        name, named = before.view_name, f"{schema.app}/{schema.table_name}"
        following = replaced(columns, wanted)
        if following is not None:
            await self._put(schema, name, following, again=False)
            added = [one.column for one in following[len(columns) :]]
            progress(f"{named}: added {', '.join(added)}" if added else f"{named}: as it was")
            return
        try:
            await self._put(schema, name, wanted, again=True)
            progress(f"{named}: made syncd_app.{name} again, with other columns")
        except asyncpg.DependentObjectsStillExistError as why:
            following = kept(columns, wanted)
            if following is None:
                raise
            await self._put(schema, name, following, again=False)
            gone = ", ".join(one.column for one in columns if one not in wanted)
            progress(f"{named}: {gone} stays though the schema has it no more: {' '.join((why.detail or '').split())}")

    async def _put(self, schema: SchemaInForce, name: str, columns: list[ReportColumn], *, again: bool) -> None:
        from syncd.store.reports import ReportView, columns_text

        text = columns_text([one.said() for one in columns])
        before = self._there.get((schema.app, schema.table_name))
        read = None if before is None else before.projection_id
        view = ReportView(schema.app, schema.table_name, name, schema.version, text, read)
        await self._operator.put(view, again=again)
        self._there[schema.app, schema.table_name] = view


@views_command.command("list")
@_options
def list_command(**options: Any) -> None:
    """Show the views, with the version of the schema that each was made by, and who reads them."""

    async def work(operator: ReportOperator, connection: Any) -> None:
        from syncd.store.schemas import SchemaOperator

        newest = {(one.app, one.table_name): one.version for one in await SchemaOperator(connection).in_force()}
        rows = [("table", "view", "columns", "schema", "indexes")]
        indexes = {one.projection_id: one.indexes for one in await operator.projections()}
        for view in await operator.views():
            now = newest.get((view.app, view.table_name))
            version = str(view.version) if now == view.version else f"{view.version}, by now {now or 'none'}"
            rows.append((
                f"{view.app}/{view.table_name}", f"syncd_app.{view.view_name}",
                str(len(msgspec.json.decode(view.columns))), version,
                ", ".join(indexes.get(view.projection_id or 0, [])),
            ))  # fmt: skip
        _show(rows, NONE_YET)
        logins = [(one.role, _reads(one.user_id, one.spaces) + _gone(one)) for one in await operator.logins()]
        if logins:
            click.echo("")
            _show([("login", "reads"), *logins], "")

    _run(work, options)


def _reads(user: str | None, spaces: list[str] | None) -> str:
    return f"what the user {user} may" if spaces is None else f"the spaces {', '.join(spaces)}"


def _gone(login: ReportLogin) -> str:
    """Of a role that was dropped, what is to be done before another is made with its name."""
    return "" if login.there else f" (there is no such reader any more: `syncd views revoke {login.role}`)"


def _show(rows: list[Any], none: str) -> None:
    if len(rows) == 1:
        progress(none)
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


@views_command.command("drop")
@click.argument("tables", metavar="APP/TABLE...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that there are.")
@_options
def drop_command(tables: tuple[str, ...], everything: bool, **options: Any) -> None:
    """Remove the views of tables. One that something depends on stays."""
    if everything == bool(tables):
        raise click.UsageError("name tables as APP/TABLE, or say --all")

    async def work(operator: ReportOperator, _: Any) -> None:
        import asyncpg

        from syncd.cli.projecting import Projecting

        there = {f"{one.app}/{one.table_name}": one for one in await operator.views()}
        for name in there if everything else tables:
            if name not in there:
                raise click.ClickException(f"{name} has no view")
            try:
                await Projecting(operator, await operator.projections()).bring(there[name], [])
                await operator.drop(there[name])
            except asyncpg.DependentObjectsStillExistError as why:
                raise click.ClickException(f"{name}: it stays: {' '.join((why.detail or '').split())}") from None
            progress(f"{name}: its view is removed")

    _run(work, options)


@views_command.command("grant")
@click.argument("role")
@click.option("--user", metavar="USER", help="It reads what this user may read, as long as the user may.")
@click.option("--space", "spaces", metavar="SPACE", multiple=True, help="It reads this space; can be repeated.")
@_options
def grant_command(role: str, user: str | None, spaces: tuple[str, ...], **options: Any) -> None:
    """Have the login ROLE, which there is in the database, read the views: as a user, or some spaces.

    It reads nothing else of syncd's, and becomes nobody else. What it had before is replaced.
    """
    if (user is None) == (not spaces):
        raise click.UsageError("say what it reads: --user USER, or --space SPACE")
    for name in (user, *spaces):
        if name is not None and not name.startswith("_personal:") and (wrong := fault_in_id(name)):
            raise click.UsageError(f"a user or space {wrong}")

    async def work(operator: ReportOperator, _: Any) -> None:
        import asyncpg

        await operator.prepare()
        await _check_role(operator, role)
        try:
            await operator.grant(role, user, list(spaces) or None)
        except asyncpg.NoDataFoundError as why:
            raise click.ClickException(str(why)) from None
        progress(f"{role} reads {_reads(user, list(spaces) or None)}")
        if user is not None and await operator.external():
            progress(EXTERNAL.format(user=user))

    _run(work, options)


async def _check_role(operator: ReportOperator, role: str) -> None:
    """Raises ClickException for a role that is none for reports."""
    faults = await operator.faults(role)
    if faults is None:
        raise click.ClickException(
            f"there is no role {role}: CREATE ROLE … LOGIN PASSWORD '…' NOSUPERUSER; then run this again"
        )
    if role.startswith("syncd_"):
        raise click.ClickException(f"{role} is a role of syncd's own: make a login for reports")
    if faults.whole:
        raise click.ClickException(f"row security does not bind {role}, a superuser or one with BYPASSRLS")
    if faults.members:
        raise click.ClickException(f"{role} can become {', '.join(faults.members)}: make a login for reports alone")


@views_command.command("revoke")
@click.argument("role")
@_options
def revoke_command(role: str, **options: Any) -> None:
    """Take that back: ROLE reads nothing any more."""

    async def work(operator: ReportOperator, _: Any) -> None:
        if not (await operator.prepared() and await operator.revoke(role)):
            raise click.ClickException(f"{role} reads no views")

    _run(work, options)


def _run(work: Callable[[ReportOperator, Any], Awaitable[None]], options: dict[str, Any]) -> None:
    async def on_connection(connection: Any, _: str) -> None:
        import asyncpg

        from syncd.postgres.schema_files import MigrationError
        from syncd.store.reports import ReportOperator

        try:
            await work(ReportOperator(connection), connection)
        except MigrationError as why:
            raise click.ClickException(f"the views' policies are not made: {why}") from None
        except asyncpg.InsufficientPrivilegeError as why:
            raise click.ClickException(f"{NOT_OWNER} ({why})") from None
        except (asyncpg.UndefinedFunctionError, asyncpg.UndefinedTableError):
            raise click.ClickException(
                "the database has an older schema of syncd's: run `syncd migrate` first."
            ) from None

    url = options.pop("database_url")
    run_on_database(load_settings(**options), url, on_connection)
