"""Writes to records that this device does not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from syncd_client import AsyncReplica, NoSuchRecord, Replica

from tests.support.scripted import Script, page, wire

WRITES: dict[str, Callable[..., Any]] = {
    "patch": lambda to, **how: to.patch("t", "r", {"n": 1}, **how),
    "delete": lambda to, **how: to.delete("t", "r", **how),
    "undelete": lambda to, **how: to.undelete("t", "r", **how),
}
each = pytest.mark.parametrize("write", WRITES.values(), ids=list(WRITES))


@each
def test_it_is_told_and_nothing_is_written(replica: Replica, write: Callable[..., Any]) -> None:
    replica.put("t", "r", {"n": 0}, space="elsewhere")
    with pytest.raises(NoSuchRecord, match="'r'"):
        write(replica)
    with pytest.raises(NoSuchRecord):
        write(replica.in_("another"))
    assert (len(replica.pending()), len(replica.all_registers())) == (1, 1)


@each
def test_with_upsert_it_is_written_all_the_same(replica: Replica, write: Callable[..., Any]) -> None:
    assert replica.pending() == []
    assert [change.change_id for change in replica.pending()] == []
    change_id = write(replica, upsert=True)
    assert [change.change_id for change in replica.pending()] == [change_id]
    write(replica.in_("s"), upsert=True)
    assert len(replica.all_registers()) == 2


@each
def test_a_batch_with_one_is_not_written(replica: Replica, write: Callable[..., Any]) -> None:
    def attempt() -> None:
        with replica.batch() as batch:
            batch.put("t", "other", {"n": 1})
            write(batch)

    with pytest.raises(NoSuchRecord):
        attempt()
    assert replica.all_registers() == {}
    with replica.batch() as batch:
        write(batch, upsert=True)
    assert len(replica.pending()) == 1


@each
def test_what_the_batch_has_put_before_is_there(replica: Replica, write: Callable[..., Any]) -> None:
    with replica.batch() as batch:
        batch.put("t", "r", {"n": 0})
        write(batch)
        batch.patch("t", "r", {"m": 1})
    assert len(batch.change_ids) == 3


def test_what_is_deleted_is_there(replica: Replica) -> None:
    replica.put("t", "r", {"n": 0})
    replica.delete("t", "r")
    replica.delete("t", "r")
    replica.patch("t", "r", {"n": 1})
    assert replica.get("t", "r") is None
    replica.undelete("t", "r")
    assert replica.get("t", "r") == {"n": 1}


def test_it_is_there_once_it_is_replicated_and_not_when_its_space_was_left(replica: Replica, script: Script) -> None:
    with pytest.raises(NoSuchRecord):
        replica.patch("t", "r", {"m": 1}, space="s")
    script.answers = [page(wire("r", space="s", n=(1, "2026-01-01T10:00:00.000000Z")), spaces={"joined": ["s"]})]
    replica.pull()
    replica.patch("t", "r", {"m": 1}, space="s")
    assert replica.get("t", "r", space="s") == {"n": 1, "m": 1}
    script.answers = [page(spaces={"left": ["s"]}, cursor="c2")]
    replica.pull()
    with pytest.raises(NoSuchRecord):
        replica.patch("t", "r", {"m": 2}, space="s")


def test_a_put_that_is_taken_back_or_dropped_leaves_none(replica: Replica) -> None:
    replica.put("t", "r", {"n": 1})
    replica.undo()
    replica.patch("t", "r", {"n": 2})  # it is deleted
    assert replica.undo() != []


async def test_an_async_replica_tells_it_too(tmp_path: Any) -> None:
    async with AsyncReplica(tmp_path / "replica.db", app="app") as replica:
        for to in (replica, replica.in_("s")):
            for write in WRITES.values():
                with pytest.raises(NoSuchRecord):
                    await write(to)
        async with replica.batch() as batch:
            batch.put("t", "r", {"n": 0})
            batch.patch("t", "r", {"n": 1})
        await replica.in_("s").patch("t", "r", {"n": 1}, upsert=True)
        assert await replica.in_("s").get("t", "r") == {"n": 1}
        await replica.in_("s").update("t", "r", lambda record: {"n": record["n"] + 1})
        await replica.in_("s").delete("t", "r")
        await replica.in_("s").undelete("t", "r")
        assert await replica.in_("s").query("t") == [{"n": 2}]
