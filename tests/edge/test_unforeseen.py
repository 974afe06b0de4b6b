"""What nobody foresaw is logged once, and its answer has the id that the log has."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from syncd.live import hub
from syncd.live.hub import Hub
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.service.counts import Counts
from syncd.store.log import Log
from syncd.store.pool import Pool, Unforeseen
from tests.support.harness import Server
from tests.support.socket_device import socket_of
from tests.support.wire import Device, edit, unique

Make = Callable[..., Device]


@asynccontextmanager
async def refused(server: Server, space: str, state: str) -> AsyncIterator[None]:
    """While it lasts, the schema refuses to write in a space with a state and a message that syncd does not know."""
    conn = await asyncpg.connect(server.owner_dsn)
    try:
        no = await conn.fetchval("SELECT space_no FROM syncd.sync_spaces WHERE space_id = $1", space)
        await conn.execute(
            f"CREATE FUNCTION syncd.strange_{no}() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$BEGIN RAISE EXCEPTION 'strange' USING ERRCODE = '{state}'; END$$;"
            f"CREATE TRIGGER strange_{no} BEFORE INSERT ON syncd.sync_changes FOR EACH ROW"
            f" WHEN (NEW.space_no = {no}) EXECUTE FUNCTION syncd.strange_{no}()"
        )
        try:
            yield
        finally:
            await conn.execute(f"DROP FUNCTION syncd.strange_{no} CASCADE")
    finally:
        await conn.close()


def logged_as(detail: str) -> str:
    found = re.fullmatch(r"Something went wrong on the server, and was logged as failure ([0-9a-f]{8})\.", detail)
    assert found, detail
    return found[1]


@pytest.mark.parametrize("state", ["SY010", "SY099"])
async def test_a_refusal_that_no_code_stands_for_is_logged_with_the_id_of_the_answer(
    server: Server, device: Make, state: str
) -> None:
    writer = device(unique("u"))
    writer.write(edit("a", n=1))
    async with refused(server, f"_personal:{writer.user}", state), socket_of(server, writer.user, "c2") as socket:
        answer = writer.send(edit("b", n=1))
        assert (answer.status_code, answer.json()["code"]) == (500, "internal")
        before = server.output()
        assert logged_as(answer.json()["detail"]) in before
        changes = [edit("c", n=1)]
        error = await socket.ask({"type": "push", "requestId": "q", "appId": "app", "changes": changes}, "error")
        failure = logged_as(error["detail"])
        written = server.output().removeprefix(before)
        assert failure in written
        assert state in written
    writer.write(edit("b", n=1))


async def test_two_statements_that_fail_alike_are_two_failures_at_places_of_syncd(database: EmbeddedPostgres) -> None:
    pool = Pool(database.runtime_dsn, size=1)
    log = Log(pool)
    try:
        with capture_logs() as logged:
            for ask in (log.pull, log.unreadable, log.pull):
                with pytest.raises(Unforeseen):
                    await ask(b"nonsense")
    finally:
        await pool.close()
    lines = [line for line in logged if "failure" in line]
    assert [line["statement"] for line in lines] == ["pull", "unreadable", "pull"]
    assert all(line["where"].startswith("syncd.store.") for line in lines), lines
    first, other, again = (line["failure"] for line in lines)
    assert first == again != other


async def test_what_the_database_could_not_do_for_a_look_is_not_logged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MEMBERS_EVERY", 0)
    counts = Counts()
    fails: list[BaseException] = [Unforeseen("logged already"), ValueError("a bug"), asyncio.CancelledError()]

    async def look() -> None:
        raise fails.pop(0)

    own: Any = SimpleNamespace(counts=counts)
    with capture_logs() as logged, pytest.raises(asyncio.CancelledError):
        await Hub._forever(own, look)
    assert counts.failed_looks == 2
    assert [line["error"] for line in logged] == ["ValueError"]
