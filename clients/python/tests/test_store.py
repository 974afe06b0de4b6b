"""The SQLite file: what is in it after a failure, what is said of one, and whose file it is."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from syncd_client import StoreFailed, WrongReplica
from syncd_client.store import outbox
from syncd_client.store import store as stores
from syncd_client.store.store import FORMAT, Store, claim_meta, explain_failure, get_meta, set_meta


class Stop(Exception):
    """An application's error in the midst of a transaction."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "replica.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(path, "normal")
    yield store
    store.close()


def held(store: Store, key: str) -> Any:
    with store.read() as db:
        return get_meta(db, key)


def keep(store: Store, key: str, value: Any) -> None:
    with store.write() as db:
        set_meta(db, key, value)


def setting(store: Store, name: str) -> Any:
    with store.read() as db:
        return db.execute(f"PRAGMA {name}").fetchone()[0]


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("normal", 1)])
def test_a_new_file_has_its_tables_its_format_and_its_durability(tmp_path: Path, durability: Any, level: int) -> None:
    store = Store(tmp_path / "a.db", durability)
    assert (setting(store, "synchronous"), setting(store, "journal_mode")) == (level, "wal")
    assert setting(store, "user_version") == FORMAT
    with store.read() as db:
        found = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert found >= {"meta", "records", "outbox", "conflicts", "spaces"}
    store.close()


def test_without_a_word_every_write_is_flushed(path: Path) -> None:
    store = Store(path)
    assert setting(store, "synchronous") == 2
    store.close()


def test_what_is_in_a_file_is_there_when_it_is_opened_again(path: Path, store: Store) -> None:
    keep(store, "cursor", "c1")
    store.close()
    again = Store(path)
    assert held(again, "cursor") == "c1"
    again.close()


def test_a_file_of_a_later_format_is_not_opened_and_stays_as_it_is(path: Path, store: Store) -> None:
    keep(store, "cursor", "c1")
    with store.write() as db:
        db.execute(f"PRAGMA user_version = {FORMAT + 1}")
    store.close()
    with pytest.raises(WrongReplica) as why:
        Store(path)
    assert str(why.value) == f"the file has format {FORMAT + 1}, this package reads {FORMAT}. Upgrade it."
    assert why.value.remedy == "Upgrade it."
    file = sqlite3.connect(path)
    assert file.execute("SELECT value FROM meta").fetchall() == [("c1",)]
    file.close()


def test_a_file_of_the_first_format_is_taken_over_with_what_waits_in_it(path: Path, store: Store) -> None:
    with store.write() as db:
        db.execute("ALTER TABLE outbox DROP COLUMN field")
        db.execute("PRAGMA user_version = 1")
        db.execute(
            "INSERT INTO outbox (change_id, batch, tbl, space, id, state, body, code, detail) "
            "VALUES ('c', 'c', 't', '', 'r', 'rejected', '{}', 'rule_refused', 'No.')"
        )
    store.close()
    for _ in range(2):
        again = Store(path)
        assert setting(again, "user_version") == FORMAT
        with again.read() as db:
            (kept,) = outbox.select(db, "state = 'rejected'")
        assert (kept.detail, kept.field) == ("No.", None)
        again.close()


def test_a_transaction_that_fails_leaves_no_trace_and_the_next_one_works(store: Store) -> None:
    keep(store, "a", 1)

    def fail() -> None:
        with store.write() as db:
            set_meta(db, "a", 2)
            raise Stop

    with pytest.raises(Stop):
        fail()
    assert held(store, "a") == 1
    keep(store, "a", 3)
    assert held(store, "a") == 3
    assert store.failure is None


def test_what_sqlite_ended_by_itself_is_a_failure_that_is_remembered_until_a_write_is_well(store: Store) -> None:
    def fail() -> None:
        with store.write() as db:
            set_meta(db, "a", 1)
            db.execute("INSERT OR ROLLBACK INTO meta VALUES ('a', 2)")

    with pytest.raises(StoreFailed) as why:
        fail()
    assert why.value.detail == "the file cannot be used (SQLITE_CONSTRAINT_PRIMARYKEY)."
    assert isinstance(why.value.__cause__, sqlite3.IntegrityError)
    assert store.failure is why.value
    assert held(store, "a") is None
    assert store.failure is why.value
    keep(store, "a", 1)
    assert store.failure is None


