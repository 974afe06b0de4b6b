"""A database that goes back to an earlier state is noticed by every device that had more of it acknowledged."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from syncd_client import AsyncReplica
from syncd_client.live.connection import Connection, ConnectionOver
from syncd_client.live.reconnect import Ending

from tests.support.agreeing import check_same
from tests.support.harness import Server
from tests.support.quick_live import QUICK, until

pytestmark = [pytest.mark.waits]
Open = Callable[..., AsyncReplica]


class Restored(Server):
    """A server whose data can be put aside, and gone back to."""

    def keep(self) -> None:
        """Puts a copy of its data aside, of when it was stopped."""
        self.stop()
        subprocess.run(["cp", "-a", self.data_dir / "pgdata", self.data_dir / "kept"], check=True)
        self.start()

    def go_back(self) -> None:
        """Goes on with the data that was put aside."""
        self.stop()
        shutil.rmtree(self.data_dir / "pgdata")
        (self.data_dir / "kept").rename(self.data_dir / "pgdata")
        self.start()


@pytest.fixture
async def device(folder: Path, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens devices of one user, at a server of their own."""
    with Restored(folder / "data") as own:
        user, opened = f"restored-{random.getrandbits(60):x}", list[AsyncReplica]()

        def open_device(name: str) -> AsyncReplica:
            token = own.token(user)
            opened.append(AsyncReplica(tmp_path / name, app="app", url=own.url, token=token, durability="normal"))
            return opened[-1]

        open_device.server = own  # type: ignore[attr-defined]
        yield open_device
        for replica in opened:
            await replica.close()


async def end_the_line(connection: Any) -> None:
    raise ConnectionOver(Ending("offline", "offline", "The line broke.", opened=True))


async def test_what_was_acknowledged_before_the_cursor_had_come_past_it_is_missed_after_a_restore(
    device: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: Restored = device.server  # type: ignore[attr-defined]
    desk, *phones = device("desk"), device("phone"), device("pad"), device("watch")
    for each in phones:
        await each.put("t", "first", {"n": 0})
        await each.sync()
    await desk.sync()
    await asyncio.to_thread(server.keep)
    with monkeypatch.context() as line:
        line.setattr(Connection, "_subscribe", end_the_line)
        for each in phones:
            await each.put("t", f"gone-{each.client_id}", {"n": 1})
            async with each.live(policy=QUICK):
                await until(lambda each=each: not each.local.pending(), "acknowledged", 60)
    await asyncio.to_thread(server.restart)
    watch = phones.pop()  # where the server was only started anew, nothing begins again
    assert not (await watch.sync()).restarted
    assert (await watch.sync()).requests == 1
    await asyncio.to_thread(server.go_back)
    await desk.put("t", "since", {"n": 2})
    await desk.sync()
    by_hand, live = phones
    assert len(by_hand.local.query("t")) == len(live.local.query("t")) == 2
    await by_hand.put("t", "unsent", {"n": 3})
    assert (await by_hand.sync()).restarted
    await live.put("t", "unsent-too", {"n": 3})
    async with live.live(policy=QUICK) as lived:
        assert await lived.wait_until_synced(60)
        gone = f"gone-{live.client_id}"
        await until(lambda: not live.local.get("t", gone) and live.local.get("t", "since"), "it has begun again", 60)
    await by_hand.sync()
    await desk.sync()
    assert {record.id for record in desk.local.query("t")} == {"first", "since", "unsent", "unsent-too"}
    for each in (by_hand, live):
        check_same(each.local, desk.local)


async def test_while_devices_are_live_all_end_with_what_it_has_and_what_they_write_since(device: Open) -> None:
    server: Restored = device.server  # type: ignore[attr-defined]
    one, two = device("one"), device("two")
    await one.put("t", "before", {"n": 0})
    await one.sync()
    await asyncio.to_thread(server.keep)
    wrote, back = 0, asyncio.Event()

    async def write() -> None:
        nonlocal wrote
        while not back.is_set() or wrote < 40:
            await (one, two)[wrote % 2].put("t", f"w{wrote}", {"n": wrote})
            wrote += 1
            await asyncio.sleep(0.01)

    async with one.live(policy=QUICK) as first, two.live(policy=QUICK) as second, asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        some = random.randrange(6, 26)
        await until(lambda: wrote > some, "some are written")
        await asyncio.to_thread(server.go_back)
        back.set()
        await one.put("t", "after", {"n": 1})
        for live in (first, second):
            assert await live.wait_until_synced(60)
    for each in (one, two, one):
        await each.sync()
    fresh = device("fresh")
    await fresh.sync()
    assert fresh.local.get("t", "after") == {"n": 1}
    assert fresh.local.get("t", "before") == {"n": 0}
    for each in (one, two):
        check_same(each.local, fresh.local)
