"""Partial replicas on the wire: some spaces and tables, a choice that changes, and what is read then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.wire import Device, Json, at, edit, unique, values

Make = Callable[..., Device]


def put(device: Device, table: str, record: str, when: int, space: str | None = None, **fields: Any) -> None:
    device.write({**edit(record, when, **fields), "table": table, **({"spaceId": space} if space else {})})


def drop(device: Device, table: str, record: str, when: int, space: str | None = None) -> None:
    change = {"table": table, "id": record, "op": "delete", "deletedAt": at(when), "changeId": unique("k")}
    device.write({**change, **({"spaceId": space} if space else {})})


def ids(changes: list[Json]) -> list[str]:
    return sorted(change["id"] for change in changes)


@pytest.mark.parametrize("limit", [1, 1000])
def test_only_chosen_spaces_are_sent(device: Make, limit: int) -> None:
    ada = device(unique("ada"))
    red, blue = ada.create(unique("red")), ada.create(unique("blue"))
    put(ada, "t", "own", 1, n=1)
    put(ada, "t", "r", 1, red, n=1)
    put(ada, "t", "b", 1, blue, n=1)
    changes, cursor = ada.drain(spaces=[red], limit=limit)
    assert ids(changes) == ["r"]
    assert ids(ada.drain(spaces=[""], limit=limit)[0]) == ids(ada.drain(spaces=[f"_personal:{ada.user}"])[0]) == ["own"]
    put(ada, "t", "b2", 2, blue, n=1)
    put(ada, "t", "r2", 2, red, n=1)
    page = ada.pull(cursor, spaces=[red])
    assert ids(page["serverChanges"]) == ["r2"]
    assert page["spaces"] == {"joined": [], "left": [], "partial": True}


def test_where_nothing_is_new_nothing_is_read(device: Make) -> None:
    ada = device(unique("ada"))
    red, blue = ada.create(unique("red")), ada.create(unique("blue"))
    put(ada, "t", "r", 1, red, n=1)
    _, cursor = ada.drain(spaces=[red])
    put(ada, "t", "b", 1, blue, n=1)
    assert ada.pull(cursor, spaces=[red])["syncedUntil"] == cursor


def test_a_wider_choice_of_spaces_brings_the_new_one_alone(device: Make) -> None:
    ada = device(unique("ada"))
    red, blue = ada.create(unique("red")), ada.create(unique("blue"))
    put(ada, "t", "r", 1, red, n=1)
    put(ada, "t", "b", 1, blue, n=1)
    _, cursor = ada.drain(spaces=[red])
    page = ada.pull(cursor, spaces=[blue, red])
    assert ids(page["serverChanges"]) == ["b"]
    assert page["spaces"]["joined"] == [blue]
    assert ids(ada.drain(cursor)[0]) == ["b"]


def test_what_was_given_up_comes_again_whole(device: Make) -> None:
    ada = device(unique("ada"))
    red, blue = ada.create(unique("red")), ada.create(unique("blue"))
    put(ada, "t", "r", 1, red, n=1)
    put(ada, "t", "b", 1, blue, n=1)
    _, cursor = ada.drain()
    assert ids(ada.drain(cursor, knownSpaces=[red])[0]) == ["b"]
    narrow = ada.drain(cursor, spaces=[red])[1]
    drop(ada, "t", "b", 2, blue)
    put(ada, "t", "b3", 3, blue, n=3)
    assert values(ada.drain(narrow, knownSpaces=[red])[0]) == {"b3": {"n": 3}}


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_a_wider_choice_of_tables_brings_the_new_ones_alone(device: Make, limit: int) -> None:
    ada = device(unique("ada"))
    for n in range(8):
        put(ada, ("cards", "lists", "notes")[n % 3], f"r{n}", n + 1, n=n, m=n)
    changes, cursor = ada.drain(collection="cards", limit=limit)
    assert ids(changes) == ["r0", "r3", "r6"]
    put(ada, "lists", "r1", 50, n="new")
    drop(ada, "cards", "r0", 51)
    drop(ada, "lists", "r4", 52)
    put(ada, "notes", "r2", 53, n="other")
    first = ada.pull(cursor, collection="cards,lists", knownCollection="cards", limit=limit)
    rest, wide = [], first["syncedUntil"]
    if first["hasMore"]:
        rest, wide = ada.drain(first["syncedUntil"], collection="cards,lists", limit=limit)
    came = [*first["serverChanges"], *rest]
    assert set(ids(came)) == {"r0", "r1", "r4", "r7"}
    assert values([c for c in came if c["id"] == "r1"]) == {"r1": {"n": "new", "m": 1}}
    assert values(came).keys() == {"r1", "r7"}
    all_ = ada.pull(wide, knownCollection="cards,lists", limit=1000)
    assert set(ids(all_["serverChanges"])) == {"r2", "r5"}
    assert ada.drain(all_["syncedUntil"])[0] == []


def test_a_narrower_choice_of_tables_goes_on_from_its_cursor(device: Make) -> None:
    ada = device(unique("ada"))
    put(ada, "cards", "c", 1, n=1)
    put(ada, "lists", "l", 1, n=1)
    _, cursor = ada.drain()
    page = ada.pull(cursor, collection="cards", knownCollection="cards")
    assert page["serverChanges"] == []
    put(ada, "cards", "c2", 2, n=1)
    put(ada, "lists", "l2", 2, n=1)
    assert ids(ada.drain(page["syncedUntil"], collection="cards")[0]) == ["c2"]


def test_a_wider_choice_in_the_middle_of_a_first_sync_loses_nothing(device: Make) -> None:
    ada = device(unique("ada"))
    for n in range(6):
        put(ada, ("cards", "lists")[n % 2], f"r{n}", n + 1, n=n)
    page = ada.pull(collection="cards", limit=1)
    held = values(page["serverChanges"])
    gone = next(iter(held), "r4")
    drop(ada, "cards", gone, 50)
    changes = list(page["serverChanges"])
    page = ada.pull(page["syncedUntil"], collection="cards,lists", knownCollection="cards", limit=1)
    changes += page["serverChanges"]
    changes += ada.drain(page["syncedUntil"], collection="cards,lists", limit=1)[0]
    assert values(changes) == values(ada.drain()[0])


def test_a_chosen_space_that_was_left_is_told(device: Make) -> None:
    zoe, ada = device(unique("zoe")), device(unique("ada"))
    red, blue = zoe.create(unique("red")), zoe.create(unique("blue"))
    for space in (red, blue):
        zoe.member(space, ada.user)
        put(zoe, "t", "x", 1, space, n=1)
    _, cursor = ada.drain(spaces=[red])
    zoe.remove(blue, ada.user)
    zoe.remove(red, ada.user)
    assert ada.pull(cursor, spaces=[red])["spaces"]["left"] == [red]


def test_a_space_that_is_not_the_users_is_not_sent_whatever_is_chosen(device: Make) -> None:
    zoe, ada = device(unique("zoe")), device(unique("ada"))
    red = zoe.create(unique("red"))
    put(zoe, "t", "x", 1, red, n=1)
    page = ada.pull(spaces=[red, f"_personal:{zoe.user}"], knownSpaces=[red])
    assert page["serverChanges"] == []
    assert page["spaces"]["joined"] == []


def test_who_chooses_nothing_is_told_nothing(device: Make) -> None:
    assert "partial" not in device(unique("ada")).pull()["spaces"]


@pytest.mark.parametrize("name", ["spaces", "knownSpaces", "knownCollection"])
def test_a_choice_has_bounds(device: Make, name: str) -> None:
    ada = device(unique("ada"))
    many = ada.ask(**{name: [f"s{n}" for n in range(101)]})
    assert (many.status_code, many.json()["errors"][0]["pointer"]) == (400, f"/{name}")
    bad = ada.ask(**{name: ["a\u0001b"]})
    assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (400, f"/{name}")
    long = ada.ask(**{name: ["x" * 256]})
    assert (long.status_code, long.json()["errors"][0]["pointer"]) == (400, f"/{name}")


def test_the_first_generation_sees_what_it_saw(device: Make) -> None:
    user = unique("ada")
    ada, old = device(user), device(user, "old", legacy=True)
    red = ada.create(unique("red"))
    put(ada, "t", "r", 1, red, n=1)
    put(ada, "t", "own", 1, n=1)
    page = old.pull(spaces=[red], knownSpaces=[red], knownCollection="x")
    assert ids(page["serverChanges"]) == ["own", "r"]
    assert "partial" not in page.get("spaces", {})
