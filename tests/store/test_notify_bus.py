"""The bus over PostgreSQL: however its connection dies, that is noticed, and repaired within what G13 promises."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import uvloop
from structlog.testing import capture_logs

from syncd.bus.both import ListeningToo
from syncd.bus.hints import Hint
from syncd.bus.postgres import NotifyBus
from syncd.postgres.embedded import PORT, EmbeddedPostgres
from tests.store.listening import PROMISED, Listener, feed, until
from tests.support.pooler import Pooler
from tests.support.proxy import Proxy

pytestmark = pytest.mark.waits

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(scope="module")
def mortal(workspace: Path) -> Iterator[EmbeddedPostgres]:
    """A database of this file's own: to kill a server process is to restart the whole of it."""
    with EmbeddedPostgres(workspace / "mortal") as postgres:
        yield postgres


@pytest.fixture
async def way(database: EmbeddedPostgres, folder: Path) -> AsyncIterator[Proxy]:
    """A proxy between the bus and the database."""
    socket = f".s.PGSQL.{PORT}"
    async with Proxy(database.socket_dir / socket, listen=folder / socket) as proxy:
        yield proxy


def through(way: Proxy) -> str:
    """The database behind the proxy."""
    assert way.listen is not None
    return f"postgresql://syncd_runtime@/syncd?host={way.listen.parent}&port={PORT}"


@pytest.fixture
def pooler(database: EmbeddedPostgres, folder: Path) -> Iterator[Pooler]:
    with Pooler(database, folder / "pooler") as running:
        yield running


async def server_processes(dsn: str) -> list[int]:
    """The process ids of the servers that buses are connected to, oldest first."""
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'syncd bus' ORDER BY backend_start"
    )
    await connection.close()
    return [row["pid"] for row in rows]


async def test_a_worker_is_alone_until_it_hears_another(database: EmbeddedPostgres, folder: Path) -> None:
    async with Listener(NotifyBus(database.runtime_dsn)) as one:
        # Its own heartbeats, of this link and of the next, are nobody else's; those of other tests' workers may be.
        own = f"!{one.bus._instance}.1"
        one.bus._deliver(own)
        one.bus._others = -math.inf
        one.bus._deliver(own)
        assert one.bus.alone
        async with Listener(NotifyBus(database.runtime_dsn)):
            await until(lambda: not one.bus.alone)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_process_that_is_killed_is_replaced_within_the_promise(
    mortal: EmbeddedPostgres, run: Run, sign: signal.Signals
) -> None:
    async def scenario() -> None:
        async with Listener(NotifyBus(mortal.runtime_dsn)) as one, Listener(NotifyBus(mortal.runtime_dsn)) as two:
            os.kill((await server_processes(mortal.owner_dsn))[0], sign)
            print(f"{sign.name}: down and up in {await one.goes_down_and_up(PROMISED):.2f} s")
            await two.is_up()
            one.publish(feed("after", 1))
            await two.hears(feed("after", 1))
            assert one.bus.reconnects == 1

    run(scenario())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_server_process_that_is_frozen_is_given_up_within_the_promise(mortal: EmbeddedPostgres, run: Run) -> None:
    async def scenario() -> None:
        async with Listener(NotifyBus(mortal.runtime_dsn)) as one, Listener(NotifyBus(mortal.runtime_dsn)) as two:
            frozen = (await server_processes(mortal.owner_dsn))[0]
            os.kill(frozen, signal.SIGSTOP)
            try:
                # In the middle of a statement: it never returns, and what it carried is sent again.
                one.publish(feed("lost", 1))
                print(f"SIGSTOP: down and up in {await one.goes_down_and_up(PROMISED):.2f} s")
                await two.hears(feed("lost", 1))
                two.publish(feed("after", 1))
                await one.hears(feed("after", 1))
                assert (one.bus.reconnects, two.bus.reconnects) == (1, 0)
            finally:
                os.kill(frozen, signal.SIGCONT)

    run(scenario())


@pytest.mark.parametrize("directions", [("up",), ("down",), ("up", "down")], ids="-".join)
async def test_a_way_that_swallows_everything_is_noticed_within_the_promise(
    way: Proxy, directions: tuple[str, ...]
) -> None:
    async with Listener(NotifyBus(through(way))) as one:
        way.faults.blackhole = set(directions)
        began = time.monotonic()
        await until(lambda: one.bus.state == "down", PROMISED)
        print(f"blackhole {directions}: down after {time.monotonic() - began:.2f} s")
        # Long enough for a try that meets nothing but silence.
        await asyncio.sleep(0.5)
        assert one.bus.state == "down"
        way.heal()
        await one.is_up()
        one.publish(feed("after", 1))
        await one.hears(feed("after", 1))


