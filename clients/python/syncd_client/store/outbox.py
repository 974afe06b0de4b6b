"""The durable queue of what the server does not have yet: packed into pushes, acknowledged, refused, set aside."""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..data.change import Key, Packed, Refusal, space_key
from ..data.values import dump, parse

State = Literal["pending", "acked", "rejected", "aside"]

_INSERT = """INSERT INTO outbox (change_id, batch, tbl, space, id, state, body)
VALUES (?, ?, ?, ?, ?, 'pending', ?)"""
_NEXT = """SELECT change_id, batch, body, space FROM outbox WHERE state = 'pending' AND position <= ?
ORDER BY position LIMIT ?"""
_BATCH = """SELECT change_id, batch, body, space FROM outbox WHERE state = 'pending' AND batch = ? ORDER BY position"""
_REJECT = """UPDATE outbox SET state = 'rejected', code = ?, detail = ?, field = ?
WHERE state = 'pending' AND change_id = ?"""
_REST = """SELECT change_id FROM outbox WHERE state = 'pending'
AND batch = (SELECT batch FROM outbox WHERE change_id = ?)"""
_REMOVE = "DELETE FROM outbox WHERE change_id = ?"
_UNANSWERED = """SELECT change_id FROM outbox WHERE state = 'pending'
AND change_id IN (SELECT value FROM json_each(?))"""
_ACK = "UPDATE outbox SET state = 'acked', code = NULL, detail = NULL, field = NULL WHERE change_id = ?"
_ASIDE = """UPDATE outbox SET state = 'aside', code = coalesce(code, 'space_left'),
detail = coalesce(detail, 'The space was left before this was sent.')
WHERE space = ?"""
_STOP_BATCH = """UPDATE outbox SET state = 'rejected', code = 'batch_rejected',
detail = 'Goes together with a change to a space that was left.' WHERE state = 'pending' AND batch = ?"""
_COLUMNS = "SELECT change_id, batch, tbl, space, id, state, body, code, detail, field FROM outbox"


@dataclass(frozen=True, slots=True)
class Queued:
    """A change in the outbox, as the application sees it.

    `state`: "pending" waits to be sent, "rejected" was refused for the reason in `code` and `detail`, where the server
    said so because of one `field`, "aside" belonged to a space that was left. `change` is the wire form, a dictionary.
    """

    change_id: str
    batch: str
    table: str
    space: str | None
    id: str
    state: State
    change: dict[str, Any]
    code: str | None
    detail: str | None
    field: str | None = None


def insert(db: sqlite3.Connection, queued: Sequence[tuple[str, Key, str]]) -> None:
    """Queues (changeId, record, body) as one batch, to be sent after all that is queued."""
    batch = queued[0][0]
    db.executemany(_INSERT, [(change_id, batch, *key, body) for change_id, key, body in queued])


def pack(db: sqlite3.Connection, last: int, most: int, size: int) -> list[Packed]:
    """The next push: whole batches from the front of the queue, up to `last`, in the order written.

    As many as fit into `most` changes and `size` bytes; at least one batch, whatever its size.
    """
    rows = db.execute(_NEXT, (last, most + 1)).fetchall()
    if not rows:
        return []
    end = _cut(rows, most, size)
    if end == 0:
        rows = db.execute(_BATCH, (rows[0][1],)).fetchall()
        end = len(rows)
    return [Packed(*row) for row in rows[:end]]


def _cut(rows: Sequence[tuple[str, str, str, str]], most: int, size: int) -> int:
    """The end of the push: the last border between two batches before it is full."""
    total, border = 0, 0
    for index, (_, batch, body, _) in enumerate(rows):
        if index > 0 and rows[index - 1][1] != batch:
            border = index
        total += len(body.encode()) + 1
        if index >= most or total > size:
            return border
    return len(rows)


