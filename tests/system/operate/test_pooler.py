"""PgBouncer in transaction mode: everything but LISTEN/NOTIFY works, and doctor says that one sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.migrate import migrate
from tests.support.command_line import doctor
from tests.support.harness import Server
from tests.support.pooler import Pooler
from tests.system.operate.test_command_line import push


@pytest.fixture(scope="module")
def pooler(database: EmbeddedPostgres, workspace: Path) -> Iterator[Pooler]:
    """A pooler in front of the session's database."""
    with Pooler(database, workspace / "pooler") as running:
        yield running


def test_doctor_detects_it_and_says_what_cannot_work(pooler: Pooler) -> None:
    code, found = doctor(env={"SYNCD_DATABASE_URL": pooler.dsn("syncd_runtime")})
    assert [finding for finding in found.values() if finding["status"] == "FAIL"] == []
    assert found["pooler"]["status"] == "warn"
    assert "LISTEN/NOTIFY" in found["pooler"]["detail"]
    assert code == 0


async def test_migrations_run_through_it_several_at_once(pooler: Pooler, database: EmbeddedPostgres) -> None:
    conn = await asyncpg.connect(database.dsn("postgres", "postgres"))
    await conn.execute("CREATE DATABASE pooled")
    try:
        url = pooler.dsn("postgres", "pooled")
        applied = await asyncio.gather(*(migrate(url, say=lambda text: None) for _ in range(4)))
        names = [name for names in applied for name in names]
        assert len(names) == len(set(names)) > 0
        assert await migrate(url, say=lambda text: None) == []
    finally:
        await conn.execute("DROP DATABASE pooled WITH (FORCE)")
        await conn.close()


def test_a_server_works_through_it_with_more_clients_than_connections(pooler: Pooler, folder: Path) -> None:
    settings = {"database_url": pooler.dsn("syncd_runtime")}
    with Server(folder / "data", workers=2, settings=settings) as server:
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda n: push(server, f"pooled-{n % 8}", f"title {n}"), range(64)))
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.json()["results"][0]["status"] for answer in answers} <= {"applied", "superseded"}
