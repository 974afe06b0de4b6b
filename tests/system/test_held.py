"""G19: what the first generation pushes and may not be written is held, and written by itself, once, when it may be."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.wire import Device, Json, at, edit, unique

Make = Callable[..., Device]
PATIENCE = 60.0


@pytest.fixture
def old(device: Make) -> Device:
    """A device of the first generation."""
    return device(unique("old"), legacy=True)


def change(record: str, space: str | None = None, when: int = 1, **values: Any) -> Json:
    """An update of the first generation: without a change id."""
    named = {} if space is None else {"spaceId": space}
    return {**edit(record, when, change_id=None, **values), **named}


def held(old: Device, **query: Any) -> list[Json]:
    """What is held of the device's user."""
    answer = old.request("GET", f"/sync/{old.app}/held", params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["held"])


def reasons(old: Device) -> list[str]:
    return [row["reason"] for row in held(old)]


def outcomes(answer: Any) -> list[str]:
    """Of each change its status, or the code of what was refused and is held."""
    for result in answer["results"]:
        assert result.get("held", False) == (result["status"] == "rejected"), result
    return [result.get("code", result["status"]) for result in answer["results"]]


def until_written(old: Device, left: int = 0) -> None:
    """Waits until so many are held."""
    deadline = time.monotonic() + PATIENCE
    while len(held(old)) > left:
        assert time.monotonic() < deadline, held(old)
        time.sleep(0.05)


def log_of(reader: Device, space: str) -> list[Json]:
    return [change for change in reader.drain(history=1)[0] if change["spaceId"] == space]


class TestASpaceThatNobodyHasHeardOf:
    def test_the_change_is_held_with_the_rest_written_and_applied_when_the_space_comes_to_be(
        self, old: Device, device: Make
    ) -> None:
        space = unique("space")
        answer = old.push(change("r", space, when=5, n=1), change("s", n=2))
        assert outcomes(answer) == ["space_not_found", "applied"]
        [row] = held(old)
        assert (row["reason"], row["spaceId"], row["table"], row["id"]) == ("space_not_found", space, "t", "r")
        assert row["change"] == change("r", space, when=5, n=1)
        assert row["clientId"] == old.client
        old.create(space)
        until_written(old)
        [written] = log_of(device(old.user, "another"), space)
        assert (written["id"], written["clientId"], written["op"]) == ("r", old.client, "update")
        assert written["fields"] == {"n": {"value": 1, "at": at(5)}}

    def test_a_retry_is_held_once_and_found_when_it_was_written(self, old: Device, device: Make) -> None:
        space = unique("space")
        changes = [change("r", space, n=1), change("r", space, when=2, n=2), change("r", space, n=1)]
        for _ in range(3):
            assert outcomes(old.push(*changes)) == ["space_not_found"] * 3
        assert len(held(old)) == 2
        old.create(space)
        until_written(old)
        assert outcomes(old.push(*changes)) == ["duplicate"] * 3
        assert [row["fields"]["n"]["value"] for row in log_of(old, space)] == [1, 2]