def reject(db: sqlite3.Connection, refusals: Mapping[str, Refusal]) -> list[str]:
    """Sets changes aside as refused, by changeId, each with the rest of its batch.

    Returns the changeIds that were set aside.
    """
    rejected: list[str] = []
    for change_id, why in refusals.items():
        if db.execute(_REJECT, (*why, change_id)).rowcount:
            rejected.append(change_id)
    for change_id, why in refusals.items():
        with_it = Refusal("batch_rejected", f"Goes together with {change_id}, which was refused: {why.code}.")
        rest = [row[0] for row in db.execute(_REST, (change_id,)).fetchall()]
        db.executemany(_REJECT, [(*with_it, other) for other in rest])
        rejected += rest
    return rejected


def unanswered(db: sqlite3.Connection, pushed: Sequence[Packed]) -> set[str]:
    """Those of a push that still wait for its answer: others came back already, or their space was left since."""
    ids = dump([change.change_id for change in pushed])
    return {row[0] for row in db.execute(_UNANSWERED, (ids,))}


def unread(db: sqlite3.Connection, pushed: Iterable[Packed]) -> set[str]:
    """Those of a push whose spaces the server has not said the user is in, or not since they were left.

    What is read of such a space begins after the push, perhaps, and with what is alive then: of a deletion from between
    the two nothing would ever come.
    """
    named = {space_key(row[0]) for row in db.execute("SELECT id FROM spaces")}
    return {change.change_id for change in pushed if change.space not in named}


def waiting(db: sqlite3.Connection) -> bool:
    """Whether anything is on its way to the server, or its server's form not here yet."""
    return db.execute("SELECT 1 FROM outbox WHERE state IN ('pending', 'acked') LIMIT 1").fetchone() is not None


def remove(db: sqlite3.Connection, change_ids: Iterable[str | None]) -> None:
    """Removes changes that the server has, by its answer or because it sent them back."""
    db.executemany(_REMOVE, [(change_id,) for change_id in change_ids])


def acknowledge(db: sqlite3.Connection, change_ids: Sequence[str], here: Container[str], more: bool) -> list[Key]:
    """Takes note that the server had these changes from an earlier push, whose answer was lost, that they lost, or that
    their space is still to be read.

    How it holds them (it may have lowered their stamps), or what they lost to, is in the delta and nowhere else. While
    there is `more` of that to come they stay on top of their records, if those are still `here`. Returns the records to
    show again.
    """
    remove(db, [change_id for change_id in change_ids if change_id not in here])
    db.executemany(_ACK, [(change_id,) for change_id in change_ids])
    if more and not change_ids:
        return []
    keys = db.execute("SELECT tbl, space, id FROM outbox WHERE state = 'acked'").fetchall()
    if keys and not more:
        db.execute("DELETE FROM outbox WHERE state = 'acked'")
    return keys


def set_aside(db: sqlite3.Connection, space: str) -> None:
    """Keeps the unsent writes of a space that was left, and stops batches they were part of."""
    db.execute("DELETE FROM outbox WHERE space = ? AND state = 'acked'", (space,))
    batches = db.execute("SELECT DISTINCT batch FROM outbox WHERE space = ? AND state = 'pending'", (space,)).fetchall()
    db.execute(_ASIDE, (space,))
    db.executemany(_STOP_BATCH, batches)


def listed(db: sqlite3.Connection, state: State | None = None) -> list[Queued]:
    """The queue in the order written, or the part of it in one state."""
    return select(db, "? IS NULL OR state = ?", (state, state))


def of_record(db: sqlite3.Connection, key: Key) -> list[Queued]:
    """The changes of one record."""
    return select(db, "tbl = ? AND space = ? AND id = ?", key)


def select(db: sqlite3.Connection, condition: str, params: Sequence[Any] = ()) -> list[Queued]:
    """The changes that fulfil a condition of SQL, in the order written."""
    return [_read(row) for row in db.execute(f"{_COLUMNS} WHERE {condition} ORDER BY position", params)]


def _read(row: Sequence[Any]) -> Queued:
    change_id, batch, table, space, record, state, body, *why = row
    return Queued(change_id, batch, table, space or None, record, state, parse(body), *why)


def keys_of(changes: Iterable[Queued]) -> list[Key]:
    """The records that changes in the queue are about."""
    return [(change.table, change.space or "", change.id) for change in changes]
