"""The columns of views for reports: values of another type are null, any name will do, and schemas change."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syncd.service.report_columns import report_columns
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.reports import columns, done, login, schema, syncd
from tests.support.wire import Device, Json, edit, unique

TYPES = ["text", "bigint", "double precision", "boolean", "date", "timestamptz", "jsonb"]
DAYS = st.dates().map(str) | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", fullmatch=True)
CLOCKS = st.from_regex(r"[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,12})?([zZ]|[+-][0-9]{2}:[0-9]{2})", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
VALUES = st.one_of(
    st.none(), st.booleans(), TEXTS, DAYS, st.tuples(DAYS, CLOCKS).map("".join), st.integers(),
    st.floats(allow_nan=False, allow_infinity=False), st.lists(st.integers(), max_size=2),
    st.sampled_from(["now", "infinity", "-infinity", "epoch", "today", "2024-02-29", "2023-02-29", "0000-01-01"]),
)  # fmt: skip


@pytest.fixture(scope="module")
async def server(workspace: Path) -> AsyncIterator[Server]:
    with Server(workspace / "report-columns") as running:
        yield running


@pytest.fixture(scope="module")
async def expressions(server: Server) -> dict[str, str]:
    """By type, the value of a field `x` in a record."""
    asked = "SELECT t, syncd.sync_report_value('x', t) FROM unnest($1::text[]) AS t"
    conn = await asyncpg.connect(server.owner_dsn)
    found = {row[0]: row[1] for row in await conn.fetch(asked, TYPES)}
    await conn.close()
    return found


def fits(value: Any, type_: str) -> bool:
    """Whether a value is one of a type, as JSON Schema and Python's library have it."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match type_:
        case "text":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "bigint":
            return number and value == math.floor(value) and -(2**63) <= value < 2**63
        case "double precision":
            return number and (value == 0 or 1e-300 <= abs(value) <= 1e308)
        case "date":
            return isinstance(value, str) and bool(re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", value)) and day(value)
        case "timestamptz":
            return isinstance(value, str) and instant(value)
    return value is not None


def day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def instant(text: str) -> bool:
    form = r"([0-9-]{10})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})([.][0-9]{1,9})?([zZ]|[+-](0[0-9]|1[0-4]):[0-5][0-9])"
    found = re.fullmatch(form, text)
    if not found:
        return False
    try:
        datetime.fromisoformat(f"{found[1]}T{found[2]}")
    except ValueError:
        return False
    return True


async def test_a_value_of_another_type_is_null_and_never_an_error(server: Server, expressions: dict[str, str]) -> None:
    conn = await asyncpg.connect(server.owner_dsn)
    asked = (
        f"SELECT {', '.join(f'({expressions[one]})::text' for one in TYPES)} FROM (SELECT $1::jsonb) AS r (registers)"
    )
    loop = asyncio.get_running_loop()

    @example(1e400)
    @example(5e-324)
    @example(1.0)
    @example(2**63)
    @example("2024-02-30T00:00:00Z")
    @example("2024-06-30T23:59:60Z")
    @example("9999-12-31T23:59:59-14:59")
    @example("2000-02-29T00:00:00+14:00")
    @example("1900-02-29")
    @example("٢٠٢٤-٠١-٠١")
    @given(VALUES)
    def each(value: Any) -> None:
        said = "1e400" if value == math.inf else json.dumps(value)
        work = conn.fetchrow(asked, f'{{"x": {{"value": {said}, "at": "", "clientId": "c"}}}}')
        found = asyncio.run_coroutine_threadsafe(work, loop).result(60)
        there = {type_: found[place] is not None for place, type_ in enumerate(TYPES)}
        expected = {type_: fits(value, type_) for type_ in TYPES} if value != math.inf else {**there, "jsonb": True}
        assert there == expected, value
        if value == math.inf:
            assert not there["bigint"]
            assert not there["double precision"]

    await asyncio.to_thread(each)
    missing = await conn.fetchrow(asked, "{}")
    assert set(missing) == {None}
    await conn.close()


def device(server: Server, http: httpx.Client, app: str) -> Device:
    return Device(http, server, unique("ada"), app=app)


async def write(server: Server, app: str, table: str, **fields: Any) -> str:
    """A record of somebody new, whose user it returns."""
    with httpx.Client(base_url=server.url, timeout=60) as http:
        ada = device(server, http, app)
        await asyncio.to_thread(ada.write, edit("r", **fields) | {"table": table})
        return ada.user


async def read(server: Server, user: str, asked: str) -> list[Any]:
    async with login(server, "--user", user) as dsn:
        return await run(dsn, asked)


async def test_fields_and_tables_with_any_name(server: Server) -> None:
    app = unique('o\'b "r"')
    table = "tä b.le; DROP TABLE x --" + "x" * 200
    fields = ["id", "ctid", 'say "x"', "it's", "%s %I $1", "x" * 63, "y" * 200, "ü" * 40, "\\", "a'"]
    await schema(server, app, **{table: {"properties": {field: {"type": "string"} for field in fields}}})
    said = await done(server, "views", "apply")
    [(view,)] = await run(
        server.owner_dsn, f"""SELECT view_name FROM syncd.sync_report_views WHERE app = '{app.replace("'", "''")}'"""
    )
    assert f"made syncd_app.{view}" in said
    assert "the field id is its column field_id" in said
    user = await write(server, app, table, **{field: f"value of {field}" for field in fields})
    quoted = view.replace('"', '""')
    [row] = await read(server, user, f'SELECT * FROM syncd_app."{quoted}"')
    assert set(row) >= {f"value of {field}" for field in fields}


async def test_tables_whose_views_would_have_the_same_name(server: Server) -> None:
    tag = unique("a").replace("-", "")
    await schema(server, tag, b_c={})
    await schema(server, f"{tag}_b", c={})
    await done(server, "views", "apply")
    user = await write(server, f"{tag}_b", "c", x=1)
    names = await run(
        server.owner_dsn, f"SELECT app, view_name FROM syncd.sync_report_views WHERE app LIKE '{tag}%' ORDER BY app"
    )
    assert names[0] == (tag, f"{tag}_b_c")
    assert names[1][1].startswith(f"{tag}_b_c_")
    assert await read(server, user, f'SELECT id FROM syncd_app."{names[1][1]}"') == [("r",)]
    assert await read(server, user, f'SELECT id FROM syncd_app."{names[0][1]}"') == []
    before = await run(server.owner_dsn, "SELECT app, table_name, view_name FROM syncd.sync_report_views ORDER BY 1, 2")
    await done(server, "views", "apply")
    assert before == await run(
        server.owner_dsn, "SELECT app, table_name, view_name FROM syncd.sync_report_views ORDER BY 1, 2"
    )


class Changing:
    """A table whose schema changes, with a record."""

    def __init__(self, server: Server) -> None:
        self.server, self.app = server, unique("app").replace("-", "")
        self.view = f"{self.app}_t"

    async def apply(self, **properties: Json) -> str:
        await schema(self.server, self.app, t={"properties": properties})
        finished = await syncd(self.server, "views", "apply")
        self.failed = finished.returncode
        return "".join(
            line for line in finished.stderr.splitlines(keepends=True) if line.startswith((f"{self.app}/", "Error"))
        )

    async def fields(self) -> dict[str, str]:
        found = await columns(self.server, self.view)
        for fixed in ("space_id", "id", "created_at", "updated_at", "updated_by", "deleted"):
            del found[fixed]
        return found

    async def depend(self, column: str) -> None:
        await run(
            self.server.owner_dsn, f'CREATE VIEW public."{self.view}" AS SELECT {column} FROM syncd_app."{self.view}"'
        )


TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "integer"}


