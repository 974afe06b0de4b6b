"""The index of a search costs no write, and is made again where it is damaged."""

from __future__ import annotations

import json
import resource
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from syncd_client import InvalidQuery, Replica, StoreFailed
from syncd_client.store import search as searching
from syncd_client.store.search import held
from syncd_client.store.store import Store

from tests.support.scripted import Script, page, wire

Open = Callable[..., Replica]
LATER = "2030-01-01T00:00:00.000000Z"
SEARCH = {"t": ["title", "body"]}
# What may be of an index: written by a later SQLite, overwritten, emptied, without one of its parts.
DAMAGES = {
    "of a later format": "UPDATE {words}_config SET v = 5 WHERE k = 'version'",
    "overwritten": "UPDATE {words}_data SET block = x'00' WHERE id >= 10",
    "all overwritten": "UPDATE {words}_data SET block = x'00'",
    "emptied": "DELETE FROM {words}_data WHERE id > 10",
    "without a part": "DROP TABLE {words}_data",
    "without texts": "DROP TABLE {words}_content",
}


def execute(path: Path, *statements: str) -> list[Any]:
    """What SQL answers last, of another connection."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        return rows
    finally:
        connection.close()


def words_of(replica: Replica) -> str:
    """The table of FTS5."""
    with replica.store.read() as db:
        return held(db)["t"].words


def ids(replica: Replica, text: str) -> list[str]:
    return [record.id for record in replica.search("t", text)]


def fill(replica: Replica) -> None:
    for n in range(20):
        replica.put("t", f"a{n}", {"title": f"one word{n}", "body": "text"})


@pytest.fixture(params=DAMAGES.values(), ids=DAMAGES)
def damaged(open_replica: Open, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A file whose index is damaged."""
    replica = open_replica(search=SEARCH)
    fill(replica)
    words = words_of(replica)
    replica.close()
    execute(tmp_path / "replica.db", request.param.format(words=words))
    return tmp_path / "replica.db"


@pytest.mark.parametrize("search", [SEARCH, None])
def test_a_damaged_index_is_made_again_when_the_file_is_opened(damaged: Path, open_replica: Open, search: Any) -> None:
    replica = open_replica(search=search)
    assert (ids(replica, "word7"), len(ids(replica, "one"))) == (["a7"], 20)
    replica.patch("t", "a7", {"title": "other"})
    replica.put("t", "b", {"title": "word7"})
    assert ids(replica, "word7") == ["b"]
    assert execute(damaged, "PRAGMA integrity_check") == [("ok",)]


def test_a_damaged_index_can_be_taken_away(damaged: Path, open_replica: Open) -> None:
    replica = open_replica(search={})
    replica.put("t", "b", {"title": "word7"})
    parts = execute(damaged, "SELECT name FROM sqlite_master WHERE name GLOB 'search_words_*_*'")
    assert parts == []


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_an_index_that_is_damaged_meanwhile_costs_no_write_and_is_made_again(
    open_replica: Open, tmp_path: Path, damage: str
) -> None:
    replica = open_replica(search=SEARCH)
    fill(replica)
    execute(tmp_path / "replica.db", damage.format(words=words_of(replica)))
    replica.put("t", "b", {"title": "one more"})
    replica.patch("t", "a1", {"title": "other"})
    replica.delete("t", "a2")
    assert len(replica.pending()) == 23
    assert (ids(replica, "word7"), ids(replica, "more"), ids(replica, "other")) == (["a7"], ["b"], ["a1"])
    assert len(ids(replica, "one")) == 19


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_search_makes_a_damaged_index_again_before_anything_is_written(
    open_replica: Open, tmp_path: Path, damage: str
) -> None:
    replica = open_replica(search=SEARCH)
    fill(replica)
    execute(tmp_path / "replica.db", damage.format(words=words_of(replica)))
    assert (len(ids(replica, "one")), ids(replica, "word7")) == (20, ["a7"])