async def test_a_connection_that_is_cut_or_reset_is_made_again_at_once(
    way: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.bus.link.HEARTBEAT_LATE", 3600.0)  # its silence would tell nothing
    async with Listener(NotifyBus(through(way))) as one:
        for turn, end in enumerate((way.cut, way.reset)):
            end()
            await one.goes_down_and_up(30)
            assert one.bus.reconnects == turn + 1


async def test_a_database_that_is_away_is_logged_once_and_tried_again_and_again(way: Proxy) -> None:
    with capture_logs() as logged:
        async with Listener(NotifyBus(through(way))) as one:
            way.faults.refuse = True
            way.cut()
            await until(lambda: one.bus.state == "down")
            await asyncio.sleep(2)
            way.heal()
            await one.is_up()
    assert [entry["log_level"] for entry in logged] == ["info", "warning", "info"]


async def test_closing_does_not_wait_for_a_server_that_is_frozen(mortal: EmbeddedPostgres) -> None:
    before = asyncio.all_tasks()
    async with Listener(NotifyBus(mortal.runtime_dsn)) as one:
        frozen = (await server_processes(mortal.owner_dsn))[0]
        os.kill(frozen, signal.SIGSTOP)
        try:
            one.publish(Hint("m"))
            await asyncio.sleep(0.05)
            began = time.monotonic()
            await one.bus.close()
            assert time.monotonic() - began < 10
            assert asyncio.all_tasks() <= before
        finally:
            os.kill(frozen, signal.SIGCONT)


async def test_closing_while_a_connection_is_being_made_leaves_nothing(way: Proxy) -> None:
    way.faults.blackhole = {"down"}
    before, bus = asyncio.all_tasks(), NotifyBus(through(way))
    await bus.open(lambda hint: None)
    assert bus.state == "down"
    await bus.close()
    await until(lambda: asyncio.all_tasks() <= before and not way.links)


async def test_a_worker_that_was_busy_for_seconds_does_not_take_its_connection_for_dead(
    database: EmbeddedPostgres,
) -> None:
    async with Listener(NotifyBus(database.runtime_dsn)) as one:
        for _ in range(2):
            # The whole event loop stands still, as it does when a worker is starved of processors.
            time.sleep(2.5)  # noqa: ASYNC251
            one.publish(feed("late", 1))
            await asyncio.sleep(0.6)
        await one.hears(feed("late", 1))
        assert (one.bus.state, one.bus.reconnects) == ("up", 0)


async def test_through_a_pooler_it_is_unavailable_and_says_once_what_to_set(
    pooler: Pooler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.bus.link.RECHECK", 0.01)
    with capture_logs() as logged:
        async with Listener(NotifyBus(pooler.dsn("syncd_runtime")), wait=False) as one:
            await until(lambda: one.bus.state == "unavailable")
            one.publish(feed("nobody", 1))
            await asyncio.sleep(0.5)
            assert one.bus.state == "unavailable"
    assert [entry["log_level"] for entry in logged] == ["error"]
    assert "SYNCD_LISTEN_URL" in logged[0]["event"]
    assert "NATS" in logged[0]["event"]


async def test_with_a_direct_url_beside_the_pooler_it_works(pooler: Pooler, database: EmbeddedPostgres) -> None:
    connection = await asyncpg.connect(pooler.dsn("syncd_runtime"), statement_cache_size=0)
    async with Listener(NotifyBus(database.runtime_dsn)) as one:
        one.publish(feed("direct", 1))
        await one.hears(feed("direct", 1))
        assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


async def test_two_buses_are_heard_and_one_is_told(database: EmbeddedPostgres, mortal: EmbeddedPostgres) -> None:
    """As where NATS carries the workers' hints, and the database tells what a backend wrote."""
    both = ListeningToo(NotifyBus(database.owner_dsn), NotifyBus(mortal.owner_dsn))
    heard: list[Hint] = []
    await both.open(heard.append)
    async with Listener(NotifyBus(database.owner_dsn)) as main, Listener(NotifyBus(mortal.owner_dsn)) as also:
        await until(lambda: both.state == "up" and both._also.state == "up")
        main.publish(feed("on the first", 1))
        also.publish(feed("on the second", 1))
        await until(lambda: {feed("on the first", 1), feed("on the second", 1)} <= set(heard))
        both.publish(feed("its own", 1))
        await main.hears(feed("its own", 1))
        also.publish(feed("after it", 1))
        await also.hears(feed("after it", 1))
        assert feed("its own", 1) not in also.hints
    assert (both.told, both.dropped, both.ignored, both.reconnects) == (1, 0, 0, 0)
    assert both.heard >= 3
    assert both.sent == 1
    await both.close()
