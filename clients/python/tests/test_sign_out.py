"""Leaving a device: what is deleted is gone from the disk, and what was erased leaves the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from syncd_client import AsyncReplica, Replica, StoreFailed, SyncBusy
from syncd_client.store.lease import Lease

CANARY = "canary-in-the-file"


def holding(folder: Path, text: str) -> list[str]:
    """The files of a folder that have a text."""
    return sorted(file.name for file in folder.iterdir() if text.encode() in file.read_bytes())


def test_who_signs_out_finds_everything_again_and_is_told_what_was_not_sent(tmp_path: Path) -> None:
    replica = Replica(tmp_path / "notes", app="app")
    replica.put("notes", "one", {"title": CANARY})
    assert [change.id for change in replica.sign_out()] == ["one"]
    with pytest.raises(StoreFailed):
        replica.pending()
    with Replica(tmp_path / "notes", app="app") as again:
        found = again.get("notes", "one")
        assert found is not None
        assert found["title"] == CANARY


def test_with_wipe_nothing_is_left(tmp_path: Path) -> None:
    replica = Replica(tmp_path / "notes", app="app")
    replica.put("notes", "one", {"title": CANARY})
    assert holding(tmp_path, CANARY) != []
    assert len(replica.sign_out(wipe=True)) == 1
    assert list(tmp_path.iterdir()) == []
    Replica.destroy(tmp_path / "notes")
    Replica.destroy(":memory:")


async def test_an_async_replica_does_the_same(tmp_path: Path) -> None:
    replica = AsyncReplica(tmp_path / "notes", app="app")
    await replica.put("notes", "one", {"title": CANARY})
    assert len(await replica.sign_out(wipe=True)) == 1
    await AsyncReplica.destroy(tmp_path / "notes")
    assert holding(tmp_path, "") == []


def test_a_file_that_is_being_synced_is_not_deleted(tmp_path: Path) -> None:
    replica = Replica(tmp_path / "notes", app="app")
    replica.put("notes", "one", {"title": CANARY})
    other = Lease(tmp_path / "notes")
    assert other.take()
    with pytest.raises(SyncBusy):
        replica.sign_out(wipe=True)
    other.release()
    with Replica(tmp_path / "notes", app="app") as again:
        assert len(again.pending()) == 1
