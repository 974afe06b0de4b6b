"""The way to the database fails: 503 and when to try again, nothing half written, and no restart to recover."""

from __future__ import annotations

import asyncio
import collections
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from syncd.cli.migrate import refusals
from syncd.postgres.embedded import PORT, EmbeddedPostgres
from syncd.store.pool import GONE
from tests.support.device import Device, statuses
from tests.support.harness import Server
from tests.support.ledger import none_is_open
from tests.support.proxy import Proxy

pytestmark = pytest.mark.waits

UNIQUE = itertools.count()


@pytest.fixture(scope="module")
async def way(database: EmbeddedPostgres, workspace: Path) -> AsyncIterator[Proxy]:
    """A proxy between server and database, on a socket like the database's own."""
    folder = workspace / "way"
    folder.mkdir()
    socket = f".s.PGSQL.{PORT}"
    async with Proxy(database.socket_dir / socket, listen=folder / socket) as proxy:
        yield proxy


@pytest.fixture(scope="module")
async def distant(way: Proxy, workspace: Path) -> AsyncIterator[Server]:
    """A server whose database is behind the proxy."""
    url = f"postgresql://syncd_runtime@/syncd?host={workspace / 'way'}&port={PORT}"
    settings = {"database_url": url, "lock_timeout_ms": 1000, "statement_timeout_ms": 2000}
    server = Server(workspace / "distant", workers=2, settings=settings, start=False)
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.stop)


@pytest.fixture
async def device(distant: Server, way: Proxy) -> AsyncIterator[Device]:
    """A device that has pushed once already, and a way that is healthy again afterwards."""
    async with Device(distant, f"away-{next(UNIQUE)}") as one:
        await one.push([one.change("first", "r", 0)])
        yield one
        way.heal()


def is_away(response: httpx.Response) -> bool:
    """Whether it is the problem that asks to send it again later."""
    assert response.status_code == 503, f"{response.status_code} {response.text}"
    assert int(response.headers["retry-after"]) >= 1
    return bool(response.json()["code"] == "database_unavailable")


async def delivered(device: Device, changes: list[dict[str, object]]) -> list[str]:
    """Sends until it is answered with 200, as a device does."""
    deadline = time.monotonic() + 60
    while (response := await device.send(changes)).status_code != 200:
        assert response.status_code == 503, response.text
        assert time.monotonic() < deadline, "it never recovered"
        await asyncio.sleep(0.1)
    return statuses(response.json())


async def gapless(device: Device, count: int) -> None:
    """The log has that many changes, numbered from one."""
    changes, _ = await device.drain(history=1)
    assert [change["seq"] for change in changes] == list(range(1, count + 1))


async def test_a_database_that_is_down_is_said_at_once_and_comes_back_without_a_restart(
    distant: Server, device: Device, way: Proxy
) -> None:
    way.faults.refuse = True
    way.cut()
    assert is_away(await device.send([device.change("second", "r", 1)]))
    assert is_away(await device.ask())
    assert is_away(await device.http.get("/spaces"))
    assert (await device.http.get("/healthz")).status_code == 200
    ready = await device.http.get("/readyz")
    assert (ready.status_code, ready.json().get("reasons", ready.text)) == (503, ["database_unavailable"])
    way.heal()
    assert await delivered(device, [device.change("second", "r", 1)]) == ["applied"]
    assert (await device.http.get("/readyz")).status_code == 200
    await gapless(device, 2)


async def test_a_commit_whose_confirmation_is_lost_is_not_acknowledged_and_not_written_twice(
    device: Device, way: Proxy
) -> None:
    for turn in range(6):
        changes = [device.change(f"{turn}-{n}", f"r{n}", turn) for n in range(4)]
        way.faults.lose_reply_after = 0
        response = await device.send(changes)
        way.heal()
        assert response.status_code == 200 or is_away(response)
        assert await delivered(device, changes) in (["applied"] * 4, ["duplicate"] * 4)
    await gapless(device, 1 + 6 * 4)


async def test_connections_that_are_reset_under_load_cost_no_acknowledged_push_and_split_none(
    distant: Server, device: Device, way: Proxy
) -> None:
    told, sent = collections.Counter[int](), collections.Counter[int]()

    async def write(name: int) -> None:
        async with Device(distant, device.user, f"device-{name}") as one:
            # As many more as it takes until some were answered with 503.
            for turn in itertools.takewhile(lambda turn: turn < 25 or told[503] < 3, range(1000)):
                changes = [one.change(f"{turn}-{n}", f"{name}-{turn}-{n}", turn) for n in range(4)]
                response = await one.send(changes)
                told[response.status_code] += 1
                sent[name] += 1
                if response.status_code == 200:
                    assert statuses(response.json()) == ["applied"] * 4
                else:
                    assert await delivered(one, changes) in (["applied"] * 4, ["duplicate"] * 4)

    writing = [asyncio.create_task(write(name)) for name in range(6)]
    try:
        while not all(task.done() for task in writing):
            before = sent.total()
            # Not again before something got through: where a push takes long, none would.
            while sent.total() < before + 6 and not all(task.done() for task in writing):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            way.reset()
        await asyncio.gather(*writing)
    finally:
        for task in writing:
            task.cancel()
    assert told.keys() == {200, 503}
    await gapless(device, 1 + 4 * sent.total())


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_way_that_swallows_everything_is_noticed_and_recovered_from(
    device: Device, way: Proxy, direction: str
) -> None:
    way.faults.blackhole = {direction}
    second = [device.change("second", "r", 1)]
    assert is_away(await device.send(second))
    way.heal()
    way.reset()
    assert await delivered(device, second) in (["applied"], ["duplicate"])
    changes, _ = await device.drain(history=1)
    assert [change["fields"]["value"]["value"] for change in changes] == [0, 1]


def test_whatever_a_connection_ends_by_is_a_sentence_to_an_operator() -> None:
    """The server answers 503 for it; a command has to know it too."""
    assert [error for error in GONE if not issubclass(error, refusals())] == []


async def test_a_slow_way_is_slow_and_nothing_else(device: Device, way: Proxy) -> None:
    way.faults.delay = 0.1
    assert statuses(await device.push([device.change(f"c{n}", f"r{n}", n) for n in range(50)])) == ["applied"] * 50
    await gapless(device, 51)


async def test_nothing_is_left_open_in_the_database(database: EmbeddedPostgres, device: Device) -> None:
    import asyncpg

    connection = await asyncpg.connect(database.owner_dsn)
    await none_is_open(connection, "AND usename = 'syncd_runtime'")
    await connection.close()
