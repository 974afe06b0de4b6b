"""Writes that are made of what was read, alone on the device; and handles of one space."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from syncd_client import AsyncReplica, InvalidQuery, InvalidWrite, NoSuchRecord, Record, Replica

Open = Callable[..., Replica]


def one_more(record: Record) -> dict[str, int]:
    return {"n": record["n"] + 1}


def test_updates_at_once_all_count(open_replica: Open) -> None:
    replicas = [open_replica(), open_replica()]  # of one file, as two processes are
    replicas[0].put("t", "r", {"n": 0, "other": 1})
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda n: replicas[n % 2].update("t", "r", one_more), range(20)))
    assert replicas[0].get("t", "r") == {"n": 20, "other": 1}


def test_what_a_batch_reads_stands_until_it_is_written(open_replica: Open) -> None:
    replicas = [open_replica(), open_replica()]
    for name in ("a", "b"):
        replicas[0].put("t", name, {"n": 50})

    def move(turn: int) -> None:
        with replicas[turn % 2].batch() as batch:
            a, b = batch.get("t", "a"), batch.get("t", "b")
            assert a is not None
            assert b is not None
            assert a["n"] + b["n"] == 100
            batch.patch("t", "a", {"n": a["n"] - 1})
            batch.patch("t", "b", {"n": b["n"] + 1})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(move, range(16)))
    assert [replicas[0].get("t", name) for name in ("a", "b")] == [{"n": 34}, {"n": 66}]
    assert len(replicas[0].undo() or replicas[1].undo()) == 2


def test_a_batch_that_fails_after_it_has_read_leaves_no_trace(replica: Replica) -> None:
    replica.put("t", "r", {"n": 0})

    def fail() -> None:
        with replica.batch() as batch:
            batch.patch("t", "r", {"n": 1})
            assert batch.get("t", "r") == {"n": 0}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert replica.get("t", "r") == {"n": 0}
    replica.update("t", "r", one_more)
    assert replica.get("t", "r") == {"n": 1}


def test_what_is_not_there_cannot_be_updated(replica: Replica) -> None:
    with pytest.raises(NoSuchRecord, match="'r'"):
        replica.update("t", "r", one_more)
    with replica.batch() as batch:
        assert batch.get("t", "r") is None
    with pytest.raises(InvalidQuery):
        replica.new_batch().get("t", "r")
    assert replica.pending() == []


async def test_an_async_replica_updates_too(tmp_path: Path) -> None:
    async with AsyncReplica(tmp_path / "replica.db", app="app") as replica:
        await replica.put("t", "r", {"n": 0})
        await asyncio.gather(*(replica.update("t", "r", one_more) for _ in range(10)))
        assert await replica.get("t", "r") == {"n": 10}


def test_a_handle_names_its_space_everywhere(replica: Replica) -> None:
    north = replica.in_("north")
    north.put("t", "r", {"n": 1})
    north.patch("t", "r", {"m": 1})
    north.update("t", "r", one_more)
    assert (north.get("t", "r"), replica.get("t", "r")) == ({"n": 2, "m": 1}, None)
    assert north.query("t", {"n": 2}) == [replica.get("t", "r", space="north")]
    north.delete("t", "r")
    assert north.get("t", "r") is None
    north.undelete("t", "r")
    assert north.get("t", "r", deleted=True) == {"n": 2, "m": 1}
    assert {change.space for change in replica.pending()} == {"north"}
    with pytest.raises(InvalidWrite):
        replica.in_("..")
