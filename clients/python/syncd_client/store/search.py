"""Full-text search: FTS5 finds the records, and a rule that every client has says which are first.

Triggers note which records read differently, also where a package writes that knows of no search. What is noted is in
the index before the transaction ends. Words are made in `data/searched.py`, so FTS5 takes them as they are.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from ..data.change import check_asked
from ..data.record import Record
from ..data.searched import RULE, Asked, asked_words, texts_at
from ..data.values import parse
from ..errors import InvalidQuery, StoreFailed
from .records import find_record
from .store import Store

Search = Mapping[str, Sequence[str]]
_Part = tuple[str, list[str]]  # of a statement, with what stands for its parameters
_PREFIX = "search_words_"
_CHUNK = 500  # records that are brought up to date at once
_MOST_FIELDS = 16
_LEAVES_NOTHING = (3, 42)  # the SQLite since which FTS5 leaves nothing of what is deleted in its index
_NAMES = "tbl TEXT NOT NULL, space TEXT NOT NULL, id TEXT NOT NULL"
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
_NOTED = f"SELECT max(n) FROM (SELECT n FROM search_changed ORDER BY n LIMIT {_CHUNK})"
_CHANGED = """SELECT c.space, c.id, s.n, r.doc, {held}
FROM (SELECT DISTINCT space, id FROM search_changed WHERE n <= :noted AND tbl = :table) c
LEFT JOIN search_records s ON s.tbl = :table AND s.space = c.space AND s.id = c.id
LEFT JOIN records r ON r.tbl = :table AND r.space = c.space AND r.id = c.id AND r.deleted = 0
LEFT JOIN {words} w ON w.rowid = s.n"""


class Searched(NamedTuple):
    """A table that is searched: its fields, the first one first, and the table of FTS5 that has their words."""

    fields: tuple[str, ...]
    words: str

    @property
    def columns(self) -> list[str]:
        """One for each field."""
        return [f"f{n}" for n in range(len(self.fields))]


class SearchIndex:
    """The index of a file, with which the store's transactions end."""

    def settle(self, db: sqlite3.Connection) -> None:
        """Brings the index up to what the transaction has changed, some records at once."""
        tables: dict[str, Searched] = {}
        while (noted := db.execute(_NOTED).fetchone()[0]) is not None:
            tables = tables or held(db)
            for table, searched in tables.items():
                _renew(db, table, searched, noted)
            db.execute("DELETE FROM search_changed WHERE n <= ?", (noted,))

    def scrub(self, db: sqlite3.Connection) -> None:
        """What was deleted leaves the index's pages, where FTS5 has not seen to that."""
        if sqlite3.sqlite_version_info < _LEAVES_NOTHING:
            for searched in held(db).values():
                db.execute(f"INSERT INTO {searched.words} ({searched.words}) VALUES ('optimize')")


def declare(store: Store, search: Search | None) -> None:
    """Makes the index of these tables, and removes those of others. None: leaves all.

    Raises InvalidQuery, StoreFailed where SQLite has no FTS5.
    """
    wanted = None if search is None else {table: _read(table, fields) for table, fields in search.items()}
    with store.read() as db:
        before = held(db)
        able = bool(before or wanted) and _has_fts5(db)
    if wanted and not able:
        raise StoreFailed("this SQLite has no FTS5, which a search needs.", remedy="Use a Python whose SQLite has it.")
    if wanted is not None and wanted != before:
        with store.write() as db:
            _declare(db, wanted)
    if able:
        store.beside = SearchIndex()
        with store.write():  # what a package wrote that knows of no search
            pass


def held(db: sqlite3.Connection) -> dict[str, Searched]:
    """The tables of a file that are searched, by name."""
    if not _is_there(db):
        return {}
    rows = db.execute("SELECT tbl, fields, words FROM search_tables").fetchall()
    return {table: Searched(tuple(json.loads(fields)), words) for table, fields, words in rows}


def _declare(db: sqlite3.Connection, wanted: Mapping[str, Searched]) -> None:
    before = held(db)  # another process may have been here
    for statement in _TABLES:
        db.execute(statement)
    for table, searched in before.items():
        if wanted.get(table) != searched:
            db.execute("DELETE FROM search_tables WHERE tbl = ?", (table,))
            db.execute("DELETE FROM search_records WHERE tbl = ?", (table,))
            db.execute(f"DROP TABLE {searched.words}")
    for table, searched in wanted.items():
        if before.get(table) != searched:
            columns, name = ", ".join(searched.columns), searched.words
            # ASCII folds nothing that is folded already, and takes every other letter as it is.
            db.execute(
                f"CREATE VIRTUAL TABLE {name} USING fts5({columns}, tokenize='ascii', detail=none, columnsize=0)"
            )
            with suppress(sqlite3.OperationalError):  # an older SQLite: see `scrub`
                db.execute(f"INSERT INTO {name} ({name}, rank) VALUES ('secure-delete', 1)")
            db.execute("INSERT INTO search_tables VALUES (?, ?, ?)", (table, json.dumps(searched.fields), name))
            db.execute(
                """INSERT INTO search_changed (tbl, space, id)
                SELECT tbl, space, id FROM records WHERE tbl = ? AND deleted = 0""",
                (table,),
            )
    SearchIndex().settle(db)


