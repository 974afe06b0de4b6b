"""Why a record is not synced, in one word and one sentence."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Literal

from .data.change import Key
from .error_codes import NO_ACCESS, TEXTS
from .store import outbox
from .store.choice import chosen, told
from .store.records import load
from .store.store import Store, get_meta

State = Literal[
    "synced",
    "waiting",
    "offline",
    "busy",
    "rejected",
    "no_permission",
    "set_aside",
    "clock_lowered",
    "not_replicated",
    "unknown",
]


@dataclass(frozen=True, slots=True)
class Status:
    """The answer of `why`. `code` is the server's where it gave one; `pending` counts unsent changes."""

    state: State
    detail: str
    code: str | None = None
    pending: int = 0


def explain(store: Store, key: Key) -> Status:
    """The state of a record between this device and the server. Raises StoreFailed."""
    with store.read() as db:
        status = _explain(db, key)
    failure = store.failure
    if failure is not None and status.pending:
        return Status("busy", f"The file cannot be written to: {failure.detail}", failure.code, status.pending)
    return status


def _explain(db: sqlite3.Connection, key: Key) -> Status:
    queued = outbox.of_record(db, key)
    pending = sum(change.state == "pending" for change in queued)
    for change in queued:
        if change.state == "rejected":
            state: State = "no_permission" if change.code in NO_ACCESS else "rejected"
            return Status(state, f"The server refused {change.change_id}: {change.detail}", change.code, pending)
    if pending:
        return _explain_waiting(db, pending)
    if any(change.state == "aside" for change in queued):
        return Status("set_aside", TEXTS["space_left"][0], "space_left")
    row = load(db, [key], 0)[key]
    choice = chosen(db)
    if not row.view and not choice.has(key[0], key[1]):
        return Status("not_replicated", told(choice, key[0], key[1]), "not_replicated")
    if not row.view:
        return Status("unknown", "There is no such record here.")
    client = get_meta(db, "client")
    if any((register.sent or 0) > register.at and register.client == client for register in row.view.values()):
        return Status("clock_lowered", "Synced; this device's clock was ahead, and the server lowered a stamp.")
    return Status("synced", "The server has everything that this device wrote.")


def _explain_waiting(db: sqlite3.Connection, pending: int) -> Status:
    trouble = json.loads(get_meta(db, "trouble", "{}"))
    code, detail = trouble.get("code"), trouble.get("detail", "")
    match trouble.get("kind"):
        case "offline":
            return Status("offline", f"The server could not be reached: {detail}", code, pending)
        case "busy":
            return Status("busy", f"The server is busy: {detail}", code, pending)
        case "forbidden":
            return Status("no_permission", f"The server refuses this device: {detail}", code, pending)
        case "refused":
            return Status("rejected", f"The server refused the last sync: {detail}", code, pending)
        case _:
            return Status("waiting", "It is sent at the next sync; a live one sends it at once.", None, pending)
