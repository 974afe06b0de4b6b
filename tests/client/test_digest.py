"""A replica that is damaged is found out and mended, and nothing that is unsent is lost by it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from syncd_client import Replica, Verified
from syncd_client.clock import parse_instant
from syncd_client.digest import Sum, bucket_of, digest_of

from tests.harness import Server
from tests.wire import unique

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "digest.json").read_text())


def digest_of_wire(table: str, record: str, registers: dict[str, Any]) -> str:
    stamps = [(name, parse_instant(r["at"]), r["clientId"]) for name, r in registers.items()]
    return f"{digest_of(table, record, stamps):016x}"


@pytest.mark.parametrize("record", VECTORS["records"], ids=lambda record: record["name"])
def test_a_record_has_the_digest_and_the_bucket_of_the_vectors(record: dict[str, Any]) -> None:
    found = digest_of_wire(record["table"], record["id"], record["registers"])
    assert (found, bucket_of(record["table"], record["id"])) == (record["digest"], record["bucket"])


Open = Callable[..., Replica]


@pytest.fixture
def user() -> str:
    return unique("ann")


@pytest.fixture
def open_replica(server: Server, tmp_path: Path, user: str) -> Iterator[Open]:
    """Opens replicas of one user, or of another."""
    opened: list[Replica] = []

    def open_one(name: str, of: str = user, **options: Any) -> Replica:
        settings = {"app": "app", "url": server.url, "token": server.token(of), "durability": "normal"}
        opened.append(Replica(tmp_path / f"{name}.db", **(settings | options)))
        return opened[-1]

    yield open_one
    for replica in opened:
        replica.close()


@pytest.fixture
def phone(open_replica: Open) -> Replica:
    """A replica with twenty records, two of them deleted."""
    phone = open_replica("phone")
    for n in range(20):
        phone.put("tasks", f"t{n}", {"title": f"{n}", "done": False})
    phone.patch("tasks", "t3", {"done": True})
    phone.delete("tasks", "t4")
    phone.delete("tasks", "t5")
    phone.undelete("tasks", "t5")
    phone.delete("tasks", "t6")
    phone.sync()
    return phone


Damage = Callable[..., None]


@pytest.fixture
def damage(tmp_path: Path) -> Damage:
    """Changes the phone's file behind its back."""

    def change(statement: str, *values: Any) -> None:
        file = sqlite3.connect(tmp_path / "phone.db")
        with file:
            assert file.execute(statement, values).rowcount > 0
        file.close()

    return change


def test_what_is_whole_is_left_alone(phone: Replica, open_replica: Open) -> None:
    assert phone.verify() == Verified(spaces=1, records=18)
    laptop = open_replica("laptop")
    laptop.sync()
    assert laptop.verify() == Verified(spaces=1, records=18)
    assert laptop.all_registers().keys() <= phone.all_registers().keys()


KINDS_OF_DAMAGE = {
    "a record is lost": ("DELETE FROM records WHERE id = 't1'", 1),
    "a stamp is older": (
        """UPDATE records SET stamps = replace(stamps, '"title":[1', '"title":[0') WHERE id = 't1'""",
        1,
    ),
    "a stamp is newer": (
        """UPDATE records SET doc = '{"title":"x","deletedAt":null}', stamps = '{"title":[9000000000000000,"x"]}' WHERE id = 't1'""",
        1,
    ),
    "a field is lost": (
        """UPDATE records SET doc = '{"title":"1"}', stamps = json_remove(stamps, '$.done') WHERE id = 't1'""",
        1,
    ),
    "a record is there that nobody wrote": (
        """INSERT INTO records SELECT tbl, space, 'ghost', deleted, round, doc, stamps, base FROM records WHERE id = 't1'""",
        1,
    ),
    "a record of an unknown table": ("UPDATE records SET tbl = 'nowhere' WHERE id = 't1'", 2),
    "a live record counts as deleted": ("UPDATE records SET deleted = 1 WHERE id = 't1'", 1),
    "a deleted record is alive": (
        """UPDATE records SET deleted = 0, doc = '{"title":"4"}', stamps = '{"title":[5,"x"]}' WHERE id = 't4'""",
        1,
    ),
    "stamps that cannot be read": ("UPDATE records SET stamps = '{' WHERE id = 't1'", 1),
    "stamps of another kind": ("""UPDATE records SET stamps = '{"title":["x"]}' WHERE id = 't1'""", 1),
    "all records are lost": ("DELETE FROM records", 18),
}


@pytest.mark.parametrize(("statement", "differences"), KINDS_OF_DAMAGE.values(), ids=KINDS_OF_DAMAGE)
def test_damage_is_found_and_mended(phone: Replica, damage: Damage, statement: str, differences: int) -> None:
    whole = phone.all_registers()
    damage(statement)
    found = phone.verify()
    assert (found.differences, found.repaired, found.skipped) == (differences, differences, [])
    dead = {(None, "tasks", record) for record in ("t4", "t6")}
    assert {k: r for k, r in phone.all_registers().items() if k not in dead} == {
        k: r for k, r in whole.items() if k not in dead
    }
    assert phone.verify() == Verified(spaces=1, records=18)
    assert phone.get("tasks", "t4") is None
