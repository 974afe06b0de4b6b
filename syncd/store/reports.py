"""Reports in the database: the views of tables, and the logins that read them. An operator's."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, NamedTuple

import asyncpg
import msgspec

from syncd.postgres.migrate import LOCK_TIMEOUT_MS, PROLOGUE, _as_owner, _locked
from syncd.postgres.schema_files import named_parts
from syncd.postgres.statements import statement
from syncd.store.pool import Pool

HAS_ROLE = "SELECT pg_catalog.to_regrole($1) IS NOT NULL"
IDENTIFIER = "SELECT pg_catalog.quote_ident($1)"
# A policy is made under a lock that pushes wait behind: it is tried for so many milliseconds, again and again.
POLICY_LOCK_MS = 100
ROLE_NAME = "SELECT pg_catalog.quote_ident(rolname) FROM pg_catalog.pg_roles WHERE oid = $1"


class ReportView(NamedTuple):
    """A table's view in syncd_app. `version`: of the schema that it was made by; `columns`: JSON text; `projection_id`:
    what its view with indexes reads, None where it has none."""

    app: str
    table_name: str
    view_name: str
    version: int
    columns: str
    projection_id: int | None = None


class Projection(NamedTuple):
    """A table's records in typed columns with indexes. `columns`: JSON text; `indexes`: fields; `is_told`: the planner
    has statistics of its values, which EXPLAIN tells of."""

    projection_id: int
    app: str
    table_name: str
    columns: str
    indexes: list[str]
    is_read: bool
    is_told: bool


class ProjectionLag(NamedTuple):
    """How far a table's projection is behind. `name`: of its view; `seconds`: for how long the oldest change waits."""

    name: str
    feeds: int
    changes: int
    seconds: float


class ProjectionStep(NamedTuple):
    """What a step did. `feeds`: brought on, None where there is no projection; `more`: there is more to do at once;
    `looked`: the seconds of its look at all feeds."""

    feeds: int | None
    more: bool
    looked: float | None


class ReportLogin(NamedTuple):
    """A login that reads as a user, or some spaces by their ids. `there`: it is a role that may read the views."""

    role: str
    user_id: str | None
    spaces: list[str] | None
    there: bool


class RoleFaults(NamedTuple):
    """Why a role is none for reports: row security does not bind it, or it is a member of these."""

    whole: bool
    logs_in: bool
    members: list[str]


