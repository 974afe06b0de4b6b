"""G21: an overwrite of what its writer had not seen is told to both writers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.wire import Device, Json, at, edit, unique

Make = Callable[..., Device]


class Two:
    """Ada's and Bob's devices, of one user, who begin with what is there."""

    def __init__(self, device: Make, **more: Any) -> None:
        user = unique("over")
        self.ada, self.bob, self.new = (device(user, name, **more) for name in ("ada", "bob", "new"))

    def wrote(self, *changes: Json) -> str:
        """Ada writes, and reads on from there."""
        self.ada.write(*changes)
        return self.ada.drain()[1]

    def results(self, changes: list[Json], together: bool) -> list[Json]:
        """Bob's changes, in one push or each in its own."""
        pushes = [changes] if together else [[change] for change in changes]
        return [result for push in pushes for result in self.bob.push(*push)["results"]]


def delete(device: Device, when: int) -> Json:
    change = {"table": "t", "id": "r", "op": "delete", "changeId": f"d{when}", "deletedAt": at(when)}
    (result,) = device.push(change, bases=True)["results"]
    return result


def over(record: str, when: int, seen: int | None = None, **values: Any) -> Json:
    """An edit by a writer who had seen what was written at `seen`."""
    change = edit(record, when, **values)
    for register in change["fields"].values():
        register["base"] = None if seen is None else at(seen)
    return change


def fields(device: Device, since: str) -> list[Json]:
    return [change["fields"] for change in device.drain(since)[0]]


@pytest.mark.parametrize("known", [False, True], ids=["a new device", "a known one"])
def test_the_writer_is_told_and_the_log_says_it(device: Make, known: bool) -> None:
    two = Two(device)
    if known:  # whose push of one change goes a way of its own
        two.bob.write(edit("another", 1, x=0))
    since = two.wrote(edit("r", 10, x="ada's", y=1))
    (result,) = two.bob.push(over("r", 20, x="bob's", z=2))["results"]
    assert result["overwrote"] == [{"field": "x", "value": "ada's", "by": "ada", "at": at(10)}]
    assert fields(two.ada, since)[0] == {
        "x": {"value": "bob's", "at": at(20), "base": None}, "z": {"value": 2, "at": at(20)},
    }  # fmt: skip
    assert "base" not in str(fields(two.new, "")), "the state has none"


def test_a_push_that_says_so_need_not_say_it_of_each(device: Make) -> None:
    two = Two(device)
    two.ada.write(edit("r", 10, x="ada's"), edit("own", 10, x=0))
    answer = two.bob.push(edit("r", 20, x="bob's"), edit("new", 20, x=1), bases=True)
    assert [result.get("overwrote", []) for result in answer["results"]] == [
        [{"field": "x", "value": "ada's", "by": "ada", "at": at(10)}],
        [],
    ]
    assert "overwrote" not in str(two.bob.push(edit("r", 30, x="bob's again"), bases=True)), "one's own"


def test_what_was_seen_the_same_and_what_nobody_speaks_of_are_none(device: Make) -> None:
    two = Two(device)
    first = [edit(record, 10, x={"a": [1]}) for record in ("seen", "same", "silent")]
    since = two.wrote(*first, edit("later", 30, x=1))
    answer = two.bob.push(
        over("seen", 20, 10, x=2), over("same", 20, x={"a": [1.0]}), edit("silent", 20, x=2), over("later", 20, x=2)
    )
    assert "overwrote" not in str(answer["results"])
    assert [(conflict["id"], conflict["by"]) for conflict in answer["conflicts"]] == [("later", "ada")]
    assert "base" not in str(fields(two.ada, since))


@pytest.mark.parametrize("together", [False, True], ids=["apart", "in one push"])
def test_a_later_write_of_the_same_push_overwrites_ones_own(device: Make, together: bool) -> None:
    two = Two(device)
    since = two.wrote(edit("r", 15, x="ada's", y="ada's"))
    changes = [over("r", 10, x="lost"), over("r", 20, x="bob's"), over("r", 30, x="bob's again", y="bob's")]
    results = two.results(changes, together)
    assert [[item["field"] for item in result.get("overwrote", [])] for result in results] == [[], ["x"], ["y"]]
    written = fields(two.ada, since)
    assert [{name: "base" in register for name, register in said.items()} for said in written] == [
        {"x": True}, {"x": False, "y": True},
    ]  # fmt: skip


@pytest.mark.parametrize("together", [False, True], ids=["apart", "in one push"])
def test_an_edit_of_a_deleted_record_is_told_of_the_deletion(device: Make, together: bool) -> None:
    two = Two(device)
    two.ada.write(edit("r", 10, x=1))
    delete(two.ada, 20)
    told = [{"field": "deletedAt", "value": at(20), "by": "ada", "at": at(20)}]
    for before in (15, 25):  # whether it is from before the deletion or from after it
        changes = [over("r", before, y=before), over("r", before + 1, y=before + 1)]
        results = two.results(changes, together)
        assert [result.get("overwrote") for result in results] == [told, told]
    assert "overwrote" not in str(two.ada.push(over("r", 40, x=3))["results"]), "by who deleted it"
    (back,) = two.bob.push(over("r", 50, deletedAt=None))["results"]
    assert back["overwrote"] == told
    gone = delete(two.ada, 60)
    assert gone["overwrote"] == [{"field": "deletedAt", "value": None, "by": "bob", "at": at(50)}]
    assert "overwrote" not in delete(two.bob, 70), "both say that it is deleted"


def test_the_first_generation_sees_what_it_saw(device: Make) -> None:
    user = unique("over")
    ada, bob, old = device(user, "ada"), device(user, "bob"), device(user, "old", legacy=True)
    since = old.pull("")["syncedUntil"]
    ada.write(edit("r", 10, x="ada's"))
    bob.push(over("r", 20, x="bob's"))
    assert "base" not in str(old.drain(since)[0])
    answer = old.push(over("r", 30, x="old's"), over("r", 15, x="lost"))
    assert "overwrote" not in str(answer)
    assert "by" not in answer["conflicts"][0]


def test_in_a_group_of_pushes_it_is_told_as_alone(device: Make) -> None:
    """Pushes that come at once are written together."""
    user = unique("over")
    ada, devices = device(user, "ada"), [device(user, f"bob{n}") for n in range(24)]
    ada.write(*(edit(f"r{n}", 10, x="ada's") for n in range(len(devices))))
    with ThreadPoolExecutor(len(devices)) as pool:
        changes = [over(f"r{n}", 20, None if n % 2 else 10, x=n) for n in range(len(devices))]
        answers = list(pool.map(Device.push, devices, changes))
    told = [[item["by"] for item in answer["results"][0].get("overwrote", [])] for answer in answers]
    assert told == [["ada"] if n % 2 else [] for n in range(len(devices))]


def test_an_export_keeps_it(device: Make) -> None:
    two = Two(device)
    two.ada.write(edit("r", 10, x="ada's", y=1), edit("r", 25, y=2))
    two.bob.write(over("r", 20, x="bob's"))
    lines = two.ada.request("GET", "/backup/export").text.splitlines()
    assert sum('"base":null' in line for line in lines) == 1
