"""The durable queue of what the server does not have yet: written, packed into pushes, refused, mended."""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .change import Change, check_fields, new_id, read_change, space_key, write_change
from .clock import LATEST, MAX_AHEAD, format_instant, tick
from .errors import BatchTooLarge, NoSuchChange
from .merge import TOMBSTONE, Register, Registers
from .records import Key, Row, load, save, settle
from .store import get_meta, set_meta
from .values import dump, parse

if TYPE_CHECKING:
    from .undo import Image

State = Literal["pending", "acked", "rejected", "aside"]

_INSERT = """INSERT INTO outbox (change_id, batch, tbl, space, id, state, body)
VALUES (?, ?, ?, ?, ?, 'pending', ?)"""
_NEXT = """SELECT change_id, batch, body, space FROM outbox WHERE state = 'pending' AND position <= ?
ORDER BY position LIMIT ?"""
_BATCH = """SELECT change_id, batch, body, space FROM outbox WHERE state = 'pending' AND batch = ? ORDER BY position"""
_REJECT = """UPDATE outbox SET state = 'rejected', code = ?, detail = ?
WHERE state = 'pending' AND change_id = ?"""
_REST = """SELECT change_id FROM outbox WHERE state = 'pending'
AND batch = (SELECT batch FROM outbox WHERE change_id = ?)"""
_FORGET = "DELETE FROM outbox WHERE change_id = ?"
_UNANSWERED = """SELECT change_id FROM outbox WHERE state = 'pending'
AND change_id IN (SELECT value FROM json_each(?))"""
_ACK = "UPDATE outbox SET state = 'acked', code = NULL, detail = NULL WHERE change_id = ?"
_ASIDE = """UPDATE outbox SET state = 'aside', code = coalesce(code, 'space_left'),
detail = coalesce(detail, 'The space was left before this was sent.')
WHERE space = ?"""
_STOP_BATCH = """UPDATE outbox SET state = 'rejected', code = 'batch_rejected',
detail = 'Goes together with a change to a space that was left.' WHERE state = 'pending' AND batch = ?"""
_COLUMNS = "SELECT change_id, batch, tbl, space, id, state, body, code, detail FROM outbox"


@dataclass(frozen=True, slots=True)
class Write:
    """What the application asked for, checked, not yet stamped. A delete has no values of its own."""

    op: Literal["insert", "update", "delete"]
    table: str
    space: str
    record: str
    values: Mapping[str, Any]
    extra: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Queued:
    """A change in the outbox, as the application sees it.

    `state`: "pending" waits to be sent, "rejected" was refused for the reason in `code` and `detail`,
    "aside" belonged to a space that was left. `change` is the wire form, a dictionary.
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


class Packed(NamedTuple):
    """A change on its way in a push."""

    change_id: str
    batch: str
    body: str
    space: str


def enqueue(
    db: sqlite3.Connection, writes: Sequence[Write], wall: int, limits: tuple[int, int], image: Image
) -> list[str]:
    """Stamps the writes, shows them in the records and queues them as one batch. Returns their changeIds.

    `limits`: most changes and most bytes of a batch. `image` takes note of what they replace. Runs inside the
    caller's transaction.
    """
    keys = [(write.table, write.space, write.record) for write in writes]
    round_, clock, client = get_meta(db, "round", 0), get_meta(db, "clock", 0), get_meta(db, "client")
    rows = load(db, keys, round_)
    if _mend_stopped(db, rows, wall):
        rows = load(db, keys, round_)
    queued: list[tuple[str, Key, str]] = []
    for key, write in zip(keys, writes, strict=True):
        clock = tick(clock, wall)
        names = [*write.values, TOMBSTONE] if write.op == "delete" else write.values
        at = _stamp_over(rows[key].view, names, clock)
        values = {TOMBSTONE: format_instant(at), **write.values} if write.op == "delete" else write.values
        bases = _others(rows[key].base, values, client)
        image.note(key, rows[key].view, values, at)
        rows[key].write({name: Register(value, at, client) for name, value in values.items()})
        change_id = new_id(wall)
        queued.append((change_id, key, _body(change_id, write, values, at, bases)))
    _check_size([body for _, _, body in queued], limits)
    _insert(db, queued)
    save(db, rows)
    set_meta(db, "clock", clock)
    return [change_id for change_id, _, _ in queued]


def _others(confirmed: Registers, names: Iterable[str], client: str) -> dict[str, int]:
    """The stamps of others' registers that a write replaces: a stamp that the server lowers stays later than those."""
    return {name: confirmed[name].at for name in names if name in confirmed and confirmed[name].client != client}


def _body(change_id: str, write: Write, values: Mapping[str, Any], at: int, bases: Mapping[str, int]) -> str:
    return write_change(
        change_id=change_id,
        space=write.space,
        table=write.table,
        record=write.record,
        op=write.op,
        values=values,
        at=at,
        bases=bases,
        extra=write.extra,
    )


