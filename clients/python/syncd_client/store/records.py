"""Records in the file: loaded many at a time, merged in memory, saved many at a time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from ..data.change import Key, read_change
from ..data.merge import Register, Registers, is_deleted, merge, overlay
from ..data.record import Record
from ..data.values import dump, parse
from .store import get_meta

_LOAD = """SELECT r.tbl, r.space, r.id, r.round, r.doc, r.stamps, r.base
FROM json_each(?) k CROSS JOIN records r ON r.tbl = json_extract(k.value, '$[0]')
AND r.space = json_extract(k.value, '$[1]') AND r.id = json_extract(k.value, '$[2]')"""
_LOAD_ONE = """SELECT tbl, space, id, round, doc, stamps, base FROM records WHERE tbl = ? AND space = ? AND id = ?"""
_UNSENT = """SELECT o.tbl, o.space, o.id, o.body
FROM json_each(?) k CROSS JOIN outbox o ON o.tbl = json_extract(k.value, '$[0]')
AND o.space = json_extract(k.value, '$[1]') AND o.id = json_extract(k.value, '$[2]')
WHERE o.state <> 'aside' ORDER BY o.position"""
_SAVE = """INSERT INTO records (tbl, space, id, deleted, round, doc, stamps, base)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tbl, space, id) DO UPDATE SET deleted = excluded.deleted, round = excluded.round,
doc = excluded.doc, stamps = excluded.stamps, base = excluded.base"""
_READ = "SELECT doc FROM records WHERE tbl = ? AND space = ? AND id = ? AND deleted <= ?"
_REGISTERS = "SELECT doc, stamps FROM records WHERE tbl = ? AND space = ? AND id = ?"
_DELETE = "DELETE FROM records WHERE tbl = ? AND space = ? AND id = ?"
_DOC = 5  # the place of `doc` in what _SAVE takes


class Row:
    """A record in memory: what the server confirmed (`base`), and what the application sees (`view`).

    They are one and the same dictionary while nothing unsent lies on top (`layered` is false).
    """

    __slots__ = ("base", "dirty", "doc", "layered", "round", "view")

    def __init__(self, view: Registers, base: Registers | None, round_: int, doc: str | None = None) -> None:
        self.view = view
        self.doc = doc
        self.layered = base is not None
        self.base = view if base is None else base
        self.round = round_
        self.dirty = False

    def write(self, registers: Mapping[str, Register]) -> None:
        """An own write that waits in the outbox."""
        if not self.layered:
            self.view = dict(self.base)
            self.layered = True
        merge(self.view, registers)
        self.dirty = True

    def confirm(self, registers: Mapping[str, Register], round_: int, *, whole: bool = False) -> None:
        """Registers that the server has. `whole` ones, and the first of a new round, replace what was known before."""
        if whole or self.round != round_:
            self.round = round_
            self.dirty = True
            if self.layered:
                self.base = {}
            else:
                self.base = self.view = {}
        if merge(self.base, registers):
            self.dirty = True


def load(db: sqlite3.Connection, keys: Iterable[Key], round_: int) -> dict[Key, Row]:
    """The rows of all `keys`, in one statement; an empty row where the file has none."""
    rows = {key: Row({}, None, round_) for key in keys}
    statement, params = (_LOAD_ONE, next(iter(rows))) if len(rows) == 1 else (_LOAD, (dump(list(rows)),))
    found = db.execute(statement, params)
    for table, space, record, confirmed, doc, stamps, base in found:
        rows[table, space, record] = _read_row(confirmed, doc, stamps, base)
    return rows


def _read_row(confirmed: int, doc: str, stamps: str, base: str | None) -> Row:
    """A row of the file; one that is damaged has nothing confirmed, and is repaired by the next verification."""
    try:
        return Row(_join(doc, stamps), _read_base(base), confirmed, doc)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Row({}, {}, confirmed, doc)


def settle(db: sqlite3.Connection, rows: Mapping[Key, Row]) -> None:
    """Lays what is still unsent on top of what is confirmed, after either has changed."""
    layered = {key: row for key, row in rows.items() if row.layered}
    if not layered:
        return
    unsent: dict[Key, list[Registers]] = {}
    client = get_meta(db, "client")
    for table, space, record, body in db.execute(_UNSENT, (dump(list(layered)),)):
        own = read_change(parse(body), client)
        unsent.setdefault((table, space, record), []).append(own.registers)
    for key, row in layered.items():
        pending = unsent.get(key)
        row.layered = pending is not None
        row.view = row.base if pending is None else overlay(row.base, pending)
        row.dirty = True


def save(db: sqlite3.Connection, rows: Mapping[Key, Row]) -> list[Key]:
    """Writes the rows that changed; one without a register is no record. Returns those that read differently now."""
    dirty = {key: row for key, row in rows.items() if row.dirty}
    kept = {key: _encode(key, row) for key, row in dirty.items() if row.view}
    db.executemany(_SAVE, kept.values())
    db.executemany(_DELETE, [key for key in dirty if key not in kept])
    return [key for key, row in dirty.items() if row.doc != (kept[key][_DOC] if key in kept else None)]


def purge(db: sqlite3.Connection, keys: Iterable[Key]) -> None:
    """Removes rows, readable or not. What is unsent of them stays in the outbox."""
    db.executemany(_DELETE, keys)


def _encode(key: Key, row: Row) -> tuple[Any, ...]:
    doc = dump({name: register.value for name, register in row.view.items()})
    stamps = dump({name: _trim(register)[1:] for name, register in row.view.items()})
    base = dump({name: _trim(register) for name, register in row.base.items()}) if row.layered else None
    return (*key, int(is_deleted(row.view)), row.round, doc, stamps, base)


def _trim(register: Register) -> tuple[Any, ...]:
    return register[:3] if register.sent is None else register


def _read_base(base: str | None) -> Registers | None:
    return None if base is None else {name: Register(*register) for name, register in parse(base).items()}


def _join(doc: str, stamps: str) -> Registers:
    """The registers of a row from its two columns."""
    values = parse(doc)
    return {name: Register(values[name], *stamp) for name, stamp in json.loads(stamps).items()}


def find_record(db: sqlite3.Connection, key: Key, *, deleted: bool) -> Record | None:
    """A record as the application sees it; a deleted one only where `deleted` asks for it."""
    row = db.execute(_READ, (*key, deleted)).fetchone()
    return None if row is None else Record(*key, parse(row[0]))


def find_registers(db: sqlite3.Connection, key: Key) -> Registers:
    """The registers of a record; none where there is no such record."""
    row = db.execute(_REGISTERS, key).fetchone()
    return {} if row is None else _join(*row)


def all_registers(db: sqlite3.Connection) -> dict[tuple[str | None, str, str], Registers]:
    """Those of all records, {(space, table, id): registers}; the personal space is None."""
    rows = db.execute("SELECT space, tbl, id, doc, stamps FROM records ORDER BY space, tbl, id")
    return {(space or None, table, record): _join(doc, stamps) for space, table, record, doc, stamps in rows}


def drop_unconfirmed(db: sqlite3.Connection, round_: int) -> int:
    """After a restart from an empty cursor: what the server did not send again, it does not have.

    Unsent writes stay, on top of nothing. Returns how many records lost their confirmed registers.
    """
    stale = db.execute("SELECT tbl, space, id FROM records WHERE round <> ?", (round_,)).fetchall()
    rows = load(db, stale, round_)
    for row in rows.values():
        row.confirm({}, round_)
    settle(db, rows)
    save(db, rows)
    return len(stale)
