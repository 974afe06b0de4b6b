"""A write to a deleted record reaches devices that were never sent it, because they began after its deletion."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from syncd_client import Replica

from tests.support.device import Device
from tests.support.harness import Server

Open = Callable[..., Replica]


@pytest.fixture
def begin(server: Server, tmp_path: Path) -> Iterator[Open]:
    """Opens devices of one user, each with an empty file."""
    user, opened = f"user-{uuid.uuid4()}", list[Replica]()

    def open_one(**options: Any) -> Replica:
        name, token = f"device-{len(opened)}", server.token(user)
        replica = Replica(
            tmp_path / name, app="gone", url=server.url, token=token, client_id=name, durability="normal", **options
        )
        opened.append(replica)
        return replica

    yield open_one
    for replica in opened:
        replica.close()


@pytest.fixture
def first(begin: Open) -> Replica:
    """A device that wrote a record, which is on the server."""
    replica = begin()
    replica.put("notes", "n", {"title": "old", "body": "kept"})
    replica.sync()
    return replica


def test_an_edit_of_a_deleted_record_does_not_bring_it_back_on_a_device_that_began_later(
    begin: Open, first: Replica
) -> None:
    offline = begin()
    offline.sync()
    offline.patch("notes", "n", {"title": "edited offline"})
    first.delete("notes", "n")
    first.sync()
    late = begin()
    late.sync()
    for replica in (offline, late, first):
        replica.sync()
    assert late.get("notes", "n") is None
    assert late.registers("notes", "n") == first.registers("notes", "n") == offline.registers("notes", "n")


def test_an_undeleted_record_comes_whole_to_a_device_that_began_after_the_deletion(begin: Open, first: Replica) -> None:
    first.delete("notes", "n")
    first.sync()
    late = begin()
    late.sync()
    first.undelete("notes", "n")
    for replica in (first, late):
        replica.sync()
    fresh = begin()
    fresh.sync()
    assert dict(late.get("notes", "n") or {}) == {"title": "old", "body": "kept"}
    assert late.registers("notes", "n") == first.registers("notes", "n") == fresh.registers("notes", "n")


@pytest.mark.parametrize("synced_before", [True, False])
@pytest.mark.parametrize("several", [True, False])
def test_a_device_that_writes_to_a_record_it_never_saw_deleted_learns_of_the_deletion(
    begin: Open, first: Replica, synced_before: bool, several: bool
) -> None:
    first.delete("notes", "n")
    first.sync()
    late = begin()
    if synced_before:
        late.sync()
    late.patch("notes", "n", {"extra": 1}, upsert=True)
    if several:
        late.put("notes", "another", {"title": "more"})
    late.sync()
    first.sync()
    assert late.get("notes", "n") is None
    assert late.registers("notes", "n") == first.registers("notes", "n")


def test_a_write_that_loses_against_a_deleted_record_teaches_its_device_too(begin: Open, first: Replica) -> None:
    first.delete("notes", "n")
    first.sync()
    late = begin(wall=lambda: 1_000_000)
    late.sync()
    late.patch("notes", "n", {"title": "from 1970"}, upsert=True)
    assert late.sync().superseded == 1
    assert late.registers("notes", "n") == first.registers("notes", "n")


async def test_a_retried_write_to_a_deleted_record_is_a_duplicate(server: Server) -> None:
    async with Device(server, f"user-{uuid.uuid4()}") as device:
        put = device.change("c1", "r", "value")
        gone = {"changeId": "c2", "table": "items", "id": "r", "op": "delete", "deletedAt": device.clock()}
        edit = device.change("c3", "r", "edited")
        await device.send([put, gone])
        once = (await device.send([edit])).json()["results"][0]
        again = (await device.send([edit])).json()["results"][0]
        other = (await device.send([{**edit, "fields": {"value": {"value": "other", "at": device.clock()}}}])).json()
    assert (once["status"], again["status"], again["seq"]) == ("applied", "duplicate", once["seq"])
    assert other["results"][0]["code"] == "change_id_reused"