def test_a_reader_sees_one_state_and_in_a_transaction_its_own(path: Path, store: Store) -> None:
    keep(store, "a", 1)
    other = Store(path, "normal")
    with other.read() as db:
        assert get_meta(db, "a") == 1
        keep(store, "a", 2)
        assert get_meta(db, "a") == 1
    assert held(other, "a") == 2
    with store.write() as db:
        set_meta(db, "a", 3)
        assert (held(store, "a"), held(other, "a")) == (3, 2)
        assert db.in_transaction, "a look in between does not end it"
    assert held(other, "a") == 3
    other.close()


def test_a_reader_that_fails_holds_up_no_writer(store: Store) -> None:
    def fail() -> None:
        with store.read():
            raise Stop

    with pytest.raises(Stop):
        fail()
    keep(store, "a", 1)
    assert held(store, "a") == 1


def test_a_writer_keeps_others_out_until_their_time_is_up(path: Path, store: Store) -> None:
    other = Store(path, "normal", timeout=0)
    with store.write() as db:
        set_meta(db, "a", 1)
        with pytest.raises(StoreFailed) as why:
            keep(other, "a", 2)
        assert (why.value.code, why.value.detail) == ("store_failed", "another process keeps the file locked.")
    keep(other, "a", 2)
    assert held(store, "a") == 2
    other.close()


def test_threads_take_turns(store: Store) -> None:
    keep(store, "n", 0)

    def count() -> None:
        for _ in range(20):
            with store.write() as db:
                set_meta(db, "n", get_meta(db, "n") + 1)

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert held(store, "n") == 60


