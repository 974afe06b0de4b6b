"""Applies a whole answer of the server inside one transaction: changes, results, memberships, cursor."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from ..data.change import Change, Key, Packed, Refusal, read_change, space_key
from ..data.clock import format_instant
from ..data.events import SpacesChanged
from ..data.merge import TOMBSTONE
from ..data.values import dump, parse
from ..store import conflicts, outbox, restamp, roles
from ..store.choice import chosen, follow, remove_strays
from ..store.records import drop_unconfirmed, load, save, settle
from ..store.store import UNSCRUBBED, get_meta, set_meta
from .partial import only
from .reply import Page, Result
from .report import Applied
from .unseen import Unseen, own_edits

_MOST_ACKNOWLEDGED = 16


def apply_page(db: sqlite3.Connection, page: Page, pushed: Sequence[Packed], checked: Sequence[str] = ()) -> Applied:
    """Everything an answer says; the last page of a restart ends it. `checked`: which of the `acknowledged` the server
    was asked about, and has.

    Spaces that were left go first: one that was made again under its old name is left and joined at once.
    """
    strayed, client, round_ = remove_strays(db), get_meta(db, "client"), get_meta(db, "round", 0)
    page, own, strays = _kept(db, page, pushed, client)
    purged = _follow_spaces(db, page)
    taken = [result for result in page.results if result.status in ("applied", "superseded")]
    here, confirmed = _here(db, pushed, taken, client)
    # What lost is nothing of the record: what it lost to is here, or comes, or is a deletion from before this was.
    kept = {result.change_id for result in taken if result.status == "superseded"}
    if page.more:  # of a space that is still to be read all comes that is true of it
        kept |= outbox.unread(db, pushed) & {result.change_id for result in taken}
    repeated = [result.change_id for result in page.results if result.status == "duplicate"]
    unseen = Unseen(client, own_edits(db, page.changes, client))
    answered = [*outbox.acknowledge(db, [*repeated, *kept], here, page.more), *strays]
    won = [change for change in confirmed if change.change_id not in kept]
    rows = load(db, [*map(_key, (*page.changes, *confirmed)), *answered], round_)
    unseen.answered(confirmed, taken, {key: row.base for key, row in rows.items()})
    for key in answered:
        rows[key].write({})  # what is unsent is laid on top again
    for change in page.changes:
        unseen.arrived(change, rows[_key(change)].base)
        rows[_key(change)].confirm(change.registers, round_, whole=change.whole)
    for change in won:
        rows[_key(change)].confirm(change.registers, round_)
    outbox.remove(db, [*own, *(result.change_id for result in taken if result.change_id not in kept)])
    rejected = outbox.reject(db, _refusals(page.results))
    dated = _date_stopped(db, confirmed, pushed)
    settle(db, rows)
    changed = save(db, rows)
    changed += restamp.resettle(db, [key for key in dated if key not in rows]) + purged
    conflicts.forget(db, erased := {_key(change) for change in page.changes if change.erased})
    found = [c for c in (*page.conflicts, *unseen.found) if (c.table, c.space or "", c.id) not in erased]
    conflicts.keep(db, found)
    _note_acknowledged(db, page, checked)
    whole, gone = _move_on(db, page), _is_to_scrub(db, bool(erased or page.left))
    return Applied(rejected, changed, whole or strayed, conflicts=found, erased=gone, spaces=_keep_roles(db, page))


def _kept(
    db: sqlite3.Connection, page: Page, pushed: Sequence[Packed], client: str
) -> tuple[Page, list[str | None], list[Key]]:
    """What of a page the replica keeps; which own changes came back with it; and the records that it does not keep of
    which something unsent was sent."""
    choice = chosen(db)
    own = [change for change in page.changes if change.client == client and change.change_id]
    ids = [change.change_id for change in own]
    if choice.whole:
        return page, ids, []
    sent = [_key(change) for change in (*own, *(read_change(parse(packed.body)) for packed in pushed))]
    # Of a space that was never kept nothing is here to go, but for what was written before the choice.
    here = {row[0] for row in db.execute("SELECT DISTINCT space FROM outbox")} if page.left else set()
    page = replace(page, left=[space for space in page.left if choice.names(space) or space in here])
    return only(page, choice), ids, [key for key in dict.fromkeys(sent) if not choice.has(key[0], key[1])]


def _is_to_scrub(db: sqlite3.Connection, gone: bool) -> bool:
    """Whether something is to leave the file. It is noted: a process may be killed before it has done so."""
    if gone:
        set_meta(db, UNSCRUBBED, 1)
    return gone


def acknowledged(db: sqlite3.Connection) -> list[str]:
    """The changeIds of acknowledged changes that the cursor may stand before, one a push.

    A server whose database went back to between the two knows the cursor, but not them.
    """
    held: list[str] = parse(get_meta(db, "acknowledged", "[]"))
    return held


def _note_acknowledged(db: sqlite3.Connection, page: Page, checked: Sequence[str]) -> None:
    held = acknowledged(db)
    taken = [result.change_id for result in page.results if result.status == "applied"]
    if page.more:
        kept = [*held, *taken[-1:]][-_MOST_ACKNOWLEDGED:]
    else:
        kept = [change for change in held if change not in checked]
    if kept != held:
        set_meta(db, "acknowledged", dump(kept))


def _refusals(results: Sequence[Result]) -> dict[str, Refusal]:
    """Why changes were refused, by changeId.

    Changes that were too much for their push stay queued where others of it were settled: they have their turn in the
    next.
    """
    refused = [result for result in results if result.status == "rejected"]
    if any(result not in refused or result.code != "push_too_large" for result in results):
        refused = [result for result in refused if result.code != "push_too_large"]
    return {result.change_id: Refusal(result.code, result.detail, result.field) for result in refused}


def _here(
    db: sqlite3.Connection, pushed: Sequence[Packed], taken: Sequence[Result], client: str
) -> tuple[set[str], list[Change]]:
    """Those of a push whose records belong here: not those of a space that was left since, and not joined again. And
    the ones of them that the server has taken, as it holds them."""
    spaces = {row[0] for row in db.execute("SELECT id FROM spaces")} if pushed else set()
    waiting = outbox.unanswered(db, pushed) if pushed else set()
    here = {c.change_id for c in pushed if not c.space or c.space in spaces or c.change_id in waiting}
    sent, choice = {change.change_id: change for change in pushed}, chosen(db)
    won = [_confirmed(r, sent[r.change_id], client) for r in taken if r.change_id in here]
    return here, [change for change in won if choice.has(change.table, change.space)]


def _move_on(db: sqlite3.Connection, page: Page) -> bool:
    """Takes the cursor of a page that was applied. Returns whether that was the end of a restart."""
    if page.cursor is not None:
        set_meta(db, "cursor", page.cursor)
        follow(db)
    restarted = not page.more and bool(get_meta(db, "restarting", 0))
    if restarted:
        finish_restart(db, page.unreadable)
    clear_trouble(db)
    return restarted


def _keep_roles(db: sqlite3.Connection, page: Page) -> SpacesChanged | None:
    """Keeps what a page that was applied says of the user's spaces; None where nothing of them is otherwise."""
    told = roles.keep(db, page.roles, page.unreadable)
    if page.roles_until is not None:
        set_meta(db, "roles", page.roles_until)
    joined = tuple(space for space in page.joined if space_key(space))
    left = tuple(space for space in page.left if space_key(space))
    return SpacesChanged(joined, left, told) if joined or left or told else None


