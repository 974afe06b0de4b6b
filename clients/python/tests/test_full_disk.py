"""A device without descriptors, or with a file that cannot be opened: it says so, and goes on by itself."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from syncd_client import AsyncReplica, Replica, StoreFailed, SyncBusy
from syncd_client.live.exchange_lock import ExchangeLock
from syncd_client.store.lease import Lease

from tests.support.scripted_live import QUICK, LiveScript, until

Open = Callable[..., Replica]


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
