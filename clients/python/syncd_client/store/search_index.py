"""The index of a file's searched tables: how it is made, kept, and made again where it is damaged.

Triggers note which records read differently, also where a package writes that knows of no search. What is noted is in
the index before the transaction ends. An index costs no write: one that cannot be kept is made again by a search.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NamedTuple

from ..data.searched import RULE, texts_at
from ..data.values import parse

_LAYOUT = 2  # of the table of FTS5: one of another layout is made again
_PREFIX = "search_words_"
_CHUNK = 500  # records that are brought up to date at once
_MOST_PARTS = 10  # of so many records, for which a write takes the time
_MOST_NOTED = 10_000  # records that wait to be brought up to date: where it fails for more, the index is made again
# FTS5 cannot do it now, and its index is sound: no room, no memory, a lock, an interruption.
_PASSING = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_READONLY,
)
_NAMES = "tbl TEXT NOT NULL, space TEXT NOT NULL, id TEXT NOT NULL"
# search_tables.words: the table of FTS5; empty: there is none, and it is to be made.
# search_changed.n: below 0 for what was there when the index was begun, which waits for a search or an opening.
_TABLES = (
    """CREATE TABLE IF NOT EXISTS search_tables (tbl TEXT PRIMARY KEY, fields TEXT NOT NULL, words TEXT NOT NULL)
    WITHOUT ROWID""",
    f"CREATE TABLE IF NOT EXISTS search_records (n INTEGER PRIMARY KEY, {_NAMES}, UNIQUE (tbl, space, id))",
    f"CREATE TABLE IF NOT EXISTS search_changed (n INTEGER PRIMARY KEY, {_NAMES})",
    *(
        f"""CREATE TRIGGER IF NOT EXISTS search_{event.lower()} AFTER {event} ON records
    WHEN {row}.tbl IN (SELECT tbl FROM search_tables){more}
    BEGIN INSERT INTO search_changed (tbl, space, id) VALUES ({row}.tbl, {row}.space, {row}.id); END"""
        for event, row, more in (
            ("INSERT", "NEW", ""),
            ("UPDATE", "NEW", " AND NEW.doc <> OLD.doc"),
            ("DELETE", "OLD", ""),
        )
    ),
)
_NOTED = f"SELECT max(n) FROM (SELECT n FROM search_changed WHERE n >= ? ORDER BY n LIMIT {_CHUNK})"
_CHANGED = """SELECT c.space, c.id, s.n, r.doc, {held}
FROM (SELECT DISTINCT space, id FROM search_changed WHERE n BETWEEN :first AND :noted AND tbl = :table) c
LEFT JOIN search_records s ON s.tbl = :table AND s.space = c.space AND s.id = c.id
LEFT JOIN records r ON r.tbl = :table AND r.space = c.space AND r.id = c.id AND r.deleted = 0
LEFT JOIN {words} w ON w.rowid = s.n"""
_EVER = -(2**63)
_PARTS = ("data", "idx", "content", "docsize", "config")  # the tables in which FTS5 has a table of its own


class Searched(NamedTuple):
    """A table that is searched: its fields, the first one first, and the table of FTS5 that has their words, or ""."""

    fields: tuple[str, ...]
    words: str

    @property
    def columns(self) -> list[str]:
        """One for each field."""
        return [f"f{n}" for n in range(len(self.fields))]


class Damaged(Exception):
    """The index of a table does not hold what it should, and is now to be made again."""


class SearchIndex:
    """The index of a file, with which the store's transactions end."""

    def __init__(self) -> None:
        self._there = False
        self.unmade: Mapping[str, tuple[str, ...]] | None = (
            None  # a declaration that could not be kept, as without room
        )

    def settle(self, db: sqlite3.Connection) -> None:
        """Brings the index up to what the transaction has changed.

        Where that fails, or is much, the next writes and searches do what is left.
        """
        self._there = self._there or is_there(db)
        if self._there and db.execute(_NOTED, (0,)).fetchone()[0] is not None:
            with _forgiven(db), _guarded(db) as at:
                for _ in range(_MOST_PARTS):
                    if _step(db, 0, at) is None:
                        break

    def scrub(self, db: sqlite3.Connection) -> bool:
        """What was deleted leaves the index's pages, where FTS5 keeps it until it puts them together.

        Returns False where more has to be brought up to date before that than one transaction should.
        """
        before = _count(db)
        self.settle(db)
        if 0 < _count(db) < before:
            return False
        for table, searched in held(db).items():
            if searched.words:
                with _forgiven(db), _guarded(db) as at:
                    at[:] = [table]
                    db.execute(f"INSERT INTO {searched.words} ({searched.words}) VALUES ('optimize')")
        remove_unused(db)
        return True


def held(db: sqlite3.Connection) -> dict[str, Searched]:
    """The tables of a file that are searched, by name."""
    if not is_there(db):
        return {}
    rows = db.execute("SELECT tbl, fields, words FROM search_tables").fetchall()
    return {table: Searched(tuple(json.loads(fields)), words) for table, fields, words in rows}


