"""Undo of this device's last batch: what it wrote is written back, where nobody else has written since. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .change import Key, Write
from .merge import TOMBSTONE, Register, Registers, is_deleted


class Image:
    """The registers that a batch replaced, record by record. A register that was not there is None."""

    def __init__(self) -> None:
        self.held: dict[Key, dict[str, Register | None]] = {}
        self.written: dict[Key, dict[str, int]] = {}
        self.made: set[Key] = set()

    def note(self, key: Key, view: Registers, names: Mapping[str, Any], at: int) -> None:
        """Takes note of a write of these fields at a stamp (us), before it happens."""
        if key not in self.held:
            self.held[key], self.written[key] = {}, {}
            if not view:
                self.made.add(key)
        for name in names:
            if name not in self.written[key]:
                self.held[key][name] = view.get(name)
            self.written[key][name] = at

    def way_back(self, now: Mapping[Key, Registers], client: str, extra: Mapping[str, Any]) -> list[Write]:
        """The writes that undo the batch. `now`: its records as they are.

        What somebody else has written since stays. A field that was not there becomes null, a record that was
        not there is deleted, unless others have a part in it by now.
        """
        found = [self._record(key, now.get(key, {}), client, extra) for key in self.held]
        return [write for write in found if write is not None]

    def _record(self, key: Key, now: Registers, client: str, extra: Mapping[str, Any]) -> Write | None:
        ours = {name for name, at in self.written[key].items() if name in now and _is(now[name], client, at)}
        before = {name: register.value for name, register in self.held[key].items() if register is not None}
        values = {name: before.get(name) for name in ours if name != TOMBSTONE}
        made = key in self.made and bool(ours) and ours >= set(now)
        if made or (TOMBSTONE in ours and before.get(TOMBSTONE) is not None):
            return Write("delete", *key, {} if made else values, extra)
        if TOMBSTONE in ours and is_deleted(now):
            values[TOMBSTONE] = None
        return Write("update", *key, values, extra) if values else None


def _is(register: Register, client: str, at: int) -> bool:
    """Whether a register is still the one that was written; the server may have lowered its stamp."""
    return register.client == client and at in (register.at, register.sent)
