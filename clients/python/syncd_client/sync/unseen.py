"""Writes over what their writer had not seen, found while an answer is applied: conflicts of this device."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..data.change import Change, Key, read_change
from ..data.clock import format_instant
from ..data.conflict import Conflict
from ..data.merge import TOMBSTONE, Register, Registers, is_deleted, wins
from ..store import outbox
from .reply import Result


def own_edits(db: sqlite3.Connection, changes: Iterable[Change], client: str) -> Mapping[Key, Sequence[Change]]:
    """This device's edits, not confirmed yet, of the records that others' deletions among `changes` are of."""
    keys = {(c.table, c.space, c.record) for c in changes if _deletion(c, client) is not None}
    return {
        key: [
            read_change(row.change, client)
            for row in outbox.select(db, "tbl = ? AND space = ? AND id = ? AND state IN ('pending', 'acked')", key)
        ]
        for key in keys
    }


@dataclass(slots=True)
class Unseen:
    """The conflicts of an answer. `edits`: as `own_edits` has them; a `base`: what was confirmed of a record."""

    client: str
    edits: Mapping[Key, Sequence[Change]]
    found: list[Conflict] = field(default_factory=list)
    _hidden: set[Key] = field(default_factory=set)

    def answered(self, changes: Sequence[Change], results: Sequence[Result], bases: Mapping[Key, Registers]) -> None:
        """What the server says that own changes were written over."""
        said = {result.change_id: result.overwrote for result in results}
        deletions: dict[Key, tuple[Register, list[Change]]] = {}
        for change in changes:
            key = (change.table, change.space, change.record)
            for item in said[str(change.change_id)]:
                theirs = Register(item.value, item.at, item.by)
                if item.field in change.registers:
                    self._tell("overwrote", change, item.field, change.registers[item.field], theirs)
                elif item.field == TOMBSTONE and not is_deleted(bases[key]):
                    deletions.setdefault(key, (theirs, []))[1].append(change)
        for deletion, edits in deletions.values():
            self._hide(edits, deletion)

    def arrived(self, change: Change, base: Registers) -> None:
        """A change of the log, before it is confirmed: by this device over another's, or the other way round."""
        for name, seen in change.unseen.items():
            held, register = base.get(name), change.registers[name]
            if held is None or held.client == register.client or held.at <= seen or not wins(register, held):
                continue
            if held.client == self.client:
                self._tell("overwritten", change, name, held, register)
            elif register.client == self.client:
                self._tell("overwrote", change, name, register, held)
        deletion = _deletion(change, self.client)
        if deletion is not None and not is_deleted(base) and wins(deletion, base.get(TOMBSTONE, Register(None, 0, ""))):
            self._hide(self.edits.get((change.table, change.space, change.record), ()), deletion)

    def _hide(self, edits: Sequence[Change], deletion: Register) -> None:
        edits = [edit for edit in edits if TOMBSTONE not in edit.registers]
        key = (edits[0].table, edits[0].space, edits[0].record) if edits else None
        if key is None or key in self._hidden:
            return
        self._hidden.add(key)
        written = {name: register for edit in edits for name, register in edit.registers.items()}
        values = {name: register.value for name, register in written.items()}
        mine = Register(values, max(register.at for register in written.values()), self.client)
        self._tell("deleted", edits[0], TOMBSTONE, mine, deletion)

    def _tell(self, kind: str, change: Change, name: str, mine: Register, theirs: Register) -> None:
        self.found.append(
            Conflict(
                table=change.table,
                space=change.space or None,
                id=change.record,
                field=name,
                client_value=mine.value,
                client_timestamp=format_instant(mine.at),
                server_value=theirs.value,
                server_timestamp=format_instant(theirs.at),
                kind=kind,
                by=theirs.client,
            )
        )


def _deletion(change: Change, client: str) -> Register | None:
    """The register by which a change says that another has deleted the record."""
    tombstone = change.registers.get(TOMBSTONE)
    return tombstone if tombstone is not None and tombstone.value is not None and tombstone.client != client else None
