"""On 15 kB/s, two seconds there and back, with connections that are cut: everything finishes, only later."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from syncd_client import AsyncReplica, Offline

from tests.support.device import Device
from tests.support.harness import Server
from tests.support.node import CLIENT, packages
from tests.support.proxy import Proxy, bad_line
from tests.support.wire import edit, unique

pytestmark = [pytest.mark.waits, pytest.mark.timeout(600)]

SMALL = 3_000
Open = Callable[[str], AsyncReplica]


@pytest.fixture
async def line(server: Server) -> AsyncIterator[Proxy]:
    async with Proxy(server.port, seed=1) as proxy:
        proxy.faults = bad_line()
        yield proxy


@pytest.fixture
async def device(server: Server, line: Proxy, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens a device of a user, which reaches the server over the line."""
    opened: list[AsyncReplica] = []

    def open_device(user: str) -> AsyncReplica:
        path = tmp_path / f"{len(opened)}.db"
        replica = AsyncReplica(path, app="notes", url=line.url, token=server.token(user), durability="normal")
        opened.append(replica)
        return replica

    yield open_device
    for replica in opened:
        await replica.close()


async def fill(server: Server, user: str, count: int, fields: Callable[[int], dict[str, Any]]) -> None:
    """So many records, 50 a push."""
    async with Device(server, user, "elsewhere") as writer:
        for start in range(0, count, 50):
            await writer.push([edit(f"r{n}", **fields(n)) for n in range(start, start + 50)])


async def until(check: Callable[[], Any], what: str, patience: float) -> None:
    deadline = time.monotonic() + patience
    while not check():
        assert time.monotonic() < deadline, f"it never came to that: {what}"
        await asyncio.sleep(0.1)


async def synced(replica: AsyncReplica, patience: float) -> None:
    """Syncs until it is through, as an application does that calls it again."""
    deadline = time.monotonic() + patience
    while True:
        with contextlib.suppress(Offline):
            await replica.sync()
            return
        assert time.monotonic() < deadline, "it never finished"
        await asyncio.sleep(1)


async def test_a_live_first_sync_of_small_records_finishes(server: Server, device: Open) -> None:
    user = unique("ann")
    await fill(server, user, SMALL, lambda n: {"title": f"Water tomato {n}", "done": n % 3 == 0})
    phone = device(user)
    async with phone.live():
        await until(lambda: len(phone.local.query("t")) == SMALL, "all records are here", 240)
        await phone.put("t", "mine", {"title": "written over the line"})
        async with Device(server, user, "another") as another:
            deadline = time.monotonic() + 60
            while "mine" not in {change["id"] for change in (await another.drain(history=1))[0]}:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.5)


async def test_a_live_first_sync_of_the_typescript_client_finishes(server: Server, line: Proxy) -> None:
    user = unique("ann")
    await fill(server, user, SMALL, lambda n: {"title": f"Water tomato {n}", "done": n % 3 == 0})
    given = {"LINE_URL": line.url, "LINE_TOKEN": server.token(user), "LINE_RECORDS": str(SMALL)}
    command = [packages(CLIENT) / ".bin" / "vitest", "run", "--config", "test/line/vitest.config.ts"]
    node = await asyncio.create_subprocess_exec(
        *command, cwd=CLIENT, env={**os.environ, **given}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await node.communicate()
    assert node.returncode == 0, said.decode()[-4000:]
    async with Device(server, user, "another") as another:
        assert "mine" in {change["id"] for change in (await another.drain())[0]}


async def test_pulls_and_pushes_of_most_of_a_megabyte_finish(server: Server, device: Open) -> None:
    ann, bob = unique("ann"), unique("bob")
    await fill(server, ann, 50, lambda n: {"text": secrets.token_hex(8_000)})
    pulling, pushing = device(ann), device(bob)
    for n in range(40):
        await pushing.put("t", f"w{n}", {"text": secrets.token_hex(7_500)})
    await asyncio.gather(synced(pulling, 400), synced(pushing, 400))
    assert len(pulling.local.query("t")) == 50
    async with Device(server, bob, "another") as another:
        assert len((await another.drain())[0]) == 40
