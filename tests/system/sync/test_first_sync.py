"""A device that is new to a feed: what was touched last first, named tables before all others, from any page on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from syncd_client import Limits, Replica

from tests.support.harness import Server
from tests.support.wire import Device, Json, at, edit, unique, values

Make = Callable[..., Device]


def fill(device: Device, count: int, **more: str) -> None:
    """Records of three tables in turn, each in a push of its own."""
    for n in range(count):
        device.write({**edit(f"r{n}", n + 1, n=n), "table": ("lists", "cards", "notes")[n % 3], **more})


def seqs(changes: list[Json]) -> list[int]:
    return [change["seq"] for change in changes]


@pytest.mark.parametrize("limit", [1, 4, 1000])
def test_what_was_touched_last_comes_first(device: Make, limit: int) -> None:
    ada = device(unique("ada"))
    fill(ada, 20)
    ada.write({**edit("r3", 50, n="again"), "table": "lists"})
    changes, cursor = ada.drain(limit=limit)
    assert seqs(changes) == [21, *(n for n in range(20, 0, -1) if n != 4)]
    assert changes[0]["fields"]["n"]["value"] == "again"
    assert ada.drain(cursor)[0] == []


@pytest.mark.parametrize("limit", [1, 4, 1000])
def test_named_tables_come_before_all_others(device: Make, limit: int) -> None:
    ada = device(unique("ada"))
    fill(ada, 20)
    # named with the first page only: the cursor remembers
    page = ada.pull(limit=limit, first="notes,lists")
    changes = page["serverChanges"] + (ada.drain(page["syncedUntil"], limit=limit)[0] if page["hasMore"] else [])
    tables = [change["table"] for change in changes]
    assert tables == sorted(tables, key="cards".__eq__)
    assert sorted(seqs(changes)) == list(range(1, 21))
    others = [c["seq"] for c in changes if c["table"] != "cards"]
    assert others == sorted(others, reverse=True)


def test_what_happens_meanwhile_comes_after_it_and_nothing_is_missed(device: Make) -> None:
    ada = device(unique("ada"))
    fill(ada, 12)
    taken: list[Json] = []
    page = ada.pull(limit=2, first="cards")
    step = 0
    while page["hasMore"]:
        taken += page["serverChanges"]
        step += 1
        if step < 6:
            ada.write(
                {**edit(f"r{step}", 100 + step, n="new"), "table": ("lists", "cards", "notes")[step % 3]},
                {**edit(f"late{step}", 100 + step, n=step), "table": "cards"},
            )
        if step == 3:
            ada.write({"table": "notes", "id": "r11", "op": "delete", "deletedAt": at(200), "changeId": unique("k")})
        page = ada.pull(page["syncedUntil"], limit=2)
    taken += page["serverChanges"]
    assert values(taken) == values(ada.drain()[0]) == values(ada.drain(history=1)[0])
    assert "r11" not in values(taken)


def test_of_many_spaces_nothing_is_missed_that_is_written_behind_its_named_tables(device: Make) -> None:
    """Small feeds are read together. A page ends where the named tables of one are there, and they are written to."""
    ada = device(unique("ada"))
    spaces = [ada.create(unique("space")) for _ in range(9)]
    for space in spaces:
        fill(ada, 10, spaceId=space)
    page = ada.pull(limit=1, first="cards")
    assert {change["table"] for change in page["serverChanges"]} == {"cards"}
    for space in spaces:
        gone = {"id": "r4", "op": "delete", "deletedAt": at(50), "changeId": unique("k")}
        ada.write(*({**one, "table": "cards", "spaceId": space} for one in (edit("r1", 50, n="new"), gone)))
    changes = page["serverChanges"] + ada.drain(page["syncedUntil"])[0]
    for space in spaces:
        held = values([change for change in changes if change["spaceId"] == space])
        assert held == {"r1": {"n": "new"}, **{f"r{n}": {"n": n} for n in range(10) if n not in (1, 4)}}


def test_a_push_in_the_middle_of_it_goes_on_with_it(device: Make) -> None:
    user = unique("ada")
    ada, bob = device(user), device(user, "c2")
    fill(ada, 15)
    page = bob.pull(limit=3, first="notes")
    held = page["serverChanges"]
    answer = bob.push({**edit("r2", 99, n="mine"), "table": "notes"}, since=page["syncedUntil"], pull=True)
    held += answer["serverChanges"]
    if answer["hasMore"]:
        held += bob.drain(answer["syncedUntil"], limit=3)[0]
    assert values(held) == values(ada.drain()[0])


def test_a_space_that_is_joined_later_is_swept_too(device: Make) -> None:
    ada, bob = device(unique("ada")), device(unique("bob"))
    bob.write(edit("own", 1, x=1))
    _, cursor = bob.drain()
    space = ada.create(unique("garden"))
    fill(ada, 6, spaceId=space)
    ada.member(space, bob.user)
    page = bob.pull(cursor, limit=2, first="cards")
    assert page["spaces"]["joined"] == [space]
    assert [c["table"] for c in page["serverChanges"]][:2] == ["cards", "cards"]
    assert seqs(page["serverChanges"] + bob.drain(page["syncedUntil"], limit=2)[0]) == [5, 2, 6, 4, 3, 1]


def test_too_many_or_bad_names_are_refused(device: Make) -> None:
    ada = device(unique("ada"))
    for wrong in (",".join("abcdefghi"), "x" * 300):
        answer = ada.ask(first=wrong)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/first")


def test_a_client_with_first_tables_gets_everything(server: Server, device: Make, tmp_path: Path) -> None:
    ada = device(unique("ada"))
    fill(ada, 9)
    limits = Limits(pull_limit=2, first=("cards",))
    token = server.token(ada.user)
    with Replica(tmp_path / "new.db", app="app", url=server.url, token=token, limits=limits) as replica:
        replica.sync()
        assert len(replica.query("cards")) == len(replica.query("lists")) == len(replica.query("notes")) == 3