def _renew(db: sqlite3.Connection, table: str, searched: Searched, noted: int) -> None:
    """Puts the words of the records that were noted up to `noted`, as they stand, in the place of those they had."""
    words, columns = searched.words, ", ".join(searched.columns)
    asked = _CHANGED.format(held=", ".join(f"w.{column}" for column in searched.columns), words=words)
    rows = db.execute(asked, {"noted": noted, "table": table}).fetchall()
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


def _texts(doc: str | None, searched: Searched) -> list[str]:
    try:
        return texts_at({} if doc is None else parse(doc), searched.fields)
    except (ValueError, TypeError, AttributeError):
        return [""] * len(searched.fields)  # a row that is damaged, and repaired by the next verification


def find(store: Store, table: str, space: str | None, text: str, limit: int | None) -> list[Record]:
    """The records of a table that have every word of a text, best first. `space`: None searches every space.

    Raises InvalidQuery.
    """
    if not isinstance(text, str):
        raise InvalidQuery("what is searched for is text.")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 0):
        raise InvalidQuery("limit counts from 0.")
    asked = asked_words(text)
    with store.read() as db:
        stale = _is_there(db) and db.execute("SELECT 1 FROM search_changed LIMIT 1").fetchone() is not None
        if not stale:
            return _find(db, check_asked("the table", table), space, asked, limit)
    with store.write() as db:  # another package has written, or another process has declared it just now
        SearchIndex().settle(db)
        return _find(db, table, space, asked, limit)


def _find(
    db: sqlite3.Connection, table: str, space: str | None, asked: Sequence[Asked], limit: int | None
) -> list[Record]:
    searched = held(db).get(table)
    if searched is None:
        raise InvalidQuery(f"no search of {table} is declared: open the replica with search={{{table!r}: [fields]}}.")
    if not asked:
        return []
    points, hits = [_points(searched, one) for one in asked], [_hits(searched, one) for one in asked]
    sql = f"""SELECT r.space, r.id FROM {searched.words} w JOIN search_records r ON r.n = w.rowid
    WHERE {searched.words} MATCH ? AND (? IS NULL OR r.space = ?)
    ORDER BY {_sum(points)} DESC, {_sum(hits)} DESC, r.id, r.space LIMIT ?"""
    match = " ".join(f'"{one.word}"{"*" if one.begins else ""}' for one in asked)
    given = [text for _, texts in points + hits for text in texts]
    found = db.execute(sql, (match, space, space, *given, -1 if limit is None else limit)).fetchall()
    records = (find_record(db, (table, place, record), deleted=False) for place, record in found)
    return [record for record in records if record is not None]


def _sum(parts: Sequence[_Part]) -> str:
    return " + ".join(sql for sql, _ in parts)


def _points(searched: Searched, one: Asked) -> _Part:
    """The points of a word's best place: more where its field stands earlier, and one more where it is whole there."""
    texts = [f" {one.word} ", f" {one.word}"][: 1 + one.begins]
    cases = [
        f"WHEN instr({column}, ?) THEN {2 * (len(searched.fields) - place) + 1 - less}"
        for place, column in enumerate(searched.columns)
        for less in range(len(texts))
    ]
    return f"CASE {' '.join(cases)} ELSE 0 END", texts * len(searched.fields)


def _hits(searched: Searched, one: Asked) -> _Part:
    """How often a word is there."""
    counted = f" {one.word}" if one.begins else f" {one.word} "
    each = [f"(length({column}) - length(replace({column}, ?, ''))) / {len(counted)}" for column in searched.columns]
    return " + ".join(each), [counted] * len(each)


def _read(table: str, fields: Iterable[str]) -> Searched:
    check_asked("the table", table)
    if not isinstance(fields, list | tuple) or not 0 < len(set(map(str, fields))) == len(fields) <= _MOST_FIELDS:
        raise InvalidQuery(f"{table} is searched in a list of 1 to {_MOST_FIELDS} fields, each once.")
    names = tuple(check_asked("a field name", field) for field in fields)
    said = json.dumps([RULE, table, names])
    return Searched(names, _PREFIX + hashlib.sha256(said.encode()).hexdigest()[:16])


def _is_there(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'search_tables'").fetchone() is not None


def _has_fts5(db: sqlite3.Connection) -> bool:
    try:
        return db.execute("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'").fetchone() is not None
    except sqlite3.OperationalError:
        return True  # a SQLite that cannot tell
