"""Full-text search: FTS5 finds the records, and a rule that every client has says which are first.

Words are made in `data/searched.py`, so FTS5 takes them as they are. The index is that of `search_index.py`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from ..data.change import check_asked
from ..data.record import Record
from ..data.searched import Asked, asked_words
from ..errors import InvalidQuery, StoreFailed
from .records import find_record
from .search_index import (
    Damaged,
    Searched,
    SearchIndex,
    declare_tables,
    freshen,
    held,
    is_as,
    is_sound,
    is_stale,
    retire,
)
from .store import Store

Search = Mapping[str, Sequence[str]]
_Part = tuple[str, list[str]]  # of a statement, with what stands for its parameters
_MOST_FIELDS = 16
_MOST_FOUND = 2**63 - 1
_TRIES = 3
_PAUSE = 0.25  # of the time that a part has taken: others wait for the file's lock in turns


def declare(store: Store, search: Search | None) -> None:
    """Makes the index of these tables, and removes those of others. None: leaves all.

    Where it cannot be made now, as without room, a search makes it, or says why not. Raises InvalidQuery, StoreFailed
    where SQLite has no FTS5.
    """
    wanted = None if search is None else _read_all(search)
    with store.read() as db:
        before = held(db)
        able = bool(before or wanted) and _has_fts5(db)
    if wanted and not able:
        raise StoreFailed("this SQLite has no FTS5, which a search needs.", remedy="Use a Python whose SQLite has it.")
    store.beside = index = SearchIndex()
    index.unmade = wanted
    with suppress(StoreFailed):
        _keep(store, index)
        if able:
            _check(store)
            _freshen(store)
            if store.is_unscrubbed():  # a process was killed before it had done so
                store.scrub()


def _keep(store: Store, index: SearchIndex) -> None:
    """What is declared is kept in the file."""
    wanted = index.unmade
    if wanted is not None:
        with store.read() as db:
            kept = _is_kept(db, wanted)
        if not kept:
            with store.write() as db:
                declare_tables(db, wanted)
        index.unmade = None


def _is_kept(db: sqlite3.Connection, wanted: Mapping[str, tuple[str, ...]]) -> bool:
    before = held(db)
    return before.keys() == wanted.keys() and all(is_as(before[one], one, wanted[one]) for one in wanted)


def _check(store: Store) -> None:
    """An index that does not find what is in it is made again."""
    with store.read() as db:
        lost = [table for table, searched in held(db).items() if searched.words and not is_sound(db, searched)]
    if lost:
        with store.write() as db:
            retire(db, lost)


def _freshen(store: Store) -> None:
    """Brings the index up to date, in transactions between which others may write. Raises StoreFailed."""
    made: set[str] = set()
    over, removed = False, False
    while not over:
        began = time.monotonic()
        with store.write() as db:
            try:
                over, old = freshen(db, made)
            except Damaged as error:
                raise _damaged() from error
        removed = removed or old
        if not over:
            time.sleep((time.monotonic() - began) * _PAUSE)
    if removed:  # what another package has removed it may have erased
        store.scrub()


def _damaged() -> StoreFailed:
    return StoreFailed("the index of the search is damaged, and so is what was made in its place.")


def find(store: Store, table: str, space: str | None, text: str, limit: int | None) -> list[Record]:
    """The records of a table that have every word of a text, best first. `space`: None searches every space.

    In a transaction that the caller has begun, what it has written so far is found too. Raises InvalidQuery,
    StoreFailed.
    """
    if not isinstance(text, str):
        raise InvalidQuery("what is searched for is text.")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or not 0 <= limit <= _MOST_FOUND):
        raise InvalidQuery("limit counts from 0.")
    asked, index = (check_asked("the table", table), space, asked_words(text), limit), store.beside
    unmade = index.unmade if isinstance(index, SearchIndex) else None
    with store.joined() as begun:
        if begun is not None:
            if unmade is not None and not _is_kept(begun, unmade):
                declare_tables(begun, unmade)  # as long as this transaction is: it may be undone
            return _find_within(begun, *asked)
    if isinstance(index, SearchIndex) and unmade is not None:
        _keep(store, index)
    for _ in range(_TRIES):
        with store.read() as db:
            found = None if is_stale(db) else _find_sound(db, *asked)
        if found is not None:
            return found
        _check(store)
        _freshen(store)
    with store.write() as db:  # another package writes all the time
        return _find_within(db, *asked)


def _find_within(
    db: sqlite3.Connection, table: str, space: str | None, asked: Sequence[Asked], limit: int | None
) -> list[Record]:
    made: set[str] = set()
    try:
        while is_stale(db):
            freshen(db, made)
    except Damaged as error:
        raise _damaged() from error
    return _find(db, table, space, asked, limit)


def _find_sound(
    db: sqlite3.Connection, table: str, space: str | None, asked: Sequence[Asked], limit: int | None
) -> list[Record] | None:
    """None: the index does not find what is in it."""
    try:
        found = _find(db, table, space, asked, limit)
    except sqlite3.Error:
        if is_sound(db, held(db)[table]):
            raise
        return None
    return found if found or is_sound(db, held(db)[table]) else None


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


def _read_all(search: Search) -> dict[str, tuple[str, ...]]:
    if not isinstance(search, Mapping):
        raise InvalidQuery("search has for each table the list of its fields.")
    return {table: _read(table, fields) for table, fields in search.items()}


def _read(table: str, fields: Iterable[str]) -> tuple[str, ...]:
    check_asked("the table", table)
    if not isinstance(fields, list | tuple) or not 0 < len(set(map(str, fields))) == len(fields) <= _MOST_FIELDS:
        raise InvalidQuery(f"{table} is searched in a list of 1 to {_MOST_FIELDS} fields, each once.")
    return tuple(check_asked("a field name", field) for field in fields)


def _has_fts5(db: sqlite3.Connection) -> bool:
    try:
        return db.execute("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'").fetchone() is not None
    except sqlite3.OperationalError:
        return True  # a SQLite that cannot tell
