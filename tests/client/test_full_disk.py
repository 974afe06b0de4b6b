"""A device whose disk is full, or that has no descriptors left: nothing is lost, it says so, and goes on by itself."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import sqlite3
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from syncd_client import AsyncReplica, LiveState, Replica, StoreFailed, SyncBusy
from syncd_client.live.exchange_lock import ExchangeLock
from syncd_client.store.lease import Lease

from tests.client.scripted import Script, page, wire
from tests.client.scripted_live import LiveScript, changes
from tests.client.test_live_exchange import QUICK, until

EARLY = "2001-01-01T00:00:00.000000Z"
Open = Callable[..., Replica]
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
def disk(tmp_path: Path, processes: Any, request: pytest.FixtureRequest) -> Iterator[Disk]:
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
    http = httpx.Client(transport=httpx.MockTransport(script))
    return Replica(disk.path / "r.db", app="app", url="http://server", token="t", http=http, **options)


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


@pytest.fixture
async def live_script() -> AsyncIterator[LiveScript]:
    async with LiveScript().running() as script:
        yield script


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


def test_a_file_that_is_none_or_cannot_be_opened_is_told_in_words_of_our_own(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all, but long enough to be taken for one" * 100)
    for path in (tmp_path / "text.db", tmp_path / "none" / "r.db", tmp_path):
        with pytest.raises(StoreFailed) as failed:
            Replica(path, app="app")
        assert failed.value.code == "store_failed"


def test_a_closed_replica_raises_no_error_of_sqlite(tmp_path: Path) -> None:
    replica = Replica(tmp_path / "r.db", app="app")
    replica.close()
    for use in (lambda: replica.get("t", "r"), lambda: replica.put("t", "r", {"n": 1}), replica.pending):
        with pytest.raises(StoreFailed):
            use()


def test_a_write_that_fails_at_its_end_leaves_no_transaction_behind(replica: Replica) -> None:
    with replica.store.read() as db:
        db.execute("SELECT 1")

    def fail() -> None:
        with replica.store.write() as db:
            db.execute("INSERT INTO spaces VALUES ('a')")
            db.execute("ROLLBACK")  # as SQLite does by itself when the disk is full
            raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(StoreFailed):
        fail()
    replica.put("t", "r", {"n": 1})
    assert replica.spaces() == []


FAULTS = [errno.EMFILE, errno.ENOSPC, errno.EACCES, errno.EIO]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lock_file_that_could_not_be_opened_once_is_tried_again(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    def fail(*args: Any, **named: Any) -> int:
        raise OSError(fault, os.strerror(fault))

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", fail)
        with pytest.raises(StoreFailed) as failed:
            replica.sync(patience=0.2)
        assert failed.value.code == ("storage_full" if fault == errno.ENOSPC else "store_failed")
    assert replica.sync(patience=0.2).requests == 1


def test_a_process_without_descriptors_syncs_again_when_it_has_some(replica: Replica) -> None:
    taken: list[int] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    try:
        with pytest.raises(StoreFailed):
            replica.sync(patience=0.2)
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert replica.sync(patience=0.2).requests == 1


def test_a_lock_that_was_refused_is_free_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = Lease(tmp_path / "r.db")
    assert lease.take()
    assert not Lease(tmp_path / "r.db").take()
    descriptor = lease._descriptor
    assert descriptor is not None
    os.close(descriptor)  # somebody closed it by mistake
    with pytest.raises(OSError, match="Bad file descriptor"):
        lease.release()
    assert lease.take()
    lease.release()


@pytest.mark.waits
async def test_what_a_slow_loop_lends_to_who_has_gone_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd_client.live.exchange_lock._LOOP_PATIENCE", 0.1)
    lock = ExchangeLock(asyncio.get_running_loop(), lambda: None)
    lent: list[Any] = []
    borrower = threading.Thread(target=lambda: lent.append(lock.lend(0.1)))
    borrower.start()
    borrower.join()  # a loop that does not turn
    await asyncio.sleep(0.1)
    assert lent == [None]
    async with asyncio.timeout(60):
        async with lock.alone():
            pass


def test_a_live_sync_whose_threads_cannot_be_started_leaves_the_replica_free(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="thread"):
            replica.live()
    with replica.live() as live:
        assert live.state.name != "closed"
        with pytest.raises(SyncBusy):
            replica.live()


@pytest.mark.waits
async def test_a_live_sync_that_finds_no_lock_file_begins_when_there_is_one(
    tmp_path: Path, live_script: LiveScript
) -> None:
    (tmp_path / "r.db-sync").mkdir()
    replica = AsyncReplica(tmp_path / "r.db", app="app", url=live_script.url, token="t")
    async with replica, replica.live(policy=QUICK) as live:
        await until(lambda: live.state.code == "store_failed", "it says so")
        with pytest.raises(StoreFailed):
            await replica.sync(patience=0.1)
        (tmp_path / "r.db-sync").rmdir()
        await until(lambda: live.state.name == "live", "live")
