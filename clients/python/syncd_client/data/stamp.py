"""Stamps of writes, given what they overwrite. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from .clock import LATEST
from .merge import Registers


def replaced(confirmed: Registers, names: Iterable[str], client: str) -> dict[str, int]:
    """The stamps of others' registers that a write replaces: a stamp that the server lowers stays later than those."""
    return {name: confirmed[name].at for name in names if name in confirmed and confirmed[name].client != client}


def stamp_over(view: Registers, names: Iterable[str], clock: int) -> int:
    """The stamp of a write to these fields, where this device's clock says `clock`.

    A write is later than what it overwrites, also where the clock is far behind or has come back, and never has a
    stamp that the server has lowered there: it would be taken for that write. Where the last of all instants was
    lowered, it is one shortly before: there are more of those than fields.
    """
    held = [view[name] for name in names if name in view]
    at = min(max([clock, *(register.at + 1 for register in held)]), LATEST)
    while any(register.sent == at for register in held):
        at = at + 1 if at < LATEST else LATEST - len(held)
    return at
