"""G21: an overwrite of what its writer had not seen is told to both, by the Python client and the real server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from syncd_client import Conflict, HttpRequest, HttpResponse, Replica

from tests.client.test_against_server import device, space, user  # noqa: F401 (fixtures)

NOON = 1_767_268_800_000_000
Device = Callable[..., Replica]


class Wall:
    """A clock that a test sets, in seconds after noon."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return NOON + self.now * 1_000_000


class Two:
    """Ada's and Bob's devices, which know one record and have no conflict."""

    def __init__(self, open_device: Device) -> None:
        self.wall = Wall()
        self.ada, self.bob = (open_device(name, client_id=name, wall=self.wall) for name in ("ada", "bob"))
        self.ada.put("items", "tea", {"name": "Tea", "price": 3, "stock": 1})
        self.ada.sync()
        self.bob.sync()

    def at(self, seconds: int, write: Callable[[], Any]) -> None:
        self.wall.now = seconds
        write()

    def exchange(self, *order: Replica) -> None:
        for replica in order:
            replica.sync()

    def told(self) -> list[list[tuple[Any, ...]]]:
        """What each of them is told, and again is not."""
        said = [[brief(conflict) for conflict in replica.conflicts()] for replica in (self.ada, self.bob)]
        self.exchange(self.ada, self.bob, self.ada)
        assert said == [[brief(conflict) for conflict in replica.conflicts()] for replica in (self.ada, self.bob)]
        assert self.ada.get("items", "tea") == self.bob.get("items", "tea")
        return said


def brief(conflict: Conflict) -> tuple[Any, ...]:
    return conflict.kind, conflict.field, conflict.mine, conflict.theirs, conflict.by


@pytest.fixture
def two(device: Device) -> Two:  # noqa: F811
    return Two(device)


def test_a_later_edit_that_arrives_later_is_told_to_both(two: Two) -> None:
    two.at(10, lambda: two.ada.patch("items", "tea", {"price": 4, "stock": 2}))
    two.at(20, lambda: two.bob.patch("items", "tea", {"price": 5, "name": "Green tea"}))
    two.exchange(two.ada, two.bob, two.ada)
    assert two.told() == [[("overwritten", "price", 4, 5, "bob")], [("overwrote", "price", 5, 4, "ada")]]


def test_one_that_lost_is_told_as_ever(two: Two) -> None:
    two.at(10, lambda: two.bob.patch("items", "tea", {"price": 5}))
    two.at(20, lambda: two.ada.patch("items", "tea", {"price": 4}))
    two.exchange(two.ada, two.bob)
    assert two.told()[1] == [("lost", "price", 5, 4, "ada")]


def test_what_was_seen_and_what_is_equal_are_no_conflict(two: Two) -> None:
    two.at(10, lambda: two.ada.patch("items", "tea", {"price": 4, "stock": 7}))
    two.exchange(two.ada)
    two.at(20, lambda: two.bob.patch("items", "tea", {"stock": 7}))
    two.exchange(two.bob, two.ada)
    two.at(30, lambda: two.bob.patch("items", "tea", {"price": 5}))  # it has seen 4 by now
    two.at(40, lambda: two.bob.patch("items", "tea", {"price": 6}))
    two.exchange(two.bob, two.ada)
    two.at(50, lambda: two.ada.put("items", "tea", {"price": 7, "stock": 8}))
    two.exchange(two.ada, two.bob)
    assert two.told() == [[], []]


def test_edits_upon_edits_are_told_once(two: Two) -> None:
    two.at(10, lambda: two.ada.patch("items", "tea", {"price": 4}))
    for price in (5, 6, 7):
        two.at(20 + price, lambda price=price: two.bob.patch("items", "tea", {"price": price}))  # type: ignore[misc]
    two.exchange(two.ada, two.bob, two.ada)
    assert two.told() == [[("overwritten", "price", 4, 5, "bob")], [("overwrote", "price", 5, 4, "ada")]]


