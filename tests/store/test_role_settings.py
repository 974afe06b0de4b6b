"""SQL as the role that serves may change that role's own settings: what a server does from then on is as before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from syncd.bus.postgres import _connect
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.store.pool import Pool
from tests.support.command_line import doctor, syncd
from tests.support.device import Device
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.pooler import Pooler

# Each by itself would stop the server, lose what was acknowledged, or show values in the database's log.
SETTINGS = {
    "default_transaction_read_only": "on",
    "row_security": "off",
    "local_preload_libraries": "nonesuch",
    "synchronous_commit": "off",
    "log_parameter_max_length_on_error": "-1",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "DateStyle": "SQL, DMY",
    "TimeZone": "Pacific/Chatham",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "exit_on_error": "on",
    "debug_print_plan": "on",
    "search_path": "public",
    "statement_timeout": "1",
    "idle_session_timeout": "1",
    "idle_in_transaction_session_timeout": "1",
}
# Those of a session, or read when it begins, can be set in no transaction.
BEHIND_A_POOLER = (
    "row_security",
    "synchronous_commit",
    "log_parameter_max_length_on_error",
    "TimeZone",
)
SHOW = "SELECT pg_catalog.current_setting($1)"
END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'syncd_runtime'"


@pytest.fixture(scope="module")
def taken_over(workspace: Path) -> Iterator[Server]:
    """A server of its own, whose role the tests change."""
    with Server(workspace / "role-settings") as server:
        yield server


async def damaged(dsn: str, name: str) -> None:
    """As the role that serves, which needs no right for it."""
    await run(dsn, f"ALTER ROLE CURRENT_USER SET {name} = '{SETTINGS[name]}'")


async def in_force(dsn: str, name: str) -> str:
    """What a server's new connection says."""
    pool = Pool(dsn, size=1)
    try:
        async with pool.connection() as connection:
            return str(await connection.fetchval(SHOW, name))
    finally:
        await pool.close()


async def works(server: Server, record: str) -> None:
    """A push and a pull by new connections are right."""
    await run(server.dsn("postgres"), END)
    async with Device(server, f"ann-{record}") as ann, httpx.AsyncClient(timeout=30) as http:
        sent = [await ann.send([ann.change(f"c-{record}", record, "value")]) for _ in range(3)]
        # What was cut off with its connection is sent again.
        assert sent[-1].status_code == 200, sent[-1].text
        assert [change["id"] for change in (await ann.pull())["serverChanges"]] == [record]
        assert (await http.get(f"{server.url}/readyz")).status_code == 200


@pytest.mark.parametrize("name", SETTINGS)
async def test_what_a_role_sets_for_itself_is_not_in_force(taken_over: Server, name: str) -> None:
    before = await in_force(taken_over.runtime_dsn, name)
    await damaged(taken_over.runtime_dsn, name)
    try:
        assert await in_force(taken_over.runtime_dsn, name) == before != SETTINGS[name]
    finally:
        await run(taken_over.dsn("postgres"), f"ALTER ROLE syncd_runtime RESET {name}")


@pytest.mark.parametrize("name", ["default_transaction_read_only", "local_preload_libraries", "statement_timeout"])
async def test_its_bus_is_heard(taken_over: Server, name: str) -> None:
    await damaged(taken_over.runtime_dsn, name)
    try:
        link = await _connect(taken_over.runtime_dsn, lambda text: None)
        await link.send(["x"])
        await link.close()
        code, found = await asyncio.to_thread(doctor, env={"SYNCD_DATABASE_URL": taken_over.runtime_dsn})
    finally:
        await run(taken_over.dsn("postgres"), f"ALTER ROLE syncd_runtime RESET {name}")
    assert (code, found["role settings"]["status"]) == (0, "warn")
    assert f"ALTER ROLE syncd_runtime RESET {name};" in found["role settings"]["remedy"]


@pytest.mark.parametrize("name", ["local_preload_libraries", "statement_timeout", "exit_on_error"])
async def test_an_operator_s_command_goes_on(taken_over: Server, name: str) -> None:
    """Which may come as that role, where it is for one user."""
    await damaged(taken_over.runtime_dsn, name)
    try:
        done = await asyncio.to_thread(syncd, "export", "ann", "--database-url", taken_over.runtime_dsn)
    finally:
        await run(taken_over.dsn("postgres"), f"ALTER ROLE syncd_runtime RESET {name}")
    assert done.returncode == 0, done.stderr
    assert '"manifest"' in done.stdout


async def test_behind_a_pooler_each_transaction_sets_them(folder: Path) -> None:
    with EmbeddedPostgres(folder / "data") as database, Pooler(database, folder / "pooler") as pooler:
        for name in BEHIND_A_POOLER:
            await damaged(database.runtime_dsn, name)
        pool = Pool(pooler.dsn("syncd_runtime"))
        await pool.open()
        try:
            async with pool.connection() as connection:
                found = {name: await connection.fetchval(SHOW, name) for name in BEHIND_A_POOLER}
                isolation = await connection.fetchval(SHOW, "transaction_isolation")
        finally:
            await pool.close()
    assert pool.pooled
    assert [name for name in BEHIND_A_POOLER if found[name] == SETTINGS[name]] == []
    assert isolation == "read committed"


@pytest.mark.parametrize("name", SETTINGS)
async def test_a_role_that_damages_its_settings_is_served_as_before(taken_over: Server, name: str) -> None:
    await damaged(taken_over.runtime_dsn, name)
    try:
        await works(taken_over, name)
    finally:
        await run(taken_over.dsn("postgres"), f"ALTER ROLE syncd_runtime RESET {name}")
