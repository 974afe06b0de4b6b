"""The same replica, awaited."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from syncd_client import (
    AsyncHttpSender,
    AsyncReplica,
    Offline,
    Replica,
    RetryPolicy,
)

from tests.support.scripted import Script, applied, page, problem, wire

EARLY = "2001-01-01T00:00:00.000000Z"


@pytest.fixture
async def replica(tmp_path: Path, script: Script) -> AsyncIterator[AsyncReplica]:
    async def token() -> str:
        return "fresh"

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(script)) as http:
        policy = RetryPolicy(attempts=3, first=0.001)
        async with AsyncReplica(
            tmp_path / "r.db",
            app="app",
            url="http://server",
            token=token,
            send=AsyncHttpSender(http),
            retry=policy,
            durability="normal",
        ) as opened:
            yield opened


async def test_it_writes_reads_and_syncs(replica: AsyncReplica, script: Script) -> None:
    await replica.put("t", "a", {"n": 1})
    async with replica.batch() as batch:
        batch.put("t", "b", {"n": 2})
        batch.delete("t", "a")
    assert await replica.query("t") == [{"n": 2}]
    script.answers = [lambda body: applied(body, wire("c", n=(3, EARLY)))]
    report = await replica.sync()
    assert (report.pushed, report.pulled, await replica.pending()) == (3, 1, [])
    assert script.asked[0].headers["authorization"] == "Bearer fresh"
    assert (await replica.why("t", "b")).state == "synced"


async def test_it_retries_and_gives_up(replica: AsyncReplica, script: Script) -> None:
    await replica.put("t", "a", {"n": 1})
    script.answers = [problem(401, "unauthorized"), httpx2.ReadTimeout("slow"), page()]
    await replica.pull()
    script.answers = [httpx2.ConnectError("no")] * 3
    with pytest.raises(Offline):
        await replica.sync()
    await replica.sync()
    assert await replica.pending() == []


async def test_a_conflict_is_awaited(tmp_path: Path, script: Script) -> None:
    told: list[Any] = []

    async def tell(conflict: Any) -> None:
        await asyncio.sleep(0)
        told.append(conflict)

    conflict = {"table": "t", "id": "a", "field": "n", "clientValue": 1, "serverValue": 2}
    script.answers = [lambda body: applied(body, conflicts=[conflict])]
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(script)) as http:
        options: Any = {"url": "http://s", "token": "t", "send": AsyncHttpSender(http), "on_conflict": tell}
        async with AsyncReplica(tmp_path / "r.db", app="app", **options) as replica:
            await replica.put("t", "a", {"n": 1})
            await replica.sync()
            assert told == await replica.conflicts()


async def test_many_tasks_share_one_replica(replica: AsyncReplica) -> None:
    async def work(name: int) -> None:
        await replica.put("t", f"r{name}", {"n": name})
        await replica.sync()

    await asyncio.gather(*(work(name) for name in range(10)))
    assert await replica.pending() == []
    assert len(await replica.query("t")) == 10


def test_every_method_of_the_one_is_there_in_the_other() -> None:
    # A handle of one space is of the synchronous replica alone so far.
    plumbing = {"commit", "new_batch", "session", "cursor", "in_"}
    for name, method in inspect.getmembers(Replica):
        if name.startswith("_") or name in plumbing:
            continue
        other = getattr(AsyncReplica, name)
        if isinstance(method, property):
            assert isinstance(other, property), name
            continue
        assert list(inspect.signature(other).parameters) == list(inspect.signature(method).parameters), name