def test_an_index_that_cannot_be_kept_is_not_noted_without_end(
    open_replica: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd_client.store.search_index._MOST_NOTED", 10)
    replica = open_replica(search=SEARCH)
    fill(replica)

    def fail(*given: Any) -> int:
        raise sqlite3.OperationalError("no such module: fts5")

    with monkeypatch.context() as patched:
        patched.setattr("syncd_client.store.search_index._renew", fail)
        for n in range(8):
            replica.patch("t", f"a{n}", {"title": "other"})
        assert execute(tmp_path / "replica.db", "SELECT count(*) FROM search_changed") == [(8,)]
        with pytest.raises(StoreFailed):
            replica.search("t", "other")
        for n in range(20):
            replica.patch("t", f"a{n}", {"title": "other"})
        [(noted,)] = execute(tmp_path / "replica.db", "SELECT count(*) FROM search_changed")
        assert noted <= 10
    assert (len(ids(replica, "other")), ids(replica, "one")) == (20, [])


def test_a_search_in_a_batch_finds_what_it_has_written_and_ends_nothing(open_replica: Open) -> None:
    before = open_replica()
    replica = open_replica(search=SEARCH)
    before.store.beside = None  # a package that knows of no search
    before.put("t", "a", {"title": "two"})
    with pytest.raises(ValueError, match="over"), replica.batch() as batch:  # noqa: PT012
        assert batch.get("t", "b") is None  # which begins the transaction
        assert ids(replica, "two") == ["a"]
        batch.put("t", "c", {"title": "two"})
        raise ValueError("over")
    assert (ids(replica, "two"), len(replica.pending())) == (["a"], 1)
    before.put("t", "d", {"title": "two"})
    with replica.batch() as batch:
        assert batch.get("t", "b") is None
        assert ids(replica, "two") == ["a", "d"]
        batch.put("t", "e", {"title": "two"})
    assert (ids(replica, "two"), len(replica.pending())) == (["a", "d", "e"], 3)


def test_a_transaction_in_another_is_refused_and_ends_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "replica.db")
    with store.write() as db:
        db.execute("INSERT INTO meta VALUES ('a', 1)")
        with pytest.raises(StoreFailed, match="under way"), store.write():
            pass
    with store.write() as db:
        assert db.execute("SELECT value FROM meta WHERE key = 'a'").fetchone() == (1,)
    store.close()