class ReportOperator:
    """For a connection of a superuser, or of who may create roles and acts as the tables' owner."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def prepare(self) -> None:
        """Makes the roles, and the policies by which row security binds them, where they are not so, and gives the
        views back to whom they belong. Raises asyncpg.InsufficientPrivilegeError, MigrationError for locks that are not
        to be had."""
        parts = named_parts("report_roles.sql")
        async with self._connection.transaction():
            await self._connection.execute(parts["roles"])
            await self._as_owner()
            await self._connection.execute(parts["grants"])
        for policy in filter(str.strip, parts["policies"].split(";")):
            work = partial(self._connection.execute, policy)
            await _locked(self._connection, partial(_as_owner, self._connection, work, POLICY_LOCK_MS))
        await self._take_back()

    async def _take_back(self) -> None:
        """Gives views that a restore, or somebody, gave to another owner back: read as that one they show more."""
        async with self._connection.transaction():
            await self._as_owner()
            astray = [row[0] for row in await self._fetch("report_views_astray")]
            if astray:
                async with self._lent():
                    for view in astray:
                        await self._connection.execute(f"ALTER VIEW syncd_app.{view} OWNER TO syncd_views")

    async def prepared(self) -> bool:
        """Whether there are the roles."""
        return bool(await self._connection.fetchval(HAS_ROLE, "syncd_reports"))

    async def _as_owner(self) -> None:
        await self._connection.execute(PROLOGUE.format(lock_timeout=LOCK_TIMEOUT_MS))

    @contextlib.asynccontextmanager
    async def _lent(self) -> AsyncIterator[None]:
        """As who connected, whom the role that owns the views is lent where it may give it; in a transaction."""
        await self._connection.execute("RESET ROLE")
        lent = False
        try:
            async with self._connection.transaction():
                await self._connection.execute("SET LOCAL ROLE syncd_views; RESET ROLE")
        except asyncpg.InsufficientPrivilegeError:
            lent = True
            await self._connection.execute("GRANT syncd_views TO CURRENT_USER")
        yield
        await self._connection.execute("RESET ROLE")
        if lent:
            await self._connection.execute("REVOKE syncd_views FROM CURRENT_USER")
        await self._as_owner()

    @contextlib.asynccontextmanager
    async def _as_views(self) -> AsyncIterator[None]:
        """As the role that owns the views; in a transaction."""
        async with self._lent():
            await self._connection.execute("SET LOCAL ROLE syncd_views; SET LOCAL search_path = pg_catalog")
            yield

    async def views(self) -> list[ReportView]:
        """Those that there are."""
        return [ReportView(*row) for row in await self._fetch("report_views")]

    async def put(self, view: ReportView, *, again: bool) -> None:
        """Makes a view, or changes it where its columns begin as before. `again`: in the place of the one that there
        is, whose readers stay. Raises asyncpg.DependentObjectsStillExistError where something is made of that one."""
        async with self._connection.transaction():
            await self._as_owner()
            text = await self._value("report_view_text", view.view_name, view.app, view.table_name, view.columns)
            await self._replace(view.view_name, text, again=again)
            await self._connection.execute(
                statement("report_view_note"), view.app, view.table_name, view.view_name, view.version, view.columns
            )

    async def _replace(self, view: str, text: str | None, *, again: bool) -> None:
        """Makes a view by a statement, None: removes it. `again`: first removes the one that there is, whose readers
        stay."""
        name = f"syncd_app.{await self._connection.fetchval(IDENTIFIER, view)}"
        async with self._as_views():
            readers = await self._fetch("report_view_readers", name) if again else []
            if again:
                await self._connection.execute(f"DROP VIEW IF EXISTS {name}")
            if text is not None:
                await self._connection.execute(text)
                for role in ["syncd_reports", *[await self._role(row[0]) for row in readers]]:
                    await self._connection.execute(f"GRANT SELECT ON {name} TO {role}")

    async def _role(self, oid: int) -> str:
        return str(await self._connection.fetchval(ROLE_NAME, oid)) if oid else "PUBLIC"

    async def drop(self, view: ReportView) -> None:
        """Removes a view. Raises asyncpg.DependentObjectsStillExistError."""
        async with self._connection.transaction():
            await self._as_owner()
            await self._replace(view.view_name, None, again=True)
            await self._connection.execute(statement("report_view_forget"), view.app, view.table_name)

    async def projections(self) -> list[Projection]:
        """Those that there are."""
        return [Projection(*row) for row in await self._fetch("projection_list")]

    async def make_projection(self, app: str, table: str, columns: str, indexes: list[str]) -> int:
        """Makes one, which is empty; its number."""
        async with self._connection.transaction():
            await self._as_owner()
            return int(await self._value("projection_make", app, table, columns, indexes))

    async def drop_projection(self, projection: int) -> None:
        """Removes one that no view reads."""
        async with self._connection.transaction():
            await self._as_owner()
            await self._connection.execute(statement("projection_drop"), projection)

    async def fill(self, projection: int, rows: int) -> tuple[int, int]:
        """Brings one further: how many feeds were, and how many changes it lacks."""
        async with self._connection.transaction():
            await self._as_owner()
            done = await self._value("projections_fill", projection, rows)
            return done or 0, int(await self._value("projection_waits", projection))

    async def read_projection(self, view: ReportView, name: str, projection: int | None, *, again: bool) -> None:
        """Has the view with indexes, `name`, read another projection, or (None) be there no more. `again`: with other
        columns. Raises asyncpg.DependentObjectsStillExistError."""
        async with self._connection.transaction():
            await self._as_owner()
            text = None
            if projection is not None:
                text = await self._value("projection_view_text", name, projection)
            await self._replace(name, text, again=again or text is None)
            await self._connection.execute(statement("projection_read"), view.app, view.table_name, projection)

    async def faults(self, role: str) -> RoleFaults | None:
        """Why a role is none for reports; None: there is no such role."""
        row = await self._connection.fetchrow(statement("report_role_faults"), role)
        return None if row is None else RoleFaults(*row)

    async def grant(self, role: str, user: str | None, spaces: list[str] | None) -> None:
        """Has a login read as a user, or some spaces. Raises asyncpg.NoDataFoundError, which names a space that there
        is not."""
        async with self._connection.transaction():
            quoted = await self._connection.fetchval(IDENTIFIER, role)
            await self._connection.execute(f"GRANT syncd_reports TO {quoted}")
            await self._as_owner()
            await self._connection.execute(statement("report_grant"), role, user, spaces)

    async def revoke(self, role: str) -> bool:
        """Takes that back; whether there was something."""
        async with self._connection.transaction():
            if await self._connection.fetchval(HAS_ROLE, await self._connection.fetchval(IDENTIFIER, role)):
                quoted = await self._connection.fetchval(IDENTIFIER, role)
                await self._connection.execute(f"REVOKE syncd_reports FROM {quoted}")
            await self._as_owner()
            return bool(await self._value("report_revoke", role))

    async def logins(self) -> list[ReportLogin]:
        """Those that read."""
        return [ReportLogin(*row) for row in await self._fetch("report_logins")]

    async def external(self) -> bool:
        """Whether memberships are taken over from outside."""
        async with self._connection.transaction():
            await self._as_owner()
            return bool(await self._value("report_memberships") == "external")

    def lost(self) -> bool:
        """Whether there is no connection any more."""
        return bool(self._connection.is_closed())

    async def _fetch(self, name: str, *arguments: Any) -> list[Any]:
        found: list[Any] = await self._connection.fetch(statement(name), *arguments)
        return found

    async def _value(self, name: str, *arguments: Any) -> Any:
        return await self._connection.fetchval(statement(name), *arguments)


def columns_text(columns: list[dict[str, str]]) -> str:
    """Columns of a view as JSON text."""
    return msgspec.json.encode(columns).decode()


class Projections:
    """As the role that serves. Raises Busy, DatabaseUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def step(self, rows: int) -> ProjectionStep:
        """Brings projections so many records further at most."""
        return ProjectionStep(*(await self._pool.fetch("projections_step", None, rows))[0])

    async def lags(self) -> list[ProjectionLag]:
        """How far each table's is behind."""
        return [ProjectionLag(*row) for row in await self._pool.fetch("projection_lags")]
