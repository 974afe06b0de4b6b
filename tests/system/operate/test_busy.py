"""What is overloaded, locked or gone is answered with 503 and when to try again, and harms nobody else."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.support.device import Device, statuses
from tests.support.direct import somebody_waits
from tests.support.harness import Server
from tests.support.proxy import Proxy

pytestmark = pytest.mark.waits

UNIQUE = itertools.count()
LOCK_FEED = """
SELECT f.head FROM syncd.sync_feeds f JOIN syncd.sync_spaces s USING (space_no) WHERE s.space_id = $1 FOR UPDATE OF f
"""


@pytest.fixture(scope="module")
def busy(workspace: Path) -> Any:
    """A server that waits for a lock for at most 2 s, with four connections to its database."""
    settings = {"lock_timeout_ms": 2000, "statement_timeout_ms": 4000, "pool_size": 4, "log_format": "json"}
    with Server(workspace / "busy", settings=settings) as running:
        yield running


@pytest.fixture(scope="module")
def patient(workspace: Path) -> Any:
    """The same, but it waits for longer than any test takes."""
    settings = {"lock_timeout_ms": 120_000, "statement_timeout_ms": 120_000, "pool_size": 4}
    with Server(workspace / "patient", settings=settings) as running:
        yield running


async def owner_of(server: Server) -> AsyncIterator[asyncpg.Connection]:
    """A session of the database's owner, who holds what others want."""
    connection = await asyncpg.connect(server.owner_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def owner(busy: Server) -> AsyncIterator[asyncpg.Connection]:
    async for connection in owner_of(busy):
        yield connection


@pytest.fixture
async def other_owner(patient: Server) -> AsyncIterator[asyncpg.Connection]:
    async for connection in owner_of(patient):
        yield connection


@pytest.fixture
async def waiter(patient: Server) -> AsyncIterator[Device]:
    """A device of the server that waits for long."""
    async with Device(patient, f"user-{next(UNIQUE)}") as one:
        yield one


@pytest.fixture
async def device(busy: Server) -> AsyncIterator[Device]:
    """A device of a user of its own."""
    async with Device(busy, f"user-{next(UNIQUE)}") as one:
        yield one


@asynccontextmanager
async def held(owner: asyncpg.Connection, space: str) -> AsyncIterator[None]:
    """Holds the lock of a space's feed."""
    transaction = owner.transaction()
    await transaction.start()
    assert await owner.fetchval(LOCK_FEED, space) is not None
    yield
    await transaction.rollback()


def is_busy(response: httpx.Response, code: str = "busy") -> bool:
    """Whether it is the problem that asks to try again, with when."""
    assert response.status_code == 503, f"{response.status_code} {response.text}"
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["retry-after"]) >= 1
    return bool(response.json()["code"] == code)


async def write(device: Device, name: str) -> None:
    """A push of one change."""
    assert statuses(await device.push([device.change(name, name, 1)])) == ["applied"]


@pytest.mark.parametrize("stuck", [1, 12])
async def test_a_locked_feed_is_busy_within_the_lock_timeout_and_nothing_was_written(
    device: Device, owner: asyncpg.Connection, stuck: int
) -> None:
    await device.push([device.change("first", "r", 1)])
    changes = [device.change(f"second-{n}", "r", 2) for n in range(stuck)]
    async with held(owner, f"_personal:{device.user}"):
        began = time.monotonic()
        assert all(is_busy(one) for one in await asyncio.gather(*(device.send([change]) for change in changes)))
        assert 1.5 < time.monotonic() - began < 30
        assert len((await device.drain(history=1))[0]) == 1
    assert statuses(await device.push(changes))[0] == "applied"