def _stamp_over(view: Registers, names: Iterable[str], clock: int) -> int:
    """A write is later than what it overwrites, also where this device's clock is far behind or has come back, and
    never has a stamp that the server has lowered there: it would be taken for that write."""
    held = [view[name] for name in names if name in view]
    at = min(max([clock, *(register.at + 1 for register in held)]), LATEST)
    while at < LATEST and any(register.sent == at for register in held):
        at += 1
    return at


def _mend_stopped(db: sqlite3.Connection, rows: Mapping[Key, Row], wall: int) -> bool:
    """What was refused with a stamp of a clock that was mended since must not take a later write along into the future.

    Returns whether there was any.

    Where this clock is behind, a write may be far ahead of it, but not of what it was written over.
    """
    layered = [row for row in rows.values() if row.layered]
    unsent = [(register.at, row.base.get(name)) for row in layered for name, register in row.view.items()]
    ahead = any(at - MAX_AHEAD > max(wall, seen.at if seen else 0) for at, seen in unsent)
    if ahead:
        resettle(db, date_stopped(db, wall + MAX_AHEAD, {}, wall))
    return ahead


def _check_size(bodies: Sequence[str], limits: tuple[int, int]) -> None:
    changes, size = limits
    if len(bodies) == 1:
        return
    if len(bodies) > changes:
        raise BatchTooLarge(f"the batch has {len(bodies)} changes; one push takes {changes}.")
    total = sum(len(body.encode()) for body in bodies)
    if total > size:
        raise BatchTooLarge(f"the batch has {total} bytes; one push takes {size}.")


def _insert(db: sqlite3.Connection, queued: Sequence[tuple[str, Key, str]]) -> None:
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
    """Where the push ends: the last border between two batches before it is full."""
    total, border = 0, 0
    for index, (_, batch, body, _) in enumerate(rows):
        if index > 0 and rows[index - 1][1] != batch:
            border = index
        total += len(body.encode()) + 1
        if index >= most or total > size:
            return border
    return len(rows)


def reject(db: sqlite3.Connection, refusals: Mapping[str, tuple[str, str]]) -> list[str]:
    """Sets changes aside as refused, {changeId: (code, detail)}, each with the rest of its batch.

    Returns the changeIds that were set aside.
    """
    told: list[str] = []
    for change_id, (code, detail) in refusals.items():
        if db.execute(_REJECT, (code, detail, change_id)).rowcount:
            told.append(change_id)
    for change_id, (code, _) in refusals.items():
        why = f"Goes together with {change_id}, which was refused: {code}."
        rest = [row[0] for row in db.execute(_REST, (change_id,)).fetchall()]
        db.executemany(_REJECT, [("batch_rejected", why, other) for other in rest])
        told += rest
    return told


def unanswered(db: sqlite3.Connection, pushed: Sequence[Packed]) -> set[str]:
    """Those of a push that still wait for its answer: others came back already, or their space was left since."""
    ids = dump([change.change_id for change in pushed])
    return {row[0] for row in db.execute(_UNANSWERED, (ids,))}


def unread(db: sqlite3.Connection, pushed: Iterable[Packed]) -> set[str]:
    """Those of a push whose spaces the server has not said the user is in, or not since they were left.

    What is read of such a space begins after the push, perhaps, and with what is alive then: of a deletion from between
    the two nothing would ever come.
    """
    told = {space_key(row[0]) for row in db.execute("SELECT id FROM spaces")}
    return {change.change_id for change in pushed if change.space not in told}


def waiting(db: sqlite3.Connection) -> bool:
    """Whether anything is on its way to the server, or its server's form not here yet."""
    return db.execute("SELECT 1 FROM outbox WHERE state IN ('pending', 'acked') LIMIT 1").fetchone() is not None


def forget(db: sqlite3.Connection, change_ids: Iterable[str | None]) -> None:
    """What the server has, by its answer or because it sent it back, need not be sent any more."""
    db.executemany(_FORGET, [(change_id,) for change_id in change_ids])


def acknowledge(db: sqlite3.Connection, change_ids: Sequence[str], here: Container[str], more: bool) -> list[Key]:
    """Takes note that the server had these changes from an earlier push, whose answer was lost, that they lost, or that
    their space is still to be read.

    How it holds them (it may have lowered their stamps), or what they lost to, is in the delta and nowhere else. While
    there is `more` of that to come they stay on top of their records, if those are still `here`. Returns the records to
    show anew.
    """
    forget(db, [change_id for change_id in change_ids if change_id not in here])
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
    rows = db.execute(f"{_COLUMNS} WHERE ? IS NULL OR state = ? ORDER BY position", (state, state))
    return [_queued(row) for row in rows]