async def test_a_field_that_is_added_comes_last_and_dependents_stay(server: Server) -> None:
    one = Changing(server)
    await one.apply(title=TEXT)
    await one.depend("title")
    assert await one.apply(first=NUMBER, title=TEXT) == f"{one.app}/t: added first\n"
    assert list(await columns(server, one.view))[-2:] == ["deleted", "first"]
    assert await one.apply(first=NUMBER, title=TEXT) == f"{one.app}/t: as it was\n"
    assert one.failed == 0


async def test_a_view_without_dependents_is_made_again_for_its_readers(server: Server) -> None:
    one = Changing(server)
    await one.apply(title=TEXT, old=TEXT)
    async with login(server) as dsn:
        who = (await run(dsn, "SELECT current_user"))[0][0]
        await run(
            server.owner_dsn,
            f"GRANT USAGE ON SCHEMA syncd_app TO {who}",
            f'GRANT SELECT ON syncd_app."{one.view}" TO {who}',
        )
        assert "again, with other columns" in await one.apply(title=NUMBER)
        assert await one.fields() == {"title": "bigint"}
        assert await run(dsn, f'SELECT * FROM syncd_app."{one.view}"') == []


async def test_of_a_view_with_dependents_what_goes_stays_and_what_gets_another_type_is_told(server: Server) -> None:
    one = Changing(server)
    await one.apply(title=TEXT, old=TEXT)
    await one.depend("title")
    said = await one.apply(title=TEXT, new=TEXT)
    assert f"{one.app}/t: old stays though the schema has it no more: view public.{one.view}" in said
    assert await one.fields() == {"title": "text", "old": "text", "new": "text"}
    assert one.failed == 0
    said = await one.apply(title=NUMBER)
    assert f"{one.app}/t: not made: view public.{one.view}" in said
    assert one.failed == 1
    assert await one.fields() == {"title": "text", "old": "text", "new": "text"}
    await run(server.owner_dsn, f'DROP VIEW public."{one.view}"')
    await one.apply(title=NUMBER)
    assert await one.fields() == {"title": "bigint"}


async def test_views_are_listed_and_dropped(server: Server) -> None:
    one = Changing(server)
    await one.apply(title=TEXT)
    await schema(server, one.app, t={"properties": {"title": NUMBER}})
    assert f"{one.app}/t" in (listed := await done(server, "views", "list"))
    assert "1, by now 2" in listed
    await one.depend("title")
    refused = await syncd(server, "views", "drop", f"{one.app}/t")
    assert refused.returncode == 1
    assert "it stays" in refused.stderr
    await run(server.owner_dsn, f'DROP VIEW public."{one.view}"')
    await done(server, "views", "drop", f"{one.app}/t")
    assert f"{one.app}/t" not in await done(server, "views", "list")
    assert (await syncd(server, "views", "drop", f"{one.app}/t")).returncode == 1
    await run(server.owner_dsn, f"SELECT syncd.sync_schema_put('{one.app}', 't', NULL)")


async def test_a_table_whose_schema_is_gone_keeps_its_view(server: Server) -> None:
    one = Changing(server)
    await one.apply(title=TEXT)
    await run(server.owner_dsn, f"SELECT syncd.sync_schema_put('{one.app}', 't', NULL)")
    assert "it has no schema any more" in await done(server, "views", "apply")
    assert await one.fields() == {"title": "text"}
    await done(server, "views", "drop", f"{one.app}/t")


def test_the_columns_that_are_tested_are_all_that_there_are() -> None:
    kinds: list[Json] = [
        {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"},
        {"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}, {},
    ]  # fmt: skip
    made = report_columns({"properties": {str(place): kind for place, kind in enumerate(kinds)}})
    assert [one.type for one in made if one.field] == TYPES
