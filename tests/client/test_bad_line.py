"""On a line that moves at all a sync finishes: slow, late, cut again and again, or still in one direction."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from syncd_client import (
    AsyncHttpSender,
    AsyncReplica,
    HttpRequest,
    HttpResponse,
    LivePolicy,
    LiveState,
    Replica,
    RetryPolicy,
)

from tests.support.agreeing import check_same
from tests.support.harness import Server
from tests.support.proxy import Proxy, bad_line
from tests.support.scripted_live import until

SPEED = 15_000
# The times are a tenth of the real ones, so that what takes minutes is tried in seconds.
SCALED = LivePolicy(first=0.1, longest=1.0, open_timeout=5.0, ping_interval=1.0, ping_timeout=1.0, answer_timeout=2.0)


@pytest.fixture
async def slow(server: Server) -> AsyncIterator[Proxy]:
    async with Proxy(server.port) as proxy:
        proxy.faults.bytes_per_second = SPEED
        yield proxy


def fill(server: Server, user: str, path: Path, records: int) -> Replica:
    replica = Replica(path, app="app", url=server.url, token=server.token(user), durability="normal")
    for start in range(0, records, 500):
        with replica.batch() as batch:
            for n in range(start, min(start + 500, records)):
                batch.put("tasks", f"task-{n}", {"title": f"Task number {n} of many", "done": bool(n % 2), "n": n})
    replica.sync()
    return replica


@pytest.fixture
def user() -> str:
    return f"slow-user-{random.getrandbits(60):x}"


@pytest.mark.waits
async def test_a_first_live_sync_finishes_at_15_kB_a_second(
    server: Server, slow: Proxy, tmp_path: Path, user: str
) -> None:
    full = await asyncio.to_thread(fill, server, user, tmp_path / "full.db", 500)
    states: list[LiveState] = []
    replica = AsyncReplica(tmp_path / "new.db", app="app", url=slow.url, token=server.token(user))
    async with replica, replica.live(policy=SCALED, on_state=states.append) as live:
        await until(lambda: live.state.name == "live", "live", patience=120)
        check_same(full, replica.local)
    assert [state.name for state in states].count("offline") == 0
    full.close()


@pytest.mark.waits
@pytest.mark.parametrize("how", ["sync", "live"])
async def test_a_change_of_100_kB_is_pushed_and_pulled_at_15_kB_a_second(
    server: Server, slow: Proxy, tmp_path: Path, user: str, how: str
) -> None:
    text = "".join(random.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=100_000))
    states: list[LiveState] = []
    sender = AsyncHttpSender()

    async def send(request: HttpRequest) -> HttpResponse:
        """A tenth of the patience, so that a line on which nothing moved would be given up."""
        return await sender(request._replace(idle=request.idle - 27))

    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(sender.close)
        options: dict[str, Any] = {"app": "app", "url": slow.url, "token": server.token(user), "send": send}
        one = await stack.enter_async_context(AsyncReplica(tmp_path / "one.db", **options))
        two = await stack.enter_async_context(AsyncReplica(tmp_path / "two.db", **options))
        await one.put("t", "large", {"text": text})
        if how == "sync":
            await one.sync()
            await two.sync()
        else:
            async with one.live(policy=SCALED, on_state=states.append) as live:
                assert await live.wait_until_synced(100)
            async with two.live(policy=SCALED, on_state=states.append) as live:
                await until(lambda: live.state.name == "live", "live", patience=100)
        assert (await two.get("t", "large"))["text"] == text  # type: ignore[index]
        check_same(one.local, two.local)
    assert not {state.code for state in states} & {"silent", "no_answer", "connection_lost"}


@pytest.mark.waits
async def test_it_finishes_where_the_line_is_cut_again_and_again(server: Server, tmp_path: Path, user: str) -> None:
    full = await asyncio.to_thread(fill, server, user, tmp_path / "full.db", 1000)
    async with Proxy(server.port) as proxy:
        proxy.faults.bytes_per_second = 10 * SPEED
        proxy.faults.delay = 0.05

        async def cut() -> None:
            while True:
                await asyncio.sleep(random.uniform(0.2, 1.0))
                proxy.cut()

        cutting = asyncio.create_task(cut())
        options: dict[str, Any] = {"app": "app", "url": proxy.url, "token": server.token(user)}
        new = AsyncReplica(tmp_path / "new.db", retry=RetryPolicy(attempts=30, first=0.05, longest=0.5), **options)
        async with new:
            for n in range(200):
                await new.put("t", f"own-{n}", {"n": n, "text": "x" * 300})
            await new.sync()
            cutting.cancel()
            await asyncio.to_thread(full.sync)
            check_same(full, new.local)
    full.close()


@pytest.mark.waits
@pytest.mark.parametrize("how", ["sync", "live"])
async def test_a_first_sync_and_a_backlog_get_over_a_bad_line(
    server: Server, tmp_path: Path, user: str, how: str
) -> None:
    full = await asyncio.to_thread(fill, server, user, tmp_path / "full.db", 500)
    async with Proxy(server.port) as proxy, contextlib.AsyncExitStack() as stack:
        proxy.faults = bad_line(cut=0.3)
        options: dict[str, Any] = {"app": "app", "url": proxy.url, "token": server.token(user)}
        new = await stack.enter_async_context(AsyncReplica(tmp_path / "new.db", **options))
        for n in range(50):
            await new.put("t", f"own-{n}", {"n": n, "text": "x" * 1000})
        if how == "sync":
            await new.sync()
        else:
            async with new.live() as live:
                await until(lambda: live.state.name == "live", "live", patience=150)
                assert await live.wait_until_synced(100)
        await asyncio.to_thread(full.sync)
        check_same(full, new.local)
    full.close()


@pytest.mark.waits
@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_line_that_is_dead_in_one_direction_is_not_called_live_for_long(
    server: Server, tmp_path: Path, user: str, way: str
) -> None:
    async with Proxy(server.port) as proxy:
        replica = AsyncReplica(tmp_path / "r.db", app="app", url=proxy.url, token=server.token(user))
        async with replica, replica.live() as live:
            await until(lambda: live.state.name == "live", "live")
            proxy.faults.blackhole = {way}
            began = time.monotonic()
            await until(lambda: live.state.name != "live", "told")
            assert time.monotonic() - began < 21
            proxy.heal()
            proxy.cut()