@pytest.mark.parametrize("stuck", [2, 12])
async def test_pushes_of_others_in_the_same_moment_do_not_wait_for_a_locked_feed(
    patient: Server, waiter: Device, other_owner: asyncpg.Connection, stuck: int
) -> None:
    await waiter.push([waiter.change("first", "r", 1)])
    # With those that wait as many as a worker always takes.
    others = [Device(patient, f"other-{stuck}-{n}") for n in range(4)]
    for other in others:
        await write(other, "warm")
    async with held(other_owner, f"_personal:{waiter.user}"):
        waiting = [asyncio.create_task(waiter.send([waiter.change(f"s{n}", "r", n)])) for n in range(stuck)]
        await asyncio.gather(*(write(other, "meanwhile") for other in others))
        await asyncio.gather(*(write(other, "later") for other in others))
        assert not any(task.done() for task in waiting)
    assert {response.status_code for response in await asyncio.gather(*waiting)} == {200}
    for other in others:
        await other.close()


async def test_of_one_user_s_large_pushes_to_a_locked_feed_one_waits_in_the_database(
    waiter: Device, other_owner: asyncpg.Connection
) -> None:
    await waiter.push([waiter.change("first", "r", 1)])
    most = 0
    async with held(other_owner, f"_personal:{waiter.user}"):
        changes = [waiter.change(f"large-{n}", f"r{n}", "y" * 20_000) for n in range(4)]
        waiting = [asyncio.create_task(waiter.push([change])) for change in changes]
        await somebody_waits(other_owner)
        for _ in range(20):
            most = max(most, await other_owner.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
            await asyncio.sleep(0.05)
    assert [statuses(pushed) for pushed in await asyncio.gather(*waiting)] == [["applied"]] * 4
    assert most == 1


async def test_a_push_that_gets_its_lock_in_time_succeeds(waiter: Device, other_owner: asyncpg.Connection) -> None:
    await waiter.push([waiter.change("first", "r", 1)])
    async with held(other_owner, f"_personal:{waiter.user}"):
        waiting = asyncio.create_task(waiter.push([waiter.change("second", "r", 2)]))
        await somebody_waits(other_owner)
        assert not waiting.done()
    assert statuses(await waiting) == ["applied"]


async def test_reading_does_not_wait_for_a_locked_feed(device: Device, owner: asyncpg.Connection) -> None:
    """Where it did, it would be busy."""
    await device.push([device.change("first", "r", 1)])
    async with held(owner, f"_personal:{device.user}"):
        assert len((await device.pull())["serverChanges"]) == 1


async def test_a_long_write_transaction_elsewhere_stalls_neither_readers_nor_what_comes_after(
    busy: Server, owner: asyncpg.Connection
) -> None:
    async with Device(busy, f"user-{next(UNIQUE)}") as slow, Device(busy, f"user-{next(UNIQUE)}") as other:
        await slow.push([slow.change("first", "r", 1)])
        await other.push([other.change("first", "r", 1)])
        _, cursor = await other.drain(history=1)
        transaction = owner.transaction()
        await transaction.start()
        # A transaction id that stays open: what orders by the oldest one running would wait for it.
        await owner.execute("UPDATE syncd.sync_feeds SET written_at = written_at WHERE head = -1")
        await owner.fetchval("SELECT pg_current_xact_id()")
        async with asyncio.timeout(60):
            for n in range(20):
                await other.push([other.change(f"c{n}", f"r{n}", n)])
            changes, cursor = await other.drain(cursor)
        assert [change["seq"] for change in changes] == list(range(2, 22))
        await transaction.rollback()


async def test_all_connections_taken_is_busy_and_passes(busy: Server, owner: asyncpg.Connection) -> None:
    devices = [Device(busy, f"crowd-{n}") for n in range(8)]
    for device in devices:
        await device.push([device.change("first", "r", 1)])
    transaction = owner.transaction()
    await transaction.start()
    await owner.execute("LOCK TABLE syncd.sync_feeds IN ACCESS EXCLUSIVE MODE")
    began = time.monotonic()
    responses = await asyncio.gather(
        *(device.send([device.change("second", "r", "y" * 20000)]) for device in devices),
        *(device.ask() for device in devices),
    )
    assert time.monotonic() - began < 45
    assert all(is_busy(response) for response in responses)
    await transaction.rollback()
    for device in devices:
        assert statuses(await device.push([device.change("third", "s", 1)])) == ["applied"]
        assert len((await device.drain(history=1))[0]) == 2
        await device.close()


@asynccontextmanager
async def on_insert(owner: asyncpg.Connection, what: str) -> AsyncIterator[None]:
    """Makes every insert into the log do something else first."""
    await owner.execute(
        f"CREATE FUNCTION public.fault() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what}; RETURN NEW; END $$"
    )
    await owner.execute(
        "CREATE TRIGGER fault BEFORE INSERT ON syncd.sync_changes FOR EACH ROW EXECUTE FUNCTION public.fault()"
    )
    try:
        yield
    finally:
        await owner.execute("DROP TRIGGER fault ON syncd.sync_changes")
        await owner.execute("DROP FUNCTION public.fault()")


@pytest.mark.parametrize(
    "what",
    [
        "PERFORM pg_sleep(60)",
        # What PostgreSQL says when the disk is full, when memory is, and when its own sessions are in the way.
        "RAISE EXCEPTION 'x' USING ERRCODE = 'disk_full'",
        "RAISE EXCEPTION 'x' USING ERRCODE = 'out_of_memory'",
        "RAISE EXCEPTION 'x' USING ERRCODE = 'deadlock_detected'",
        "RAISE EXCEPTION 'x' USING ERRCODE = 'serialization_failure'",
    ],
)
async def test_a_database_that_cannot_just_now_is_busy_and_nothing_was_written(
    device: Device, owner: asyncpg.Connection, what: str
) -> None:
    await device.push([device.change("first", "r", 1)])
    changes = [device.change(f"second-{n}", f"r{n}", 2) for n in range(3)]
    async with on_insert(owner, what):
        began = time.monotonic()
        assert is_busy(await device.send(changes))
        assert is_busy(await device.send(changes[:1]))
        assert time.monotonic() - began < 45
        assert len((await device.drain(history=1))[0]) == 1
    assert statuses(await device.push(changes)) == ["applied"] * 3


async def test_an_error_of_the_database_is_neither_shown_nor_acknowledged(
    device: Device, owner: asyncpg.Connection
) -> None:
    await device.push([device.change("first", "r", 1)])
    async with on_insert(owner, "RAISE EXCEPTION 'a secret of the database'"):
        response = await device.send([device.change("second", "r", 2)])
        assert response.status_code == 500
        assert "secret" not in response.text
        assert "sync_" not in response.text
    assert len((await device.drain(history=1))[0]) == 1


async def test_what_was_busy_is_in_the_log_as_json(busy: Server, device: Device, owner: asyncpg.Connection) -> None:
    await device.push([device.change("first", "r", 1)])
    async with on_insert(owner, "RAISE EXCEPTION 'x' USING ERRCODE = 'disk_full'"):
        assert is_busy(await device.send([device.change("second", "r", 2)]))
    lines = [json.loads(line) for line in busy.output().splitlines() if line.startswith("{")]
    expected = {"event": "busy", "error": "DiskFullError", "level": "warning"}
    assert any(expected.items() <= line.items() for line in lines)


async def test_uploads_of_one_byte_a_second_hold_up_nobody(busy: Server, device: Device) -> None:
    async with Proxy(busy.port) as proxy:
        proxy.faults.bytes_per_second = 1
        slow = [Device(busy, f"slow-{n}", url=proxy.url) for n in range(30)]
        uploads = [asyncio.create_task(one.send([one.change("c", "r", 1)])) for one in slow]
        await asyncio.sleep(0.5)
        for n in range(10):
            await write(device, f"c{n}")
        assert not any(upload.done() for upload in uploads)
        for upload in uploads:
            upload.cancel()
        await asyncio.gather(*uploads, return_exceptions=True)
        for one in slow:
            await one.close()
