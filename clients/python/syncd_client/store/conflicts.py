"""Conflicts, kept in the file until the application clears them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import asdict

from ..data.change import Key
from ..data.conflict import Conflict
from ..data.values import dump, parse


def keep(db: sqlite3.Connection, conflicts: Iterable[Conflict]) -> None:
    """Adds conflicts, in the order in which the server reported them."""
    db.executemany(
        "INSERT INTO conflicts (tbl, space, id, body) VALUES (?, ?, ?, ?)",
        [(c.table, c.space or "", c.id, dump(asdict(c))) for c in conflicts],
    )


def forget(db: sqlite3.Connection, keys: Iterable[Key]) -> None:
    """Removes those of these records, whose values were erased."""
    db.executemany("DELETE FROM conflicts WHERE tbl = ? AND space = ? AND id = ?", keys)


def listed(db: sqlite3.Connection) -> list[Conflict]:
    """All of them, oldest first."""
    return [Conflict(**parse(row[0])) for row in db.execute("SELECT body FROM conflicts ORDER BY number")]


def clear(db: sqlite3.Connection, those: Iterable[Conflict]) -> None:
    """Removes these, or all of them where there are none."""
    bodies = [(dump(asdict(conflict)),) for conflict in those]
    if bodies:
        db.executemany("DELETE FROM conflicts WHERE body = ?", bodies)
    else:
        db.execute("DELETE FROM conflicts")
