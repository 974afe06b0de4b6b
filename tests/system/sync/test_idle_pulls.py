"""A pull of nothing new answers the cursor that it came with, and none that has news does, in however many spaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.compacting import ALL, compact_now
from tests.support.harness import Server
from tests.support.wire import Device, edit, unique

Make = Callable[..., Device]


class Several:
    """A device of Bob's, who is in spaces of Ann's, and has all that is in them."""

    def __init__(self, device: Make, count: int) -> None:
        self.ann, self.bob = (device(unique(name), app=unique("app")) for name in ("ann", "bob"))
        self.bob.app = self.ann.app
        self.spaces = [self.added() for _ in range(count)]
        self.bob.write(edit("own", v=1))
        self.cursor = self.bob.drain()[1]

    def added(self) -> str:
        space = self.ann.create(unique("space"))
        self.ann.write({**edit("r", v=1), "spaceId": space}, {**edit("gone", v=1), "spaceId": space})
        self.ann.member(space, self.bob.user)
        return space

    def news(self) -> Any:
        return self.bob.pull(self.cursor)


@pytest.fixture(params=[2, 7, 8, 30])
def several(request: pytest.FixtureRequest, device: Make) -> Several:
    return Several(device, request.param)


def test_nothing_new(several: Several) -> None:
    page = several.news()
    assert (page["serverChanges"], page["hasMore"], page["syncedUntil"]) == ([], False, several.cursor)
    assert not page["spaces"].get("joined")
    assert not page["spaces"].get("left")


@pytest.mark.parametrize("place", [0, -1])
def test_an_edit_in_one_of_them(several: Several, place: int) -> None:
    several.ann.write({**edit("r", 2, v=2), "spaceId": several.spaces[place]})
    assert [change["spaceId"] for change in several.news()["serverChanges"]] == [several.spaces[place]]


def test_a_space_that_was_left_and_another_that_was_joined_with_as_many_changes(several: Several) -> None:
    several.ann.remove(several.spaces[0], several.bob.user)
    joined = several.added()
    page = several.news()
    assert (page["spaces"]["left"], page["spaces"]["joined"]) == ([several.spaces[0]], [joined])
    assert {change["spaceId"] for change in page["serverChanges"]} == {joined}


def test_an_empty_space_that_was_left_and_another_that_was_joined(several: Several) -> None:
    empty, other = (several.ann.create(unique("empty")) for _ in range(2))
    several.ann.member(empty, several.bob.user)
    several.cursor = several.bob.drain(several.cursor)[1]
    several.ann.remove(empty, several.bob.user)
    several.ann.member(other, several.bob.user)
    page = several.news()
    assert page["spaces"]["left"] == [empty]
    several.cursor = page["syncedUntil"]
    several.ann.write({**edit("r", v=2), "spaceId": other})
    assert [change["spaceId"] for change in several.news()["serverChanges"]] == [other]


def test_a_space_that_was_left(several: Several) -> None:
    several.ann.remove(several.spaces[-1], several.bob.user)
    assert several.news()["spaces"]["left"] == [several.spaces[-1]]


def test_a_space_that_was_joined_before_others_were_made(several: Several, device: Make) -> None:
    early = several.ann.create(unique("early"))
    several.added()
    several.cursor = several.bob.drain(several.cursor)[1]
    several.ann.member(early, several.bob.user)
    page = several.news()
    assert page["spaces"]["joined"] == [early]
    several.cursor = page["syncedUntil"]
    assert several.news()["syncedUntil"] == several.cursor
    several.ann.write({**edit("r", 2, v=2), "spaceId": early})
    assert [change["spaceId"] for change in several.news()["serverChanges"]] == [early]


def test_the_first_record_of_an_app_in_a_space(several: Several) -> None:
    empty = several.ann.create(unique("empty"))
    several.ann.member(empty, several.bob.user)
    several.cursor = several.bob.drain(several.cursor)[1]
    assert several.news()["syncedUntil"] == several.cursor
    several.ann.write({**edit("r", v=2), "spaceId": empty})
    assert [change["spaceId"] for change in several.news()["serverChanges"]] == [empty]


def test_a_deletion_that_is_forgotten_before_it_was_told(several: Several, server: Server) -> None:
    space = several.spaces[0]
    deletion = {"table": "t", "id": "gone", "op": "delete", "deletedAt": edit("x", 5, v=1)["fields"]["v"]["at"]}
    several.ann.write({**deletion, "changeId": unique("d"), "spaceId": space})
    compact_now(server.owner_dsn, space, tombstones=ALL)
    answer = several.bob.ask(several.cursor)
    assert (answer.status_code, answer.json().get("code")) == (410, "cursor_lost")