def of_record(db: sqlite3.Connection, key: Key) -> list[Queued]:
    """What of one record is in the queue."""
    rows = db.execute(f"{_COLUMNS} WHERE tbl = ? AND space = ? AND id = ? ORDER BY position", key)
    return [_queued(row) for row in rows]


def _queued(row: Sequence[Any]) -> Queued:
    change_id, batch, table, space, record, state, body, code, detail = row
    return Queued(change_id, batch, table, space or None, record, state, parse(body), code, detail)


def stopped(db: sqlite3.Connection, change_id: str, alone: bool = False) -> list[Queued]:
    """A refused or set-aside change with the rest of its batch. Raises NoSuchChange."""
    rows = db.execute(f"{_COLUMNS} WHERE change_id = ? AND state <> 'pending'", (change_id,)).fetchall()
    if not rows:
        raise NoSuchChange(f"no refused change has the id {change_id!r}.")
    if not alone:
        rows = db.execute(f"{_COLUMNS} WHERE batch = ? ORDER BY position", (rows[0][1],)).fetchall()
    return [_queued(row) for row in rows]


def date_stopped(db: sqlite3.Connection, clock: int, dates: Mapping[str, int], otherwise: int) -> list[Key]:
    """Lowers the stamps of refused and set-aside changes that lie beyond `clock`: it was ahead when they were made.

    `dates`: {changeId: stamp} of those known, else `otherwise`. Returns the records to show anew.
    """
    rows = db.execute(f"{_COLUMNS} WHERE state IN ('rejected', 'aside') ORDER BY position").fetchall()
    dated: list[Queued] = []
    for change in map(_queued, rows):
        old = read_change(change.change, get_meta(db, "client"))
        date = dates.get(change.change_id, otherwise)
        stamps = {name: date if r.at > clock else r.at for name, r in old.registers.items()}
        if any(stamps[name] != register.at for name, register in old.registers.items()):
            values = {name: register.value for name, register in old.registers.items()}
            body = _rewrite(db, change, old, change.change_id, old.space, values, stamps)
            db.execute("UPDATE outbox SET body = ? WHERE change_id = ?", (body, change.change_id))
            dated.append(change)
    return keys_of(dated)


def drop(db: sqlite3.Connection, changes: Iterable[Queued]) -> None:
    """Forgets changes for good: their records fall back to what the server confirmed."""
    changes = list(changes)
    db.executemany("DELETE FROM outbox WHERE change_id = ?", [(change.change_id,) for change in changes])
    resettle(db, keys_of(changes))


def requeue_stopped(
    db: sqlite3.Connection, change_id: str, wall: int, fields: Mapping[str, Any], space: str | None, alone: bool
) -> tuple[str, list[Key]]:
    """Queues a stopped change again, with the rest of its batch unless `alone`; see `requeue`.

    Returns its new changeId and the records to show anew. Raises NoSuchChange, InvalidWrite.
    """
    changes = stopped(db, change_id, alone)
    place = [change.change_id for change in changes].index(change_id)
    target = space_key(changes[place].space) if space is None else space
    edits = {change_id: check_fields(fields, target)} if fields else {}
    fresh = requeue(db, changes, wall, edits, space)[place]
    moved = [] if space is None else [(c.table, space, c.id) for c in changes]
    return fresh, keys_of(changes) + moved


def keys_of(changes: Iterable[Queued]) -> list[Key]:
    """The records that changes in the queue are about."""
    return [(change.table, change.space or "", change.id) for change in changes]


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
        edited = edits.get(change.change_id, {})
        clock = tick(clock, wall)
        at = _stamp_over(load(db, [key], 0)[key].view, edited, clock)
        stamps = {name: register.at for name, register in old.registers.items()} | dict.fromkeys(edited, at)
        values = {name: register.value for name, register in old.registers.items()} | dict(edited)
        change_id = new_id(wall)
        body = _rewrite(db, change, old, change_id, target, values, stamps)
        queued.append((change_id, key, body))
    db.executemany("DELETE FROM outbox WHERE change_id = ?", [(change.change_id,) for change in changes])
    _insert(db, queued)
    set_meta(db, "clock", clock)
    resettle(db, keys_of(changes) + [key for _, key, _ in queued])
    return [change_id for change_id, _, _ in queued]


def _rewrite(
    db: sqlite3.Connection,
    change: Queued,
    old: Change,
    change_id: str,
    space: str,
    values: Mapping[str, Any],
    stamps: Mapping[str, int],
) -> str:
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
        bases=_others(confirmed, values, get_meta(db, "client")),
        extra={name: value for name, value in change.change.items() if name in kept},
    )


def resettle(db: sqlite3.Connection, keys: Sequence[Key]) -> list[Key]:
    """Shows again what the queue says, after it was changed by hand. Returns the records that read differently now."""
    rows = load(db, keys, get_meta(db, "round", 0))
    for row in rows.values():
        row.write({})
    settle(db, rows)
    return save(db, rows)
