"""Partial replicas on the wire: some spaces and tables, a choice that changes, and what is read then."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.drawn import drawn, examples
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


def test_of_many_spaces_known_tables_bring_what_was_written_to_them(device: Make) -> None:
    """Small feeds are read together: of known tables what was written since has to come besides the new ones."""
    ada = device(unique("ada"))
    spaces = [ada.create(unique("space")) for _ in range(9)]
    for space in spaces:
        put(ada, "cards", "c", 1, space, n=1)
        put(ada, "cards", "gone", 1, space, n=1)
        put(ada, "lists", "l", 2, space, n=1)
    _, cursor = ada.drain(collection="cards")
    for space in spaces:
        put(ada, "cards", "c", 5, space, n=2)
        drop(ada, "cards", "gone", 6, space)
    page = ada.pull(cursor, collection="cards,lists", knownCollection="cards")
    came = page["serverChanges"] + ada.drain(page["syncedUntil"], collection="cards,lists")[0]
    assert ids(came) == sorted(["c", "gone", "l"] * 9)
    assert values(came) == {"c": {"n": 2}, "l": {"n": 1}}


def test_with_the_history_known_tables_bring_each_change(device: Make) -> None:
    ada = device(unique("ada"))
    put(ada, "cards", "c", 1, n=1)
    put(ada, "lists", "l", 1, n=1)
    _, cursor = ada.drain(collection="cards", history=1)
    for n in range(2, 6):
        put(ada, "cards", "c", n, n=n)
    changes, _ = ada.drain(cursor, collection="cards,lists", knownCollection="cards", history=1)
    assert [c["fields"]["n"]["value"] for c in changes if c["table"] == "cards"][-4:] == [2, 3, 4, 5]
    assert "l" in ids(changes)


def test_a_personal_space_that_is_named_twice_is_chosen_once(device: Make) -> None:
    ada = device(unique("ada"))
    put(ada, "t", "own", 1, n=1)
    both = ["", f"_personal:{ada.user}"]
    _, cursor = ada.drain(spaces=both)
    assert ada.pull(cursor, spaces=both)["syncedUntil"] == cursor


def test_a_space_leaves_the_cursor_also_where_nothing_is_new(device: Make) -> None:
    ada = device(unique("ada"))
    red, blue = ada.create(unique("red")), ada.create(unique("blue"))
    put(ada, "t", "r", 1, red, n=1)
    put(ada, "t", "b", 1, blue, n=1)
    _, whole = ada.drain()
    for choice in ({"spaces": [red]}, {"spaces": [red], "knownSpaces": [red]}):
        page = ada.pull(whole, **choice)
        assert page["serverChanges"] == []
        assert ids(ada.pull(page["syncedUntil"], spaces=[red, blue])["serverChanges"]) == ["b"]


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


def test_no_known_table_is_not_all_of_them(device: Make) -> None:
    none = device(unique("ada")).ask(knownCollection="")
    assert (none.status_code, none.json()["errors"][0]["pointer"]) == (400, "/knownCollection")


def test_the_first_generation_sees_what_it_saw(device: Make) -> None:
    user = unique("ada")
    ada, old = device(user), device(user, "old", legacy=True)
    red = ada.create(unique("red"))
    put(ada, "t", "r", 1, red, n=1)
    put(ada, "t", "own", 1, n=1)
    page = old.pull(spaces=[red], knownSpaces=[red], knownCollection="x")
    assert ids(page["serverChanges"]) == ["own", "r"]
    assert "partial" not in page.get("spaces", {})


Key = tuple[str, str, str]
TABLES = ("cards", "lists", "notes")


class Part:
    """A device that keeps what it chooses, and says with its next pull what it has of what it had. `held`: the values
    of records by space, table and id; `kept`: the spaces and tables that its cursor is for."""

    def __init__(self, device: Device, spaces: list[str], chance: random.Random) -> None:
        self.device, self.all, self.chance = device, spaces, chance
        self.since, self.more = "", True
        self.held: dict[Key, Json] = {}
        self.kept = self.wanted = self.some()
        self.first = chance.choice([{}, {"first": chance.choice(TABLES)}])

    def some(self) -> tuple[set[str], set[str]]:
        """Some spaces and tables, often all."""
        parts = []
        for names in (self.all, list(TABLES)):
            parts.append(set(names if self.chance.random() < 0.4 else self.chance.sample(names, len(names) // 2 + 1)))
        return parts[0], parts[1]

    def choose(self) -> None:
        """Another choice: what is not in it is given up."""
        self.wanted = self.some()
        self.kept = self.kept[0] & self.wanted[0], self.kept[1] & self.wanted[1]
        self.held = {
            key: fields for key, fields in self.held.items() if key[0] in self.kept[0] and key[1] in self.kept[1]
        }

    def read(self, limit: int) -> None:
        """One page. A device that has nothing of what its cursor is for begins again."""
        if not (self.kept[0] and self.kept[1]):
            self.since, self.held = "", {}
        known = {} if not self.since else {"knownSpaces": sorted(self.kept[0]), "knownCollection": sorted(self.kept[1])}
        wanted = {"spaces": sorted(self.wanted[0]), "collection": sorted(self.wanted[1])}
        page = self.device.pull(self.since, limit=limit, **wanted, **known, **self.first)
        for change in page["serverChanges"]:
            assert change["spaceId"] in self.wanted[0]
            assert change["table"] in self.wanted[1]
        take(self.held, page["serverChanges"])
        self.since, self.more, self.kept = page["syncedUntil"], page["hasMore"], self.wanted


def take(held: dict[Key, Json], changes: list[Json]) -> None:
    """Writes changes into records."""
    for change in changes:
        record = held.setdefault((change["spaceId"], change["table"], change["id"]), {})
        record |= {name: register["value"] for name, register in change["fields"].items()}


def alive(held: dict[Key, Json], spaces: set[str], tables: set[str]) -> dict[Key, Json]:
    """The records of some spaces and tables that are not deleted."""
    some = {key: record for key, record in held.items() if key[0] in spaces and key[1] in tables}
    return {key: record for key, record in some.items() if record.get("deletedAt") is None}


@drawn
@pytest.mark.parametrize("seed", range(examples(6)))
def test_whatever_is_chosen_and_written_between_pages_it_ends_with_its_part_of_the_whole(
    device: Make, seed: int
) -> None:
    """Ten spaces, as small feeds are read together from eight on."""
    chance, ada = random.Random(seed), device(unique("ada"))
    spaces = [ada.create(unique(f"s{n}")) for n in range(10)]
    part, when = Part(ada, spaces, chance), 0
    for _ in range(25):
        changes = []
        for _ in range(chance.choice([0, 1, 12])):
            when += 1
            change = edit(f"r{chance.randrange(4)}", when, **{chance.choice("mn"): when})
            if chance.random() < 0.25:
                change = {"id": change["id"], "op": "delete", "deletedAt": at(when), "changeId": unique("k")}
            changes.append({**change, "table": chance.choice(TABLES), "spaceId": chance.choice(spaces)})
        if changes:
            ada.push(*changes)
        if chance.random() < 0.3:
            part.choose()
        part.read(chance.choice([1, 4, 30, 1000]))
    while part.more or part.kept != part.wanted:
        part.read(1000)
    whole: dict[Key, Json] = {}
    take(whole, ada.drain()[0])
    assert alive(part.held, set(spaces), set(TABLES)) == alive(whole, *part.wanted)
