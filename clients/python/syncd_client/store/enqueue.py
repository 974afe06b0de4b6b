"""Stamps what the application wrote and queues it, in the transaction that shows it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..data.change import Key, Write, write_change
from ..data.clock import MAX_AHEAD, format_instant, tick
from ..data.merge import TOMBSTONE, Register
from ..data.stamp import replaced, stamp_over
from ..data.undo import Image
from ..data.values import dump
from ..errors import BatchTooLarge, InvalidWrite, NoSuchRecord
from .choice import check_kept
from .ids import new_id
from .outbox import insert
from .records import Row, load, save
from .restamp import date_stopped, resettle
from .roles import check_writer
from .store import get_meta, set_meta

Plan = Callable[[sqlite3.Connection], Sequence[Write]]  # what to write, decided in the transaction that writes it


def enqueue(
    db: sqlite3.Connection, writes: Sequence[Write], wall: int, limits: tuple[int, int, int], image: Image
) -> list[str]:
    """Stamps the writes, shows them in the records and queues them as one batch. Returns their changeIds.

    `limits`: most changes and most bytes of a batch, most bytes of a change. `image` takes note of what they replace.
    Runs inside the caller's transaction. Raises BatchTooLarge, InvalidWrite, NotAllowed, NotReplicated, NoSuchRecord.
    """
    if not writes:
        return []
    check_writer(db, [write.space for write in writes])
    keys = [(write.table, write.space, write.record) for write in writes]
    check_kept(db, keys)
    round_, clock, client = get_meta(db, "round", 0), get_meta(db, "clock", 0), get_meta(db, "client")
    rows = load(db, keys, round_)
    if _fix_stopped(db, rows, wall):
        rows = load(db, keys, round_)
    queued: list[tuple[str, Key, str]] = []
    for key, write in zip(keys, writes, strict=True):
        if write.op != "insert" and not write.upsert and not rows[key].view:
            raise NoSuchRecord(f"there is no {write.table} {write.record!r} here.")
        clock = tick(clock, wall)
        names = [*write.values, TOMBSTONE] if write.op == "delete" else write.values
        at = stamp_over(rows[key].view, names, clock)
        values = {TOMBSTONE: format_instant(at), **write.values} if write.op == "delete" else write.values
        bases = replaced(rows[key].base, values, client)
        image.note(key, rows[key].view, values, at)
        rows[key].write({name: Register(value, at, client) for name, value in values.items()})
        change_id = new_id(wall)
        body = _body(change_id, write, values, at, bases)
        check_change(body, values, limits[2])
        queued.append((change_id, key, body))
    _check_size([body for _, _, body in queued], limits)
    insert(db, queued)
    save(db, rows)
    set_meta(db, "clock", clock)
    return [change_id for change_id, _, _ in queued]


def way_back(image: Image, extra: Mapping[str, Any]) -> Plan:
    """The undo of a batch. What others wrote is looked for in the transaction, as it may come until that begins."""

    def plan(db: sqlite3.Connection) -> list[Write]:
        now = {key: row.view for key, row in load(db, image.held, get_meta(db, "round", 0)).items()}
        return image.way_back(now, get_meta(db, "client"), extra)

    return plan


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


def _fix_stopped(db: sqlite3.Connection, rows: Mapping[Key, Row], wall: int) -> bool:
    """Restamps what was refused with a stamp of a clock that was set right since. Returns whether there was any.

    It must not take a later write along into the future.

    Where this clock is behind, a write may be far ahead of it, but not of what it was written over.
    """
    layered = [row for row in rows.values() if row.layered]
    unsent = [(register.at, row.base.get(name)) for row in layered for name, register in row.view.items()]
    ahead = any(at - MAX_AHEAD > max(wall, seen.at if seen else 0) for at, seen in unsent)
    if ahead:
        resettle(db, date_stopped(db, wall + MAX_AHEAD, {}, wall))
    return ahead


def check_change(body: str, values: Mapping[str, Any], most: int) -> None:
    """Raises InvalidWrite with its largest field for a change that is larger than the server takes."""
    if len(body) * 4 <= most or (size := len(body.encode())) <= most:
        return
    largest = max(values, key=lambda name: len(dump(values[name])))
    raise InvalidWrite(f"{largest}: with it the change has {size} bytes; the server takes {most}.", field=largest)


def _check_size(bodies: Sequence[str], limits: tuple[int, int, int]) -> None:
    changes, size, _ = limits
    if len(bodies) == 1:
        return
    if len(bodies) > changes:
        raise BatchTooLarge(f"the batch has {len(bodies)} changes; one push takes {changes}.")
    total = sum(len(body.encode()) for body in bodies)
    if total > size:
        raise BatchTooLarge(f"the batch has {total} bytes; one push takes {size}.")
