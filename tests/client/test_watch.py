"""What a program with threads is told of what waits, what was refused and what stands against each other."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest
from syncd_client import Replica

from tests.support.harness import Server


@pytest.fixture
def devices(server: Server, tmp_path: Path) -> Iterator[list[Replica]]:
    token = server.token(f"watcher-{random.getrandbits(60):x}")
    made = [Replica(tmp_path / f"{n}.db", app="app", url=server.url, token=token) for n in (1, 2)]
    yield made
    for replica in made:
        replica.close()


def until(said: Queue[int], wanted: int) -> None:
    """Takes what is told until it is this."""
    while said.get(timeout=60) != wanted:
        pass


def test_lists_are_told_at_once_and_when_they_change(devices: list[Replica]) -> None:
    one, other = devices
    one.put("t", "a", {"n": 1})
    one.sync()
    other.sync()
    other.patch("t", "a", {"n": 2})
    other.sync()
    with one.live() as live:
        waiting, refused, conflicts = Queue[int](), Queue[int](), Queue[int]()
        one.patch("t", "a", {"n": 3})  # perhaps over what it has not seen
        stops = [
            live.watch(one.pending, lambda found: waiting.put(len(found))),
            live.watch(one.rejected, lambda found: refused.put(len(found))),
            live.watch(one.conflicts, lambda found: conflicts.put(len(found))),
        ]
        assert (refused.get_nowait(), conflicts.qsize() > 0) == (0, True)
        until(waiting, 0)
        one.put("t", "b", {"n": 1}, space="not-there")
        until(waiting, 1)
        until(refused, 1)
        until(waiting, 0)
        [change] = one.rejected()
        one.drop(change.change_id)
        until(refused, 0)
        for stop in (*stops, *stops):
            stop()
        one.put("t", "c", {"n": 1})
        assert live.wait_until_synced(60)
    for told in (waiting, refused):
        with pytest.raises(Empty):
            told.get_nowait()


def test_a_conflict_that_is_cleared_is_told(devices: list[Replica]) -> None:
    one, other = devices
    one.put("t", "a", {"n": 1})
    one.sync()
    other.sync()
    one.patch("t", "a", {"n": 2})
    other.patch("t", "a", {"n": 3})
    one.sync()
    other.sync()
    assert len(other.conflicts()) == 1
    with other.live() as live:
        told = Queue[int]()
        live.watch(other.conflicts, lambda found: told.put(len(found)))
        assert told.get_nowait() == 1
        other.clear_conflicts()
        until(told, 0)


def test_what_a_first_read_raises_is_the_caller_s_and_leaves_nothing(devices: list[Replica]) -> None:
    one, _ = devices
    calls, threads = Queue[int](), set[threading.Thread]()

    def read() -> Any:
        calls.put(1)
        threads.add(threading.current_thread())
        raise ValueError("on purpose")

    with one.live() as live:
        with pytest.raises(ValueError, match="on purpose"):
            live.watch(read, print)
        one.put("t", "a", {"n": 1})
        assert live.wait_until_synced(60)
    assert (calls.qsize(), threads) == (1, {threading.current_thread()})