def test_an_index_is_made_in_parts_between_which_others_write(
    open_replica: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = open_replica()
    for first in range(0, 1200, 300):
        with replica.batch() as batch:
            for n in range(first, first + 300):
                batch.put("t", f"a{n}", {"title": f"one word{n}"})
    step, parts = searching.freshen, 0

    def interrupted(*given: Any) -> tuple[bool, bool]:
        nonlocal parts
        parts += 1
        if parts == 3:
            raise KeyboardInterrupt
        return step(*given)

    with monkeypatch.context() as patched:
        patched.setattr(searching, "freshen", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_replica(search=SEARCH)
    with replica.store.read() as db:
        assert db.execute("SELECT count(*) FROM search_records").fetchone()[0] in (500, 1000)
    replica.patch("t", "a1199", {"title": "other"})
    with replica.store.read() as db:
        assert db.execute("SELECT count(*) FROM search_changed").fetchone()[0] in (200, 700)
    assert (ids(replica, "word1199"), ids(replica, "other"), ids(replica, "word1198")) == ([], ["a1199"], ["a1198"])


def test_a_write_that_changes_much_leaves_some_of_it_to_the_next_ones_and_to_a_search(
    open_replica: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd_client.store.search_index._MOST_PARTS", 2)
    replica = open_replica(search=SEARCH)
    with replica.store.write() as db:
        for n in range(2600):
            db.execute("INSERT INTO records VALUES ('t', '', ?, 0, 0, ?, '{}', NULL)", (f"a{n}", '{"title": "one"}'))

    def left() -> int:
        with replica.store.read() as db:
            return int(db.execute("SELECT count(*) FROM search_changed").fetchone()[0])

    assert left() == 1600
    replica.put("t", "a2599", {"title": "other"})
    assert left() == 601
    assert (len(replica.search("t", "one", limit=None)), ids(replica, "other"), left()) == (2599, ["a2599"], 0)


def test_words_of_many_erased_records_leave_the_file(
    open_replica: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd_client.store.search_index._MOST_PARTS", 1)
    replica = open_replica(search=SEARCH)
    with replica.store.write() as db:
        for n in range(1600):
            doc = '{"title": "quincesandwich"}'
            db.execute("INSERT INTO records VALUES ('t', '', ?, 0, 0, ?, '{}', NULL)", (f"a{n}", doc))
    assert len(replica.search("t", "quince", limit=None)) == 1600
    with replica.store.write() as db:
        db.execute("DELETE FROM records")
    replica.store.scrub()
    assert execute(tmp_path / "replica.db", "SELECT count(*) FROM search_changed") == [(0,)]
    assert [file.name for file in tmp_path.glob("replica.db*") if b"quincesand" in file.read_bytes()] == []


@pytest.fixture
def little_room(tmp_path: Path) -> Iterator[Callable[[int], None]]:
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_replica_without_room_for_the_index_opens_and_writes(
    open_replica: Open, tmp_path: Path, little_room: Callable[[int], None]
) -> None:
    replica = open_replica(durability="normal")
    with replica.store.write() as db:
        for n in range(3000):
            doc = json.dumps({"title": f"some words{n} here " + " ".join(f"w{n * 7 % 1000 + m}" for m in range(20))})
            db.execute("INSERT INTO records VALUES ('t', '', ?, 0, 0, ?, '{}', NULL)", (f"a{n}", doc))
    replica.close()
    little_room((tmp_path / "replica.db").stat().st_size + 20_000)
    replica = open_replica(search=SEARCH, durability="normal")
    with pytest.raises(StoreFailed):
        replica.search("t", "words7")
    replica.put("u", "b", {"title": "small"})
    little_room(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    assert ids(replica, "words7 here") == ["a7"]


def test_what_an_older_package_has_erased_leaves_the_file_by_the_next_search(
    open_replica: Open, script: Script, tmp_path: Path
) -> None:
    before = open_replica()
    replica = open_replica(search=SEARCH)
    before.store.beside = None  # a package that knows of no search
    for n in range(3):
        script.answers = [page(wire(f"a{n}", title=("quincesandwich", LATER)))]
        before.pull()
    assert ids(replica, "quincesandwich") == ["a0", "a1", "a2"]
    changes = [wire(f"a{n}", title=(None, LATER)) for n in range(3)]
    for change in changes:
        change["fields"]["title"]["erased"] = "2030-01-02T00:00:00.000000Z"
    script.answers = [page(*changes)]
    before.pull()
    assert ids(replica, "quincesandwich") == []
    assert [file.name for file in tmp_path.glob("replica.db*") if b"quincesand" in file.read_bytes()] == []


def test_what_was_erased_leaves_the_file_also_where_the_process_was_killed_before(
    open_replica: Open, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = open_replica(search=SEARCH)
    for n in range(3):  # more than one segment
        script.answers = [page(wire(f"a{n}", title=("quincesandwich", LATER)))]
        replica.pull()
    changes = [wire(f"a{n}", title=(None, LATER)) for n in range(3)]
    for change in changes:
        change["fields"]["title"]["erased"] = "2030-01-02T00:00:00.000000Z"
    script.answers = [page(*changes)]
    with monkeypatch.context() as killed:
        killed.setattr(Store, "scrub", lambda _store: None)
        replica.pull()
        replica.close()
    assert any(b"quincesand" in file.read_bytes() for file in tmp_path.glob("replica.db*"))
    replica = open_replica(search=SEARCH)
    assert [file.name for file in tmp_path.glob("replica.db*") if b"quincesand" in file.read_bytes()] == []
    assert not replica.store.is_unscrubbed()


def test_a_search_in_a_batch_has_the_fields_that_are_declared_now(
    open_replica: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise StoreFailed("the disk is full.")

    replica = open_replica(search={"t": ["title"]})
    replica.put("t", "a", {"title": "pear", "body": "apple"})
    replica.close()
    with monkeypatch.context() as full:
        full.setattr(searching, "declare_tables", no_room)
        replica = open_replica(search=SEARCH)
    with replica.batch() as batch:
        batch.get("t", "a")
        assert ids(replica, "apple") == ["a"]
    assert ids(replica, "apple") == ["a"]


@pytest.mark.parametrize("search", [["t"], "t", 1])
def test_a_declaration_that_is_none_is_refused(open_replica: Open, search: Any) -> None:
    with pytest.raises(InvalidQuery):
        open_replica(search=search)


def test_a_limit_that_sqlite_cannot_count_to_is_refused(open_replica: Open) -> None:
    replica = open_replica(search=SEARCH)
    with pytest.raises(InvalidQuery):
        replica.search("t", "a", limit=2**63)
    assert replica.search("t", "a", limit=2**63 - 1) == []
