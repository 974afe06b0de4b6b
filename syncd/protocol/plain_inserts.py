"""Inserts whose values all have one stamp, as rows of a table are: in the form that normalize_change gives them, in a
third of the time. Pure."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from syncd.core.ids import fault_in_id
from syncd.core.values import InvalidValue, check_value
from syncd.protocol.messages import IncomingChange
from syncd.protocol.normalize import (
    NULL,
    OPS,
    QUICK,
    Limits,
    LogRegister,
    NormalizedChange,
    Stamps,
    StateRegister,
    content_id,
)

MOST_NAMES = 4096


class PlainInserts:
    """Normalizes them one after the other, and remembers the names of tables and fields."""

    def __init__(self, limits: Limits) -> None:
        self._depth = limits.max_depth
        self._names: set[str] = set()

    def read(
        self, change: IncomingChange, client: str, stamps: Stamps, feed: tuple[str, str]
    ) -> NormalizedChange | None:
        """What normalize_change makes of it; None where it is no such insert, or something is wrong with it."""
        fields = change.fields
        if (
            not fields or change.op != "insert" or "deletedAt" in fields or change.data is not None
            or change.changeId is not None or change.schemaVersion is not None or change.actor is not UNSET
        ):  # fmt: skip
            return None
        at = next(iter(fields.values())).at
        log: dict[str, LogRegister] = {}
        state: dict[str, StateRegister] = {}
        raws = []
        try:
            stamp = stamps.of(at or "")
            if stamp.text != at or fault_in_id(change.id) or not self._good(change.table):
                return None
            for name, register in fields.items():
                value = register.value
                if register.at != at or register.base is not UNSET or not self._good(name):
                    return None
                raw = bytes(value)
                if raw[0] not in QUICK:
                    check_value(raw, self._depth)
                raws.append(raw)
                log[name] = LogRegister(value, at)
                state[name] = StateRegister(value, at, client)
        except (InvalidValue, ValueError):
            return None
        log["deletedAt"], state["deletedAt"] = LogRegister(NULL, at), StateRegister(NULL, at, client)
        values = msgspec.json.decode(b"[%b,null]" % b",".join(raws))
        content = [*feed, change.table, change.id, change.op]
        said = {name: [value, at] for name, value in zip(log, values, strict=True)}
        return NormalizedChange(
            i=1, r=change.id, o=OPS["insert"], f=log, g=state, lo=stamp.micros, hi=stamp.micros,
            c=content_id([content, said]), n=change.origin,
        )  # fmt: skip

    def _good(self, name: str) -> bool:
        if name in self._names:
            return True
        if fault_in_id(name):
            return False
        if len(self._names) < MOST_NAMES:
            self._names.add(name)
        return True
