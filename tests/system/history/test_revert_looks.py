"""A revert or a restore looks through its feed before it locks it, and under the lock at what came meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from tests.support.harness import Server
from tests.support.past import restore
from tests.support.wire import Device, edit, unique, values

Make = Callable[..., Device]
RUN = {"agent": "tidy", "run": "1"}
STEP = 10_000
LOCK = """
SELECT f.space_no, f.app_no FROM syncd.sync_feeds f JOIN syncd.sync_spaces s USING (space_no)
WHERE s.space_id = $1 FOR UPDATE OF f"""
WAITING = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%sync_restore%')"


@pytest.fixture
async def holder(server: Server) -> AsyncIterator[asyncpg.Connection]:
    """Holds feeds, as the superuser."""
    connection = await asyncpg.connect(server.owner_dsn)
    yield connection
    await connection.close()


@pytest.fixture
def owner(device: Make) -> Device:
    return device(unique("owner"))


@pytest.fixture
def space(owner: Device) -> str:
    space = owner.create(unique("space"))
    owner.write({**edit("r", 1, x="old"), "spaceId": space}, {**edit("s", 1, x="old"), "spaceId": space})
    owner.write({**edit("r", STEP, x="run"), "spaceId": space, "actor": RUN})
    return space


async def test_what_is_too_much_to_look_through_is_refused_without_the_feed(
    server: Server, holder: asyncpg.Connection, owner: Device, space: str
) -> None:
    call = {
        "user": owner.user, "client": "c9", "app": "app", "space": space, "seq": 0, "target": "t", "origin": "revert",
        "revert": RUN, "actor": "{}", "looks": 2, "lookBytes": 1000, "event": ["0" * 16, 1], "most": 9,
        "bytes": 1 << 20, "largest": 1 << 20,
    }  # fmt: skip
    other = await asyncpg.connect(server.owner_dsn)
    async with holder.transaction():
        await holder.execute(LOCK, space)
        await other.execute("SET lock_timeout = '2s'")
        for more in ({}, {"looks": 9, "lookBytes": 9}):
            with pytest.raises(asyncpg.PostgresError, match="restore_too_large"):
                await other.execute("SELECT syncd.sync_restore($1::text::jsonb)", json.dumps({**call, **more}))
    await other.close()


async def test_a_restore_of_more_records_than_it_takes_is_refused_without_the_feed(
    server: Server, holder: asyncpg.Connection, owner: Device, space: str
) -> None:
    call = {
        "user": owner.user, "client": "c9", "app": "app", "space": space, "seq": 0, "target": "t", "origin": "restore",
        "event": ["0" * 16, 1], "most": 1, "bytes": 1 << 20, "largest": 1 << 20,
    }  # fmt: skip
    other = await asyncpg.connect(server.owner_dsn)
    async with holder.transaction():
        await holder.execute(LOCK, space)
        await other.execute("SET lock_timeout = '2s'")
        with pytest.raises(asyncpg.PostgresError, match="restore_too_large"):
            await other.execute("SELECT syncd.sync_restore($1::text::jsonb)", json.dumps(call))
    await other.close()


async def test_records_that_come_while_a_restore_waits_count(
    holder: asyncpg.Connection, owner: Device, space: str
) -> None:
    for start in range(0, 10_000, 1000):
        owner.write(*({**edit(f"n{n}", 1, x=n), "spaceId": space} for n in range(start, start + 1000)))
    head = 3  # what the space began with
    async with holder.transaction():
        await holder.execute(LOCK, space)
        task = asyncio.create_task(asyncio.to_thread(restore, owner, f"/sync/app/spaces/{space}/restore", seq=head))
        while not await holder.fetchval(WAITING):
            assert not task.done()
            await holder.execute("SELECT pg_stat_clear_snapshot()")
        change = {"table": "t", "id": "more", "fields": {"x": 1}, "spaceId": space}
        await holder.execute("SELECT syncd.write('app', $1, $2::text::jsonb)", owner.user, json.dumps([change]))
    answer = await task
    assert (answer.status_code, answer.json()["code"]) == (422, "restore_too_large")


async def asked(holder: asyncpg.Connection, owner: Device, space: str) -> asyncio.Task[object]:
    """A revert that has looked, and waits for the feed."""
    task = asyncio.create_task(asyncio.to_thread(restore, owner, f"/sync/app/spaces/{space}/revert", actor=RUN))
    while not await holder.fetchval(WAITING):
        assert not task.done()
        await holder.execute("SELECT pg_stat_clear_snapshot()")
    return task


@pytest.mark.parametrize("late", ["s", "r", "made"])
async def test_what_the_actor_wrote_meanwhile_is_taken_back_too(
    holder: asyncpg.Connection, owner: Device, space: str, late: str
) -> None:
    async with holder.transaction():
        await holder.execute(LOCK, space)
        answer = await asked(holder, owner, space)
        change = {"table": "t", "id": late, "fields": {"x": "late"}, "spaceId": space, "actor": RUN}
        await holder.execute("SELECT syncd.write('app', $1, $2::text::jsonb)", owner.user, json.dumps([change]))
    response = await answer
    assert response.status_code == 200, response.text  # type: ignore[attr-defined]
    found = values(owner.drain()[0])
    assert {id: found[id]["x"] for id in ("r", "s")} == {"r": "old", "s": "old"}
    assert found.get("made", {"deletedAt": "t"})["deletedAt"]


async def test_what_was_folded_meanwhile_is_not_taken_back_by_half(
    holder: asyncpg.Connection, owner: Device, space: str
) -> None:
    async with holder.transaction():
        place = await holder.fetchrow(LOCK, space)
        answer = await asked(holder, owner, space)
        await holder.execute("SELECT syncd.sync_raise_horizon($1, $2, 2)", *place)
    response = await answer
    assert (response.status_code, response.json()["code"]) == (410, "history_gone")  # type: ignore[attr-defined]