def test_a_file_that_another_keeps_locked_is_waited_for_while_it_is_opened(path: Path) -> None:
    """Turning a new file into WAL mode needs it alone."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreFailed) as why:
        Store(path, timeout=0)
    assert why.value.detail == "another process keeps the file locked."
    free = threading.Timer(0.05, other.execute, ["ROLLBACK"])
    free.start()
    store = Store(path, timeout=30)
    assert setting(store, "journal_mode") == "wal"
    free.join()
    other.close()
    store.close()


def test_what_is_no_replica_is_not_waited_for(path: Path) -> None:
    path.write_bytes(b"no database, and long enough to be looked at" * 100)
    with pytest.raises(StoreFailed) as why:
        Store(path, timeout=600)
    assert (why.value.code, why.value.detail) == ("store_failed", "the file is damaged, or no replica.")


def test_where_nothing_can_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed) as why:
        Store(tmp_path / "missing" / "replica.db")
    assert why.value.detail == "the file cannot be opened, or not be written to."


def test_a_closed_file_says_so(store: Store) -> None:
    store.close()
    for work in (store.version, store.check_room):
        with pytest.raises(StoreFailed) as why:
            work()
        assert (why.value.code, why.value.detail) == ("closed", "the replica is closed.")
        assert why.value.remedy == "Open it again."


def test_whether_there_is_room_is_tried(store: Store) -> None:
    keep(store, "a", 1)
    store.check_room()
    assert held(store, "room") is None
    with store.write() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
    with store.read() as db:
        db.execute(f"PRAGMA max_page_count = {pages + 8}")
    with pytest.raises(StoreFailed) as why:
        # Of pages that were freed there is room for it once.
        keep(store, "large", "x" * 100_000)
    assert (why.value.code, why.value.detail) == ("storage_full", "there is no room for the file.")
    assert held(store, "a") == 1


def test_so_much_room_is_asked_for(store: Store) -> None:
    """64 KiB are 16 pages."""
    pages = setting(store, "page_count")
    size = setting(store, "page_size")
    with store.read() as db:
        db.execute(f"PRAGMA max_page_count = {pages + 65_536 // size - 1}")
    with pytest.raises(StoreFailed) as why:
        store.check_room()
    assert why.value.code == "storage_full"
    with store.read() as db:
        db.execute(f"PRAGMA max_page_count = {pages + 65_536 // size + 2}")
    store.check_room()


def test_the_place_is_of_the_file_and_of_no_copy(path: Path, store: Store, tmp_path: Path) -> None:
    place = store.place()
    assert place is not None
    assert len(place) == 64
    again = Store(path)
    assert again.place() == place
    again.close()
    store.close()
    path.rename(tmp_path / "renamed.db")
    renamed = Store(tmp_path / "renamed.db")
    assert renamed.place() == place, "a file that was renamed is where it was"
    renamed.close()
    shutil.copy2(tmp_path / "renamed.db", tmp_path / "copy.db")
    copy = Store(tmp_path / "copy.db")
    assert copy.place() not in (None, place)
    copy.close()


def test_the_place_is_of_the_machine_too(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = set()
    for name in ("one", "two\n", " two"):
        (tmp_path / "id").write_text(name)
        monkeypatch.setattr(stores, "_MACHINE", tmp_path / "id")
        places.add(store.place())
    assert len(places) == 2
    for unreadable in (tmp_path / "none", tmp_path):
        monkeypatch.setattr(stores, "_MACHINE", unreadable)
        places.add(store.place())
    (tmp_path / "id").write_bytes(b"\xff")
    monkeypatch.setattr(stores, "_MACHINE", tmp_path / "id")
    places.add(store.place())
    assert len(places) == 3
    assert None not in places


def test_a_replica_in_memory_is_nowhere() -> None:
    store = Store(":memory:")
    assert store.place() is None
    store.close()


def test_the_version_tells_what_others_wrote(path: Path, store: Store) -> None:
    before = store.version()
    keep(store, "a", 1)
    assert store.version() == before
    other = Store(path, "normal")
    keep(other, "a", 2)
    after = store.version()
    assert after != before
    assert store.version() == after
    other.close()


def failure(code: int, name: str = "SQLITE_X") -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("what SQLite says may hold what was written")
    error.sqlite_errorcode, error.sqlite_errorname = code, name
    return error


EXTENDED = 7 << 8  # SQLite says more precisely in the bits above what is wrong
LOCKED, DAMAGED = "another process keeps the file locked.", "the file is damaged, or no replica."
CLOSED_OFF = "the file cannot be opened, or not be written to."


@pytest.mark.parametrize(("code", "detail"), [
    (sqlite3.SQLITE_BUSY, LOCKED), (sqlite3.SQLITE_LOCKED, LOCKED), (sqlite3.SQLITE_BUSY | EXTENDED, LOCKED),
    (sqlite3.SQLITE_CORRUPT, DAMAGED), (sqlite3.SQLITE_NOTADB, DAMAGED), (sqlite3.SQLITE_CORRUPT | EXTENDED, DAMAGED),
    (sqlite3.SQLITE_READONLY, CLOSED_OFF), (sqlite3.SQLITE_PERM, CLOSED_OFF), (sqlite3.SQLITE_CANTOPEN, CLOSED_OFF),
    (sqlite3.SQLITE_IOERR, "the file cannot be used (SQLITE_X)."),
])  # fmt: skip
def test_what_sqlite_says_is_said_in_words_of_our_own(path: Path, code: int, detail: str) -> None:
    told = explain_failure(failure(code), path)
    assert (told.code, told.detail) == ("store_failed", detail)
    assert list(path.parent.iterdir()) == [], "what was tried out is gone"


def test_of_another_error_its_name_is_said(path: Path) -> None:
    assert explain_failure(OSError(errno.EIO, "secret"), path).detail == "the file cannot be used (OSError)."
    closed = explain_failure(sqlite3.ProgrammingError("closed"), path)
    assert (closed.code, closed.remedy) == ("closed", "Open it again.")


@pytest.mark.parametrize("error", [
    failure(sqlite3.SQLITE_FULL), failure(sqlite3.SQLITE_FULL | EXTENDED), OSError(errno.ENOSPC, ""),
    OSError(errno.EDQUOT, ""), OSError(errno.EFBIG, ""),
], ids=str)  # fmt: skip
def test_no_room_is_said_to_be_none(path: Path, error: Exception) -> None:
    told = explain_failure(error, path)
    assert (told.code, told.detail) == ("storage_full", "there is no room for the file.")


def test_meta_keeps_the_last_value_of_a_name(store: Store) -> None:
    with store.write() as db:
        assert (get_meta(db, "a"), get_meta(db, "a", 7)) == (None, 7)
        for value in (1, "x", None):
            set_meta(db, "a", value)
            assert get_meta(db, "a", 7) == value
        assert get_meta(db, "b") is None


def test_a_file_stays_whose_it_was_first(store: Store) -> None:
    with store.write() as db:
        claim_meta(db, "user", "ann", "the user")
        claim_meta(db, "user", "ann", "the user")
        with pytest.raises(WrongReplica) as why:
            claim_meta(db, "user", "bob", "the user")
        assert why.value.detail == "the file belongs to the user 'ann', not 'bob'."
        assert get_meta(db, "user") == "ann"
