"""Undo and what of the history is refused before it is asked for, without a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from syncd_client import (
    HttpSender,
    InvalidQuery,
    Replica,
    history,
    spaces,
)

from tests.support.replicas import values


@pytest.fixture
def offline(tmp_path: Path) -> Iterator[Replica]:
    with Replica(tmp_path / "offline.db", app="app", durability="normal") as replica:
        yield replica


def test_undo_takes_the_last_write_back_and_again_is_a_redo(offline: Replica) -> None:
    assert offline.undo() == []
    offline.put("t", "r", {"x": 1, "y": 1})
    offline.patch("t", "r", {"x": 2, "z": 2})
    for _ in range(2):
        assert len(offline.undo()) == 1
        assert values(offline) == {"x": 1, "y": 1}
        offline.undo()
        assert values(offline) == {"x": 2, "y": 1, "z": 2}


def test_undo_takes_a_whole_batch_back(offline: Replica) -> None:
    offline.put("t", "edited", {"x": 1})
    offline.put("t", "dropped", {"x": 1})
    offline.put("t", "gone", {"x": 1})
    offline.delete("t", "gone")
    with offline.batch() as batch:
        batch.put("t", "new", {"x": 1})
        batch.patch("t", "edited", {"x": 2})
        batch.patch("t", "edited", {"x": 3})
        batch.delete("t", "dropped")
        batch.put("t", "gone", {"x": 2})
    before = {"edited": {"x": 1}, "dropped": {"x": 1}, "gone": None, "new": None}
    after = {"edited": {"x": 3}, "dropped": None, "gone": {"x": 2}, "new": {"x": 1}}
    for expected in (before, after, before):
        changes = offline.undo()
        assert {name: values(offline, name) for name in expected} == expected
        assert len({queued.batch for queued in offline.pending() if queued.change_id in changes}) == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda one: history.record_at(one, "t", "..", seq=1),
        lambda one: history.record_at(one, "..", "pull"),
        lambda one: next(history.changes(one, "..", ".")),
        lambda one: history.restore(one, "..", "..", 1),
        lambda one: history.restore(one, "t", "..", 1),
        lambda one: next(history.space_at(one, space="..", seq=1)),
        lambda one: history.restore_space(one, space=".", seq=1),
        lambda one: history.revert(one, {"agent": "a"}, space=".."),
        lambda one: history.record_at(one, "t", "r", at="\ud800"),
        lambda one: history.record_at(one, "t", "r", space="\ud800"),
        lambda one: next(history.space_at(one, space="s", at="\ud800")),
        lambda one: spaces.create_space(one, "\ud800"),
        lambda one: spaces.create_space(one, "s", "\ud800"),
        lambda one: spaces.put_member(one, "s", "u", "\ud800"),
    ],
)
def test_what_an_address_would_lose_is_refused_before_it_is_asked(
    tmp_path: Path, ask: Callable[[Replica], object]
) -> None:
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(404)

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    with Replica(tmp_path / "one.db", app="app", url="http://server", token="t", send=HttpSender(http)) as one:
        one.put("t", "r", {"n": 1})
        with pytest.raises(InvalidQuery):
            ask(one)
    assert asked == []