def is_there(db: sqlite3.Connection) -> bool:
    """Whether any table of the file was declared to be searched."""
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'search_tables'").fetchone() is not None


def _count(db: sqlite3.Connection) -> int:
    """What the transactions so far have left to do."""
    there = is_there(db)
    return int(db.execute("SELECT count(*) FROM search_changed WHERE n >= 0").fetchone()[0]) if there else 0


def is_stale(db: sqlite3.Connection) -> bool:
    """Whether there is anything for `freshen` to do."""
    there = is_there(db)
    return there and any(
        db.execute(sql).fetchone() is not None
        for sql in ("SELECT 1 FROM search_changed LIMIT 1", "SELECT 1 FROM search_tables WHERE words = ''")
    )


def is_as(before: Searched | None, table: str, fields: tuple[str, ...]) -> bool:
    """Whether a table is searched in these fields already, by the rule of this package."""
    return (
        before is not None
        and before.fields == fields
        and (not before.words or before.words.startswith(_name(table, fields)))
    )


def declare_tables(db: sqlite3.Connection, wanted: Mapping[str, tuple[str, ...]]) -> None:
    """The searched tables are these from now on; those that are new are to be made by `freshen`."""
    before = held(db)  # another process may have been here
    for statement in _TABLES:
        db.execute(statement)
    for table in before:
        if table not in wanted or not is_as(before[table], table, wanted[table]):
            db.execute("DELETE FROM search_tables WHERE tbl = ?", (table,))
            _forget(db, table)
    for table, fields in wanted.items():
        db.execute("INSERT INTO search_tables VALUES (?, ?, '') ON CONFLICT DO NOTHING", (table, json.dumps(fields)))
    remove_unused(db)


def freshen(db: sqlite3.Connection, made: set[str]) -> tuple[bool, bool]:
    """Does a part of what is left to do: makes the tables of FTS5 that are missing, or brings some records up to date.

    Returns whether that was all, and whether words of another package's writing were removed. `made`: the tables that
    it has made so far. Raises Damaged where one of them is damaged already, and what SQLite raises.
    """
    with suppress(Damaged), _guarded(db) as at:
        missing = [(table, searched) for table, searched in held(db).items() if not searched.words]
        for table, searched in missing:
            at[:] = [table]
            made.add(table)
            _make(db, table, searched.fields)
        removed = _step(db, _EVER, at)
        return removed is None, bool(removed)
    again = {table for table, searched in held(db).items() if not searched.words}
    if again & made:
        raise Damaged(*again & made)
    return False, False


def is_sound(db: sqlite3.Connection, searched: Searched) -> bool:
    """Whether a table of FTS5 finds the record that came last, by its first word."""
    words, columns = searched.words, " || ".join(searched.columns)
    try:
        last = db.execute(f"SELECT rowid, {columns} FROM {words} ORDER BY rowid DESC LIMIT 1").fetchone()
        if last is None:
            return True
        asked = (f'"{last[1].split()[0]}"', last[0])
        return db.execute(f"SELECT 1 FROM {words} WHERE {words} MATCH ? AND rowid = ?", asked).fetchone() is not None
    except (sqlite3.Error, AttributeError, IndexError) as error:
        return _is_passing(error)


def retire(db: sqlite3.Connection, tables: Iterable[str]) -> None:
    """The indexes of these tables are not used any more, and made again by the next search."""
    for table in tables:
        db.execute("UPDATE search_tables SET words = '' WHERE tbl = ?", (table,))
        _forget(db, table)


def remove_unused(db: sqlite3.Connection) -> None:
    """Removes the tables of FTS5 that no searched table has any more, also those that it cannot read itself."""
    used = {searched.words for searched in held(db).values()}
    rows = db.execute(
        "SELECT name FROM sqlite_master WHERE name GLOB ? AND sql LIKE 'CREATE VIRTUAL%'", (f"{_PREFIX}*",)
    )
    for (name,) in rows.fetchall():
        if name in used:
            continue
        for prepare in (
            (),
            (f"UPDATE {name}_config SET v = 4 WHERE k = 'version'",),  # a later SQLite wrote it
        ):
            with suppress(sqlite3.Error), _savepoint(db):
                for statement in (*prepare, f"DROP TABLE {name}"):
                    db.execute(statement)
                break
        else:
            for part in _PARTS:  # the name alone stays
                with suppress(sqlite3.Error), _savepoint(db):
                    db.execute(f"DROP TABLE IF EXISTS {name}_{part}")


def _name(table: str, fields: tuple[str, ...]) -> str:
    said = json.dumps([RULE, _LAYOUT, table, fields])
    return _PREFIX + hashlib.sha256(said.encode()).hexdigest()[:16]


def _forget(db: sqlite3.Connection, table: str) -> None:
    db.execute("DELETE FROM search_records WHERE tbl = ?", (table,))
    db.execute("DELETE FROM search_changed WHERE tbl = ?", (table,))