def clear_trouble(db: sqlite3.Connection) -> None:
    """The server was reached: nothing but the next sync stands between a write and the server."""
    db.execute("DELETE FROM meta WHERE key = 'trouble'")


def note_trouble(db: sqlite3.Connection, kind: str, code: str, detail: str) -> None:
    """Notes the reason why nothing is synced now, for `status.explain`. `kind`: offline, busy, forbidden, refused."""
    set_meta(db, "trouble", dump({"kind": kind, "code": code, "detail": detail}))


def _key(change: Change) -> Key:
    return change.table, change.space, change.record


def _confirmed(result: Result, sent: Packed, client: str) -> Change:
    """The own change as the server holds it: a stamp that it lowered is adopted."""
    change = read_change(parse(sent.body), client)
    for field, at in result.at.items():
        held = change.registers.get(field)
        if held is not None and held.at != at:
            lowered = held._replace(at=at, sent=held.at)
            if change.op == "delete" and field == TOMBSTONE:
                lowered = lowered._replace(value=format_instant(at))
            change.registers[field] = lowered
    return change


def _date_stopped(db: sqlite3.Connection, confirmed: Sequence[Change], pushed: Sequence[Packed]) -> list[Key]:
    """Lowers the stamps of changes that stay here and that a clock ahead gave, below those that were taken after."""
    given = {c.change_id: [r.at for r in c.registers.values() if r.sent and r.sent > r.at] for c in confirmed}
    stamps = [at for found in given.values() for at in found]
    if not stamps:
        return []
    first = place = min(stamps) - 1
    dates: dict[str, int] = {}
    for change in pushed:
        place = max(given.get(change.change_id, []), default=place)
        dates[change.change_id] = place
    return restamp.date_stopped(db, max(stamps), dates, first)


def _follow_spaces(db: sqlite3.Connection, page: Page) -> list[Key]:
    gone = [key for space in page.left if space_key(space) for key in purge_space(db, space)]
    db.executemany("INSERT OR IGNORE INTO spaces VALUES (?)", [(space,) for space in page.joined])
    return gone


def purge_space(db: sqlite3.Connection, space: str) -> list[Key]:
    """Deletes the copy of a space that was left, whose records it returns. What was not sent yet is kept aside."""
    outbox.set_aside(db, space)
    gone: list[Key] = db.execute("SELECT tbl, space, id FROM records WHERE space = ?", (space,)).fetchall()
    db.execute("DELETE FROM records WHERE space = ?", (space,))
    db.execute("DELETE FROM conflicts WHERE space = ?", (space,))
    db.execute("DELETE FROM spaces WHERE id = ?", (space,))
    roles.forget(db, space)
    return gone


def finish_restart(db: sqlite3.Connection, unreadable: Sequence[str]) -> None:
    """Everything has come again: what did not come is gone from the server, and goes here too."""
    drop_unconfirmed(db, get_meta(db, "round", 0))
    roles.forget_others(db, unreadable)
    set_meta(db, "restarting", 0)
