"""Changes that were refused or set aside: looked at, queued again, or dropped."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..data.change import Key, check_fields, check_id, read_change, space_key
from ..data.clock import tick
from ..data.stamp import stamp_over
from ..errors import InvalidWrite, NoSuchChange
from .choice import check_kept
from .ids import new_id
from .outbox import Queued, insert, keys_of, select
from .records import load
from .restamp import resettle, rewrite
from .store import get_meta, set_meta


def stopped(db: sqlite3.Connection, change_id: str, alone: bool = False) -> list[Queued]:
    """A refused or set-aside change with the rest of its batch. Raises NoSuchChange."""
    found: list[Queued] = []
    with suppress(InvalidWrite):
        found = select(db, "change_id = ? AND state <> 'pending'", (check_id("the changeId", change_id),))
    if not found:
        raise NoSuchChange(f"no refused change has the id {change_id!r}.")
    return found if alone else select(db, "batch = ?", (found[0].batch,))


def drop(db: sqlite3.Connection, change_id: str, alone: bool) -> list[Key]:
    """Removes a stopped change for good, with the rest of its batch unless `alone`. Raises NoSuchChange.

    Their records fall back to what the server confirmed. Returns the records to show again.
    """
    changes = stopped(db, change_id, alone)
    db.executemany("DELETE FROM outbox WHERE change_id = ?", [(change.change_id,) for change in changes])
    keys = keys_of(changes)
    resettle(db, keys)
    return keys


def requeue_stopped(
    db: sqlite3.Connection, change_id: str, wall: int, fields: Mapping[str, Any], space: str | None, alone: bool
) -> tuple[str, list[Key]]:
    """Queues a stopped change again, with the rest of its batch unless `alone`; see `requeue`.

    Returns its new changeId and the records to show again. Raises NoSuchChange, InvalidWrite.
    """
    changes = stopped(db, change_id, alone)
    place = [change.change_id for change in changes].index(change_id)
    target = space_key(changes[place].space) if space is None else space
    edits = {change_id: check_fields(fields, target)} if fields else {}
    fresh = requeue(db, changes, wall, edits, space)[place]
    moved = [] if space is None else [(c.table, space, c.id) for c in changes]
    return fresh, keys_of(changes) + moved


def requeue(
    db: sqlite3.Connection,
    changes: Sequence[Queued],
    wall: int,
    edits: Mapping[str, Mapping[str, Any]],
    space: str | None,
) -> list[str]:
    """Queues stopped changes again, as one batch under new changeIds, at the end of the queue.

    `edits`: {changeId: {field: value}}, written over the change's own fields with new stamps.
    `space`: where they go instead, or None for where they went. Returns the new changeIds.
    """
    clock = get_meta(db, "clock", 0)
    queued: list[tuple[str, Key, str]] = []
    for change in changes:
        old = read_change(change.change, get_meta(db, "client"))
        target = old.space if space is None else space_key(space)
        key = (old.table, target, old.record)
        if space is not None:
            check_kept(db, [key])
        edited = edits.get(change.change_id, {})
        clock = tick(clock, wall)
        at = stamp_over(load(db, [key], 0)[key].view, edited, clock)
        stamps = {name: register.at for name, register in old.registers.items()} | dict.fromkeys(edited, at)
        values = {name: register.value for name, register in old.registers.items()} | dict(edited)
        change_id = new_id(wall)
        body = rewrite(db, change, old, change_id, target, values, stamps)
        queued.append((change_id, key, body))
    db.executemany("DELETE FROM outbox WHERE change_id = ?", [(change.change_id,) for change in changes])
    insert(db, queued)
    set_meta(db, "clock", clock)
    resettle(db, keys_of(changes) + [key for _, key, _ in queued])
    return [change_id for change_id, _, _ in queued]
