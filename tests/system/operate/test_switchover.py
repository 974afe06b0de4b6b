"""The database changes its role under the server's connections: writes go where they are taken, or nowhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.migrate import migrate
from tests.support.device import Device
from tests.support.harness import Server
from tests.support.socket_device import socket_of
from tests.support.standby import Standby, run, url_of

pytestmark = pytest.mark.waits

OURS = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'syncd_runtime'"
SECRET = "a secret that both servers have, of 32 bytes and more"


@pytest.fixture
async def primary(folder: Path) -> AsyncIterator[EmbeddedPostgres]:
    settings = {"wal_level": "replica", "shared_buffers": "32MB"}
    with EmbeddedPostgres(folder / "primary", settings=settings) as postgres:
        await migrate(postgres.owner_dsn, say=lambda text: None)
        yield postgres


@asynccontextmanager
async def serving(folder: Path, url: str) -> AsyncIterator[Server]:
    server = Server(folder / "served", settings={"database_url": url, "jwt_secret": SECRET}, start=False)
    await asyncio.to_thread(server.start)
    try:
        yield server
    finally:
        await asyncio.to_thread(server.stop)


async def fence(database: EmbeddedPostgres, on: bool = True) -> None:
    """Takes no more writes, as after a switchover whose old connections live on; or takes them again."""
    await run(database, f"ALTER SYSTEM SET default_transaction_read_only = {'on' if on else 'off'}")
    await run(database, "SELECT pg_reload_conf()")


async def taken(device: Device, change: dict[str, Any]) -> list[int]:
    """Sends until it is taken, as a device does; the answers on the way."""
    answers, deadline = list[int](), time.monotonic() + 30
    while (answer := await device.send([change])).status_code != 200:
        assert answer.json()["code"] == "database_unavailable", answer.text
        answers.append(answer.status_code)
        assert time.monotonic() < deadline, "it never recovered"
        await asyncio.sleep(0.1)
    assert answer.json()["results"][0]["status"] == "applied"
    return answers


async def ready(server: Server) -> httpx.Response:
    async with httpx.AsyncClient(timeout=30) as http:
        return await http.get(f"{server.url}/readyz")


async def comes_to(wanted: int, database: EmbeddedPostgres) -> None:
    """Waits until the database has so many connections of the server."""
    deadline = time.monotonic() + 30
    while (found := await run(database, OURS)) != wanted:
        assert time.monotonic() < deadline, f"{found} connections"
        await asyncio.sleep(0.1)


async def test_after_a_switchover_everything_goes_to_the_new_primary(folder: Path, primary: EmbeddedPostgres) -> None:
    async with Standby(primary, folder / "standby") as standby, serving(folder, url_of(primary, standby)) as server:
        async with Device(server, "ann", "phone") as ann, socket_of(server, "ann", "listener") as listener:
            await ann.push([ann.change("before", "r1", 1)])
            await listener.subscribe()
            await standby.promote()
            await fence(primary)
            assert set(await taken(ann, ann.change("after", "r2", 2))) <= {503}
            assert (await ready(server)).status_code == 200
            assert {change["id"] for change in (await ann.drain())[0]} == {"r1", "r2"}
            await listener.brings("r2")
        assert await run(standby, "SELECT count(*) FROM syncd.sync_changes") == 2
        assert await run(primary, "SELECT count(*) FROM syncd.sync_changes") == 1
        await comes_to(0, primary)


async def test_who_only_reads_moves_too(folder: Path, primary: EmbeddedPostgres) -> None:
    async with (
        Standby(primary, folder / "standby") as standby,
        serving(folder, url_of(standby, primary)) as server,
        Device(server, "ann", "phone") as ann,
    ):
        await ann.push([ann.change("before", "r1", 1)])
        assert await run(standby, OURS) == 0, "it is named first, and is not written to"
        await standby.promote()
        await fence(primary)
        await comes_to(0, primary)
        assert [change["id"] for change in (await ann.drain())[0]] == ["r1"]


async def test_a_server_that_has_nowhere_to_write_says_so_and_recovers(folder: Path, primary: EmbeddedPostgres) -> None:
    async with serving(folder, url_of(primary)) as server, Device(server, "ann", "phone") as ann:
        await ann.push([ann.change("before", "r1", 1)])
        await fence(primary)
        answer = await ann.send([ann.change("meanwhile", "r2", 2)])
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        found = await ready(server)
        assert (found.status_code, found.json()["reasons"]) == (503, ["database_unavailable"])
        await comes_to(0, primary)
        await fence(primary, on=False)
        await taken(ann, ann.change("after", "r3", 3))
        assert (await ready(server)).status_code == 200
        assert {change["id"] for change in (await ann.drain())[0]} == {"r1", "r3"}
