"""A replica that is damaged is found out and mended, and nothing that is unsent is lost by it."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from syncd_client import AsyncReplica, Changes, LivePolicy, Replica, Verified
from syncd_client.store.store import get_meta

from tests.support.harness import Server
from tests.support.wire import unique

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


def phone_user(replica: Replica) -> str:
    """Whose it is."""
    with replica.store.read() as db:
        return str(get_meta(db, "user"))


def make_space(server: Server, owner: str, member: str, role: str = "writer") -> str:
    """A new space with another member."""
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {server.token(owner)}"}) as http:
        space = unique("space")
        assert http.post("/spaces", json={"id": space, "name": space}).status_code == 201
        assert http.put(f"/spaces/{space}/members/{member}", json={"role": role}).status_code == 200
    return space


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


REST = "deleted, round, doc, stamps, base FROM records"
KINDS_OF_DAMAGE = {
    "a record is lost": ("DELETE FROM records WHERE id = 't1'", 1),
    "a stamp is older": (
        """UPDATE records SET stamps = replace(stamps, '"title":[1', '"title":[0') WHERE id = 't1'""",
        1,
    ),
    "a stamp is newer": (
        """UPDATE records SET doc = '{"title":"x"}', stamps = '{"title":[9000000000000000,"x"]}' WHERE id = 't1'""",
        1,
    ),
    "a field is lost": (
        """UPDATE records SET doc = '{"title":"1"}', stamps = json_remove(stamps, '$.done') WHERE id = 't1'""",
        1,
    ),
    "a record is there that nobody wrote": (
        f"INSERT INTO records SELECT tbl, space, 'ghost', {REST} WHERE id = 't1'",
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


def test_what_is_unsent_stays_on_top_of_what_is_mended(phone: Replica, damage: Damage) -> None:
    phone.patch("tasks", "t1", {"title": "mine"})
    phone.put("tasks", "new", {"title": "new"})
    phone.delete("tasks", "t2")
    phone.put("tasks", "t4", {"title": "back"})
    pending = [change.change_id for change in phone.pending()]
    damage("""UPDATE records SET base = '{"title":["x",5,"y"]}' WHERE id IN ('t1', 't2')""")
    damage("DELETE FROM records WHERE id IN ('t7', 't8')")
    found = phone.verify()
    assert (found.differences, found.repaired) == (4, 4)
    assert [change.change_id for change in phone.pending()] == pending
    assert dict(phone.get("tasks", "t1") or {}) == {"title": "mine", "done": False}
    assert phone.get("tasks", "t2") is None
    assert phone.get("tasks", "new") is not None
    assert dict(phone.get("tasks", "t8") or {}) == {"title": "8", "done": False}
    phone.sync()
    assert phone.verify() == Verified(spaces=1, records=19)


def test_a_write_that_was_refused_is_none_of_the_server_s(phone: Replica, open_replica: Open, server: Server) -> None:
    space = make_space(server, unique("boss"), phone_user(phone), "reader")
    phone.put("tasks", "mine", {"title": "no"}, space=space)
    phone.sync()
    assert len(phone.rejected()) == 1
    assert phone.verify() == Verified(spaces=2, records=18)
    assert phone.get("tasks", "mine", space=space) is not None


def test_spaces_are_compared_each_by_itself(phone: Replica, open_replica: Open, server: Server, damage: Damage) -> None:
    boss = unique("boss")
    spaces = [make_space(server, boss, phone_user(phone)) for _ in range(3)]
    for space in spaces:
        for n in range(5):
            phone.put("tasks", f"t{n}", {"title": space}, space=space)
    phone.sync()
    whole = phone.all_registers()
    damage("DELETE FROM records WHERE space = ? AND id = 't1'", spaces[1])
    assert phone.verify() == Verified(spaces=4, records=33, differences=1, repaired=1)
    assert phone.all_registers() == whole
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {server.token(boss)}"}) as http:
        assert http.delete(f"/spaces/{spaces[0]}/members/{phone_user(phone)}").status_code == 204
    assert phone.verify() == Verified(spaces=3, records=28)
    assert [one.id for one in phone.spaces()] == sorted(spaces[1:])


def test_many_differences_mean_a_new_beginning(phone: Replica, damage: Damage) -> None:
    for part in range(3):
        with phone.batch() as batch:
            for n in range(200):
                batch.put("many", f"m{part}-{n}", {"n": n})
    phone.sync()
    whole = phone.all_registers()
    phone.patch("many", "m0-1", {"n": "mine"})
    damage("DELETE FROM records WHERE tbl = 'many' AND id <> 'm0-1'")
    damage(f"INSERT INTO records SELECT 'ghosts', space, id, {REST} WHERE tbl = 'tasks'")
    found = phone.verify()
    assert found.restarted
    assert (found.spaces, found.records, found.skipped) == (1, 618, [])
    assert found.differences >= 64
    assert phone.get("many", "m0-1") == {"n": "mine"}
    assert len(phone.pending()) == 1
    phone.sync()
    assert phone.query("ghosts") == []
    dead = [(None, "tasks", "t4"), (None, "tasks", "t6")]
    assert {key for key in whole if key not in dead} == phone.all_registers().keys()
    assert phone.verify() == Verified(spaces=1, records=618)


def test_a_changed_value_is_seen_when_everything_is_fetched(phone: Replica, damage: Damage) -> None:
    phone.patch("tasks", "t2", {"done": "mine"})
    damage("""UPDATE records SET doc = '{"title":"forged","done":false}' WHERE id = 't1'""")
    assert phone.verify().differences == 0
    assert (phone.get("tasks", "t1") or {})["title"] == "forged"
    assert phone.verify(everything=True) == Verified(spaces=1, records=18, restarted=True)
    assert dict(phone.get("tasks", "t1") or {}) == {"title": "1", "done": False}
    assert (phone.get("tasks", "t2") or {})["done"] == "mine"
    assert len(phone.pending()) == 1


def test_a_row_that_cannot_be_read_stops_no_sync(phone: Replica, open_replica: Open, damage: Damage) -> None:
    phone.patch("tasks", "t1", {"title": "mine"})
    damage("UPDATE records SET stamps = '{', base = '[' WHERE id IN ('t1', 't2')")
    laptop = open_replica("laptop")
    laptop.sync()
    laptop.patch("tasks", "t1", {"done": True})
    laptop.patch("tasks", "t2", {"done": True})
    laptop.sync()
    phone.sync()
    assert phone.verify().repaired == 2
    assert dict(phone.get("tasks", "t1") or {}) == {"title": "mine", "done": True}
    assert dict(phone.get("tasks", "t2") or {}) == {"title": "2", "done": True}


def test_a_sync_that_finds_nothing_verifies_when_it_is_time(open_replica: Open, damage: Damage) -> None:
    now = [time.time_ns() // 1000]
    phone = open_replica("phone", wall=lambda: now[0], verify_every=3600)
    phone.put("tasks", "t1", {"title": "1"})
    assert phone.sync().verified is None
    damage("DELETE FROM records")
    assert phone.sync().verified is None
    now[0] += 3_600_000_000
    phone.put("tasks", "t2", {"title": "2"})
    assert phone.sync().verified is None
    assert phone.sync().verified == Verified(spaces=1, records=2, differences=1, repaired=1)
    assert phone.get("tasks", "t1") is not None
    assert phone.sync().verified is None
    now[0] += 3_600_000_000
    assert phone.push().verified is None
    assert phone.pull().verified == Verified(spaces=1, records=2)


def test_it_can_be_left_out(open_replica: Open) -> None:
    now = [time.time_ns() // 1000]
    phone = open_replica("phone", wall=lambda: now[0], verify_every=None)
    phone.sync()
    now[0] += 3600_000_000 * 1000
    assert phone.sync().verified is None
    assert phone.verify() == Verified()


def test_a_live_sync_does_it_too_and_tells(phone: Replica, damage: Damage) -> None:
    events: list[Any] = []
    policy = LivePolicy(verify_interval=0.05)
    phone.verify_every = 0.0
    with phone.live(on_event=events.append, policy=policy) as live:
        assert live.wait_until_synced(20)
        damage("DELETE FROM records WHERE id = 't1'")
        until = time.monotonic() + 20
        while not any(isinstance(event, Verified) and event.repaired for event in list(events)):
            assert time.monotonic() < until
            time.sleep(0.02)
    assert phone.get("tasks", "t1") is not None
    repaired = [event for event in events if isinstance(event, Changes) and event.source == "server"]
    assert [record.id for event in repaired for record in event.records] == ["t1"]


async def test_the_replica_of_asyncio_does_the_same(phone: Replica, server: Server, user: str, tmp_path: Path) -> None:
    async with AsyncReplica(tmp_path / "other.db", app="app", url=server.url, token=server.token(user)) as other:
        assert await other.verify() == Verified(spaces=1, records=18)


def test_while_others_write_nothing_is_mistaken_for_damage(phone: Replica, open_replica: Open, server: Server) -> None:
    boss = unique("boss")
    space = make_space(server, boss, phone_user(phone))
    laptop = open_replica("laptop", of=boss)
    over = threading.Event()

    def write() -> None:
        chance, n = random.Random(5), 0
        while not over.is_set():
            n += 1
            record = f"r{chance.randrange(20)}"
            if chance.random() < 0.3:
                laptop.delete("tasks", record, space=space, upsert=True)
            else:
                laptop.put("tasks", record, {"n": n}, space=space)
            laptop.push()
            time.sleep(chance.random() * 0.02)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = [phone.verify() for _ in range(25)]
    finally:
        over.set()
        writer.join()
    assert sum(one.differences for one in found) == 0
    assert 25 < sum(one.spaces for one in found) <= 50
    laptop.sync()
    assert phone.verify().spaces == 2
    assert laptop.verify().differences == 0