def _make(db: sqlite3.Connection, table: str, fields: tuple[str, ...]) -> None:
    """An empty table of FTS5, and a note of each record that is to be in it."""
    remove_unused(db)
    name = base = _name(table, fields)
    number = 1
    while db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone():
        number += 1
        name = f"{base}_{number}"
    columns = ", ".join(Searched(fields, name).columns)
    # ASCII folds nothing that is folded already, and takes every other letter as it is. No `secure-delete`: an older
    # SQLite could write nothing to the table from then on.
    db.execute(f"CREATE VIRTUAL TABLE {name} USING fts5({columns}, tokenize='ascii', detail=none, columnsize=0)")
    db.execute("UPDATE search_tables SET words = ? WHERE tbl = ?", (name, table))
    _forget(db, table)
    db.execute(
        """INSERT INTO search_changed (n, tbl, space, id)
        SELECT (SELECT min(0, coalesce(min(n), 0)) FROM search_changed) - row_number() OVER (), tbl, space, id
        FROM records WHERE tbl = ? AND deleted = 0""",
        (table,),
    )


@contextmanager
def _savepoint(db: sqlite3.Connection) -> Iterator[None]:
    """What fails within leaves no trace, and the transaction goes on."""
    db.execute("SAVEPOINT search")
    try:
        yield
        db.execute("SAVEPOINT search_end")  # FTS5 writes its pages now: where RELEASE fails, there is no way back
    except BaseException:
        if db.in_transaction:  # SQLite has ended some by itself
            db.execute("ROLLBACK TO search")
            db.execute("RELEASE search")
        raise
    db.execute("RELEASE search")


@contextmanager
def _guarded(db: sqlite3.Connection) -> Iterator[list[str]]:
    """What fails within leaves no trace. An index that is damaged is retired, and Damaged is raised.

    What SQLite raises is raised where it may be tried again, and where nothing is left of the transaction. Given is
    what is to have the name of the table whose index is worked on.
    """
    at: list[str] = []
    try:
        with _savepoint(db):
            yield at
    except sqlite3.Error as error:
        if not db.in_transaction:
            raise
        first, last = db.execute("SELECT min(n), max(n) FROM search_changed WHERE n >= 0").fetchone()
        few = first is None or last - first < _MOST_NOTED
        if few and _is_passing(error):
            raise
        retire(db, at if few and at else held(db))
        raise Damaged(*at) from error


@contextmanager
def _forgiven(db: sqlite3.Connection) -> Iterator[None]:
    """What could not be done is left to a search, if there still is a transaction."""
    try:
        yield
    except (sqlite3.Error, Damaged):
        if not db.in_transaction:
            raise


def _is_passing(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING or "no such module" in str(error)


def _step(db: sqlite3.Connection, first: int, at: list[str]) -> int | None:
    """Brings some of the records up to date that were noted from `first` on.

    Returns how many had words of before that another package has replaced; None: none was left.
    """
    noted = db.execute(_NOTED, (first,)).fetchone()[0]
    if noted is None:
        return None
    removed = 0
    for table, searched in held(db).items():
        if searched.words:
            at[:] = [table]
            removed += _renew(db, table, searched, (first, noted))
    db.execute("DELETE FROM search_changed WHERE n BETWEEN ? AND ?", (first, noted))
    return removed


def _renew(db: sqlite3.Connection, table: str, searched: Searched, noted: tuple[int, int]) -> int:
    """Puts the words of the records that were noted, as they stand, in the place of those they had: of how many."""
    words, columns = searched.words, ", ".join(searched.columns)
    asked = _CHANGED.format(held=", ".join(f"w.{column}" for column in searched.columns), words=words)
    rows = db.execute(asked, {"first": noted[0], "noted": noted[1], "table": table}).fetchall()
    last = db.execute("SELECT coalesce(max(n), 0) FROM search_records").fetchone()[0]
    old, gone, fresh, put = [], [], [], []
    for space, record, number, doc, *before in rows:
        texts = _texts(doc, searched)
        if [text or "" for text in before] == texts:
            continue
        if number is not None:
            old.append((number,))
        if not any(texts):
            gone.append((number,))
            continue
        if number is None:
            number = last = last + 1
            fresh.append((number, table, space, record))
        put.append((number, *texts))
    db.executemany(f"DELETE FROM {words} WHERE rowid = ?", old)
    db.executemany("DELETE FROM search_records WHERE n = ?", gone)
    db.executemany("INSERT INTO search_records (n, tbl, space, id) VALUES (?, ?, ?, ?)", fresh)
    places = ", ".join("?" * len(searched.columns))
    db.executemany(f"INSERT INTO {words} (rowid, {columns}) VALUES (?, {places})", put)
    return len(old)


def _texts(doc: str | None, searched: Searched) -> list[str]:
    try:
        return texts_at({} if doc is None else parse(doc), searched.fields)
    except (ValueError, TypeError, AttributeError):
        return [""] * len(searched.fields)  # a row that is damaged, and repaired by the next verification
