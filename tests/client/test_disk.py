"""A device whose disk is full: nothing is lost, it says so, and goes on by itself."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from syncd_client import (
    AsyncReplica,
    HttpSender,
    LiveState,
    Replica,
    StoreFailed,
)

from tests.support.scripted import Script, page, wire
from tests.support.scripted_live import LiveScript, changes, until

EARLY = "2001-01-01T00:00:00.000000Z"
LARGE = "x" * 100_000


class Disk:
    """A small file system of its own, which can be filled and emptied."""

    def __init__(self, path: Path) -> None:
        self.path, self._filler = path, path / "filler"

    def fill(self) -> None:
        with self._filler.open("ab", buffering=0) as filler:
            for size in (65536, 4096, 1):
                with contextlib.suppress(OSError):
                    while filler.write(b"x" * size) == size:
                        pass

    def empty(self) -> None:
        self._filler.unlink()


class Quota(Disk):
    """No file may grow any more: for who may not mount a file system."""

    def fill(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    def empty(self) -> None:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


@pytest.fixture(params=["disk", "quota"])
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    mounted = request.param == "disk" and _mount(path)
    found = Disk(path) if mounted else Quota(path)
    yield found
    Quota(path).empty()
    if mounted:
        subprocess.run(["umount", "-l", path], check=True)


def _mount(path: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def open_on(disk: Disk, script: Script, **options: Any) -> Replica:
    http = httpx2.Client(transport=httpx2.MockTransport(script))
    return Replica(disk.path / "r.db", app="app", url="http://server", token="t", send=HttpSender(http), **options)


def write_until_full(replica: Replica) -> None:
    for n in range(100):
        replica.put("t", f"{n}", {"large": LARGE})


def test_a_full_disk_is_storage_full_and_nothing_is_lost(disk: Disk, script: Script) -> None:
    with open_on(disk, script) as replica:
        replica.put("t", "kept", {"n": 1})
        disk.fill()
        for _ in range(2):
            with pytest.raises(StoreFailed) as full:
                write_until_full(replica)
            assert full.value.code == "storage_full"
        assert replica.get("t", "kept") == {"n": 1}
        assert (replica.why("t", "kept").state, replica.why("t", "kept").code) == ("busy", "storage_full")
        script.answers = [page(*(wire(f"w{n}", n=(LARGE, EARLY)) for n in range(60)), cursor="c9")]
        with pytest.raises(StoreFailed) as full:
            replica.pull()
        assert (full.value.code, replica.cursor) == ("storage_full", "")
        disk.empty()
        replica.put("t", "after", {"n": 2})
        assert replica.why("t", "kept").state == "waiting"
        assert replica.sync().pushed == len(replica.query("t")) >= 2


def test_opening_on_a_full_disk_is_storage_full_at_once(disk: Disk, script: Script) -> None:
    disk.fill()
    began = time.monotonic()
    with pytest.raises(StoreFailed) as full:
        open_on(disk, script)
    assert (full.value.code, time.monotonic() - began < 30) == ("storage_full", True)
    disk.empty()
    with open_on(disk, script) as replica:
        assert replica.sync().requests == 1


@pytest.mark.waits
async def test_live_it_waits_for_room_and_is_back_soon_after(disk: Disk, live_script: LiveScript) -> None:
    states: list[LiveState] = []
    news = changes(*(wire(f"w{n}", n=(LARGE, EARLY)) for n in range(10)), cursor="c2")
    replica = AsyncReplica(disk.path / "r.db", app="app", url=live_script.url, token="t")
    async with replica, replica.live(on_state=states.append) as live:
        await until(lambda: live.state.name == "live", "live")
        disk.fill()
        await live_script.say(news)
        await until(lambda: live.state.code == "storage_full", "it says that there is no room")
        assert live.state.name == "busy"
        sockets = len(live_script.sockets)
        await asyncio.sleep(5)
        assert len(live_script.sockets) == sockets, "nothing is asked of the server meanwhile"
        live_script.on["subscribe"] = lambda frame, socket: [news]
        disk.empty()
        await until(lambda: live.state.name == "live" and replica.local.get("t", "w9"), "back")
    assert {state.code for state in states} <= {None, "storage_full"}
