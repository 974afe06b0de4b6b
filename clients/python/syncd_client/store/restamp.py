"""Changes in the queue, written again: with other stamps, or another id, or for another space."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from ..data.change import Change, Key, read_change, write_change
from ..data.stamp import replaced
from .outbox import Queued, keys_of, select
from .records import load, save, settle
from .store import get_meta


def date_stopped(db: sqlite3.Connection, clock: int, dates: Mapping[str, int], otherwise: int) -> list[Key]:
    """Lowers the stamps of refused and set-aside changes that lie beyond `clock`: it was ahead when they were made.

    `dates`: {changeId: stamp} of those known, else `otherwise`. Returns the records to show again.
    """
    dated: list[Queued] = []
    for change in select(db, "state IN ('rejected', 'aside')"):
        old = read_change(change.change, get_meta(db, "client"))
        date = dates.get(change.change_id, otherwise)
        stamps = {name: date if r.at > clock else r.at for name, r in old.registers.items()}
        if any(stamps[name] != register.at for name, register in old.registers.items()):
            values = {name: register.value for name, register in old.registers.items()}
            body = rewrite(db, change, old, change.change_id, old.space, values, stamps)
            db.execute("UPDATE outbox SET body = ? WHERE change_id = ?", (body, change.change_id))
            dated.append(change)
    return keys_of(dated)


def rewrite(
    db: sqlite3.Connection,
    change: Queued,
    old: Change,
    change_id: str,
    space: str,
    values: Mapping[str, Any],
    stamps: Mapping[str, int],
) -> str:
    """The bytes of `change`, which `old` is read from, under another id, in a space, with values and stamps.

    What stands in its record by others counts as replaced by it.
    """
    kept = {"schemaVersion", "actor", "origin"}
    key = (old.table, space, old.record)
    confirmed = load(db, [key], 0)[key].base
    return write_change(
        change_id=change_id,
        space=space,
        table=old.table,
        record=old.record,
        op=old.op,
        values=values,
        at=stamps,
        bases=replaced(confirmed, values, get_meta(db, "client")),
        extra={name: value for name, value in change.change.items() if name in kept},
    )


def resettle(db: sqlite3.Connection, keys: Sequence[Key]) -> list[Key]:
    """Shows again what the queue says, after it was changed by hand. Returns the records that read differently now."""
    rows = load(db, keys, get_meta(db, "round", 0))
    for row in rows.values():
        row.write({})
    settle(db, rows)
    return save(db, rows)