def test_a_lost_answer_hides_nothing(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server said once it says no more: the log says it."""
    two.at(10, lambda: two.ada.patch("items", "tea", {"price": 4}))
    two.at(20, lambda: two.bob.patch("items", "tea", {"price": 5}))
    two.exchange(two.ada)
    lost = list[HttpResponse]()

    def lose_one(request: HttpRequest) -> HttpResponse:
        answer = send(request)
        if request.method == "POST" and not lost:
            lost.append(answer)
            raise EOFError
        return answer

    send = two.bob.server.send
    with monkeypatch.context() as patch:
        patch.setattr(two.bob.server, "send", lose_one)
        with pytest.raises(EOFError):
            two.bob.sync()
    two.exchange(two.bob, two.ada)
    assert two.told() == [[("overwritten", "price", 4, 5, "bob")], [("overwrote", "price", 5, 4, "ada")]]


@pytest.mark.parametrize("edited", [10, 30], ids=["before it", "after it"])
@pytest.mark.parametrize("heard", [False, True], ids=["pushed first", "heard of it first"])
def test_an_edit_of_what_was_deleted_is_told(two: Two, edited: int, heard: bool) -> None:
    two.at(20, lambda: two.ada.delete("items", "tea"))
    two.at(edited, lambda: two.bob.patch("items", "tea", {"price": 5}))
    two.at(edited + 1, lambda: two.bob.patch("items", "tea", {"stock": 6}))
    two.exchange(two.ada)
    if heard:
        two.bob.pull()
    two.exchange(two.bob)
    ((kind, field, mine, theirs, by),) = two.told()[1]
    assert (kind, field, mine, by) == ("deleted", "deletedAt", {"price": 5, "stock": 6}, "ada")
    assert theirs.startswith("2026-01-01T12:00:20")


def test_a_deletion_that_somebody_takes_back_is_told(two: Two) -> None:
    two.at(10, lambda: two.ada.delete("items", "tea"))
    two.at(20, lambda: two.bob.put("items", "tea", {"price": 5}))
    two.exchange(two.ada, two.bob, two.ada)
    ada, bob = two.told()
    assert [(kind, field, by) for kind, field, _, _, by in ada] == [("overwritten", "deletedAt", "bob")]
    assert [(kind, field, by) for kind, field, _, _, by in bob] == [("overwrote", "deletedAt", "ada")]


def test_two_deletions_are_none(two: Two) -> None:
    two.at(10, lambda: two.ada.delete("items", "tea"))
    two.at(20, lambda: two.bob.delete("items", "tea"))
    two.exchange(two.ada, two.bob, two.ada)
    assert two.told() == [[], []]


def test_they_are_kept_until_they_are_dismissed(two: Two) -> None:
    two.at(10, lambda: two.ada.patch("items", "tea", {"price": 4, "stock": 4}))
    two.at(20, lambda: two.bob.patch("items", "tea", {"price": 5, "stock": 5}))
    two.exchange(two.ada, two.bob)
    first, second = two.bob.conflicts()
    two.bob.clear_conflicts(first)
    assert two.bob.conflicts() == [second]
    two.bob.clear_conflicts()
    assert two.bob.conflicts() == []


def test_live_both_hear_of_it(two: Two) -> None:
    heard: dict[str, list[Any]] = {"ada": [], "bob": []}
    all_told = threading.Event()

    def told(name: str) -> Callable[[Any], None]:
        def take(event: Any) -> None:
            if isinstance(event, Conflict):
                heard[name].append(brief(event))
                if all(heard.values()):
                    all_told.set()

        return take

    two.at(10, lambda: two.ada.patch("items", "tea", {"price": 4}))
    two.at(20, lambda: two.bob.patch("items", "tea", {"price": 5}))
    two.exchange(two.ada)
    with two.ada.live(on_event=told("ada")), two.bob.live(on_event=told("bob")):
        assert all_told.wait(20)
    assert heard == {"ada": [("overwritten", "price", 4, 5, "bob")], "bob": [("overwrote", "price", 5, 4, "ada")]}


def test_live_an_edit_of_what_was_deleted_is_told(two: Two) -> None:
    heard = threading.Event()
    two.at(20, lambda: two.ada.delete("items", "tea"))
    two.at(30, lambda: two.bob.patch("items", "tea", {"price": 5}))
    two.exchange(two.ada)
    with two.bob.live(on_event=lambda event: heard.set() if isinstance(event, Conflict) else None):
        assert heard.wait(20)
    assert [brief(conflict)[:3] for conflict in two.bob.conflicts()] == [("deleted", "deletedAt", {"price": 5})]
