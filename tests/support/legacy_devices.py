"""The sync engines of the first generation as a model: what was seen of them on the wire, and nothing else.

All date the whole `data` of an insert that they get by its `updatedAt`, else its `createdAt`, else their own clock. Of
an update they read `fields`. A register with a dot is a member of an object. A cursor is kept a collection, and that of
a push, which is for all, goes into it; one engine has it go into all. They read the status, `serverChanges` and
`syncedUntil`: 200 clears what was pending, anything else leaves it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

from syncd.core.clock import format_instant, parse_instant
from tests.support.wire import Device

Json = dict[str, Any]
FIRST = "1970-01-01T00:00:00.000Z"


class LegacyDevice:
    """What the engines do. `clock` gives microseconds; `wire` sends their requests. `dates_edits`: its application
    keeps `updatedAt` in its records."""

    creates_from_data: ClassVar[bool]
    pulls_first: ClassVar[bool]
    as_text: ClassVar[bool] = False  # compares instants as the text they are
    all_at_once: ClassVar[bool] = False  # pushes with the oldest of its cursors, as text; the answer's is for all

    def __init__(self, wire: Device, clock: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self.wire, self._clock, self._last = wire, clock, 0
        self.records: dict[str, dict[str, Json]] = {}
        self._stamps: dict[tuple[str, str, str], int | str] = {}
        self.pending: list[Json] = []
        self.cursors: dict[str, str] = {}
        self.tables: tuple[str, ...] = ()  # of its application; those that it never pulled as well
        self.page: Json = {}  # what its pulls say of their size
        self.dates_edits = True
        self.space: str | None = None  # the one that its user is in: what is written now carries its id

    # -- what its user does ------------------------------------------------------------------------------

    def insert(self, table: str, record: str, **data: Any) -> None:
        """A new record, with its time."""
        now = self.now()
        whole = {"id": record, **data, "createdAt": now, **self._dated(now)}
        for name, value in whole.items():
            self._write(table, record, name, value, now, own=True)
        self._send(table, record, "insert", data=whole)

    def edit(self, table: str, record: str, **fields: Any) -> None:
        """Fields of a record, or members of objects: `edit("tasks", "t1", **{"cfg.theme": "dark"})`."""
        now = self.now()
        written = {**fields, **self._dated(now)}
        for name, value in written.items():
            self._write(table, record, name, value, now, own=True)
        self._send(table, record, "update", fields={n: {"value": v, "at": now} for n, v in written.items()})

    def delete(self, table: str, record: str) -> None:
        """The record is marked, and stays."""
        now = self.now()
        self._write(table, record, "deletedAt", now, now, own=True)
        self._send(table, record, "delete", deletedAt=now)

    def _dated(self, now: str) -> Json:
        return {"updatedAt": now} if self.dates_edits else {}

    def shown(self, table: str) -> dict[str, Json]:
        """What its user sees: the living records, without the times that every edit moves."""
        return {
            record: {name: value for name, value in values.items() if name not in ("deletedAt", "updatedAt")}
            for record, values in self.records.get(table, {}).items()
            if values.get("deletedAt") is None
        }

    # -- what goes over the wire -------------------------------------------------------------------------

    def sync(self, table: str) -> None:
        """One exchange for a collection, in this engine's order."""
        for step in (self.pull, self.push) if self.pulls_first else (self.push, self.pull):
            step(table)

    def push(self, table: str) -> None:
        """All that is pending, in one push, with a collection's cursor."""
        if not self.pending:
            return
        tables = {table, *self.tables} if self.all_at_once else {table}
        since = min(self.cursors.get(name, FIRST) for name in tables)
        answer = self.wire.send(*self.pending, since=since, pull=True)
        if answer.status_code == 200:
            self.pending.clear()
            self._take(tables, answer.json())

    def pull(self, table: str) -> None:
        """One page of a collection; whether there is more is not looked at."""
        answer = self.wire.ask(self.cursors.get(table, FIRST), collection=table, **self.page)
        if answer.status_code == 200:
            self._take({table}, answer.json())

    def _send(self, table: str, record: str, op: str, **more: Any) -> None:
        named = {} if self.space is None else {"spaceId": self.space}
        self.pending.append({"table": table, "id": record, "op": op, **more, **named})

    def _take(self, tables: set[str], answer: Json) -> None:
        for change in answer["serverChanges"]:
            self._apply(change)
        for table in tables:
            known = "" if self.all_at_once else self.cursors.get(table, "")
            self.cursors[table] = max(known, answer["syncedUntil"])

    # -- what it makes of a change -----------------------------------------------------------------------

    def _apply(self, change: Json) -> None:
        table, record, data = change["table"], change["id"], change.get("data") or {}
        match change["op"]:
            case "insert":
                at = data.get("updatedAt") or data.get("createdAt") or self.now()
                self._create(table, data)
                for name, value in data.items():
                    self._write(table, record, name, value, at)
            case "update":
                if record not in self.records.get(table, {}):
                    self._create(table, data if self.creates_from_data and data else {"id": record})
                for name, register in change["fields"].items():
                    at = register["updatedAt"] if self.as_text else register.get("at") or register["updatedAt"]
                    self._write(table, record, name, register["value"], at)
            case "delete":
                self._write(table, record, "deletedAt", change["deletedAt"], change["deletedAt"])

    def _create(self, table: str, data: Json) -> None:
        self.records.setdefault(table, {}).setdefault(data["id"], dict(data))  # a record without an id: KeyError

    def _write(self, table: str, record: str, name: str, value: Any, at: str, *, own: bool = False) -> None:
        """`own`: its user wrote it, and sees it, however old that is."""
        stamp: int | str = at if self.as_text else parse_instant(at)
        if not own and stamp < self._stamps.get((table, record, name), stamp):  # type: ignore[operator]
            return
        self._stamps[table, record, name] = stamp
        held = self.records.setdefault(table, {}).setdefault(record, {"id": record})
        *path, last = name.split(".")
        for member in path:
            if not isinstance(held.get(member), dict):
                held[member] = {}
            held[member] = held = dict(held[member])
        held[last] = value

    def now(self) -> str:
        """An instant that is later than all before it, in milliseconds as JavaScript has them."""
        self._last = max(self._last + 1000, self._clock() // 1000 * 1000)
        return f"{format_instant(self._last)[:23]}Z"


class DexieEngine(LegacyDevice):
    """The web application's: pushes, then pulls; makes a record that it lacks from an update's `data`."""

    creates_from_data, pulls_first = True, False


class TextEngine(DexieEngine):
    """The web application's, as it was published: makes a record that it lacks from an update's `fields`."""

    creates_from_data, as_text, all_at_once = False, True, True


class LocalStore(LegacyDevice):
    """The small library: pulls, then pushes; makes a record that it lacks from an update's `fields`."""

    creates_from_data, pulls_first = False, True


def in_milliseconds(fields: Json) -> Json:
    """The registers of a change, as both generations get them: theirs have milliseconds, twice."""
    plain = {}
    for name, register in fields.items():
        assert register.get("updatedAt", register["at"]) == register["at"]
        plain[name] = {key: value for key, value in register.items() if key != "updatedAt"}
        plain[name]["at"] = f"{register['at'][:23]}Z"
    return plain
