"""G10: what EXPLAIN tells the reader of a view is of no other's values and of no other's space."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.support.direct import run
from tests.support.harness import Server
from tests.support.reports import done, login, schema
from tests.support.wire import Device, edit, unique

VIEWS = ("app_t", "app_t_indexed")
TYPED = {
    "state": {"type": "string", "x-index": True},
    "size": {"type": "integer"},
    "due": {"type": "string", "format": "date"},
}


@pytest.fixture(scope="module")
async def reader(workspace: Path) -> AsyncIterator[tuple[Server, str]]:
    """A login of one user, where another has 300 records and some spaces."""
    with Server(workspace / "explained") as server, httpx.Client(base_url=server.url, timeout=60) as http:
        eve, ada = (Device(http, server, unique(name)) for name in ("eve", "ada"))
        await asyncio.to_thread(eve.write, edit("mine", state="mine", size=1))
        for n in range(3):
            await asyncio.to_thread(ada.create, f"hidden-{n}-{unique('s')}")
        secret = (edit(f"r{n}", state="secret", size=n + 1000, due="2026-02-01") for n in range(300))
        await asyncio.to_thread(ada.write, *secret)
        await schema(server, "app", t={"properties": TYPED})
        await done(server, "views", "apply")
        await run(server.owner_dsn, "ANALYZE")
        async with login(server, "--user", eve.user) as dsn:
            yield server, dsn


async def plan(dsn: str, view: str, condition: str, *, how: str = "") -> str:
    asked = f"EXPLAIN {how} SELECT id FROM syncd_app.{view} WHERE {condition}"
    return "\n".join(row[0] for row in await run(dsn, asked))


@pytest.mark.parametrize("view", VIEWS)
async def test_it_finds_no_space_by_its_id(reader: tuple[Server, str], view: str) -> None:
    shown = set()
    for condition in ("space_id >= 'hidden-' AND space_id < 'hidden.'", "space_id >= 'zz' AND space_id < 'zzz'"):
        text = await plan(reader[1], view, condition, how="(ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF)")
        shown.add(re.sub(r"'[^']*'", "''", text))
    assert len(shown) == 1, shown


@pytest.mark.parametrize(
    ("there", "absent"),
    [
        ("state = 'secret'", "state = 'nobody'"),
        ("size BETWEEN 1000 AND 1300", "size BETWEEN 5000 AND 5300"),
        ("size > 1290", "size > 500000"),
        ("due = '2026-02-01'", "due = '2031-02-01'"),
    ],
)
async def test_its_estimates_in_a_copy_tell_no_value(reader: tuple[Server, str], there: str, absent: str) -> None:
    estimates = {re.sub(r"'[^']*'|\d{4,}", "", await plan(reader[1], VIEWS[1], one)) for one in (there, absent)}
    assert len(estimates) == 1, estimates
    assert await run(reader[1], f"SELECT id FROM syncd_app.{VIEWS[1]} WHERE {there}") == []
