"""Stamps that are given a second time to the changes of a push: a clock was ahead, or two values shared one. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from msgspec import UNSET, Raw

from syncd.core.clock import format_instant, parse_instant
from syncd.protocol.messages import IncomingChange
from syncd.protocol.normalize import OPS, RECEIPT, LogRegister, NormalizedChange, Stamp, StateRegister, deletes


def greatest_base(changes: Sequence[IncomingChange], limit: int) -> int:
    """The latest of the registers that those beyond `limit` overwrote, itself below it; 0 where there is none.

    Microseconds. For changes that were normalized already, whose instants are instants.
    """
    found = 0
    for change in changes:
        for register in (change.fields or {}).values():
            if isinstance(register.base, str) and register.at is not None and parse_instant(register.at) > limit:
                base = parse_instant(register.base)
                found = max(found, base if base < limit else 0)
    return found


def lower_stamps(normalized: Sequence[NormalizedChange], client: str, limit: int, start: int) -> list[dict[str, str]]:
    """Lowers every stamp beyond `limit` to `start` and on, keeping their order. Microseconds.

    Returns, for each change, the adjusted instants by field. What the device had sent stays with the register.
    """
    # Stamps are compared as the text they have; one the device left out comes after all it gave.
    late = sorted({(r.sent is None, r.at) for p in normalized if p.hi > limit for r in p.f.values()})
    given: dict[tuple[bool, str], Stamp] = {}
    # A stamp of this push that is ahead by less than the limit stays, and what came after it must stay after it.
    kept = (parse_instant(r.at) for p in normalized for r in p.f.values() if r.sent is not None)
    start = max(start, max((micros for micros in kept if micros <= limit), default=0) + 1)
    for key in late:
        if key[0] or parse_instant(key[1]) > limit:
            micros = start + len(given)
            given[key] = Stamp(format_instant(micros), micros)
    adjusted: list[dict[str, str]] = []
    for change in normalized:
        found = {name: given.get((register.sent is None, register.at)) for name, register in change.f.items()}
        times = {name: stamp.text for name, stamp in found.items() if stamp is not None}
        _date(change, client, times)
        adjusted.append(times)
    return adjusted


def separate_stamps(
    changes: Sequence[NormalizedChange], client: str, twice: Set[tuple[int, str]]
) -> list[dict[str, str]]:
    """Gives the later of two writes of a register with one stamp a later one, so that a stamp names one value.

    `changes` are of one record, in their order; `twice` has the (place, field) of those whose stamp is another write's
    in the log. Returns, for each change, the new instants by field. What the device had sent stays with the register.
    """
    given: dict[tuple[str, str], bytes] = {}
    taken = {(place, name, changes[place].f[name].at) for place, name in twice}
    moved: list[dict[str, str]] = []
    for place, change in enumerate(changes):
        times: dict[str, str] = {}
        for name, register in change.f.items():
            at, value = register.at, bytes(register.value)
            # The last instant stays: it is ahead of every clock, so it is lowered first.
            while at < RECEIPT.text and ((place, name, at) in taken or given.get((name, at), value) != value):
                at = format_instant(parse_instant(at) + 1)
            if at != register.at:
                times[name] = at
            given[name, at] = value
        _date(change, client, times)
        moved.append(times)
    return moved


def _date(change: NormalizedChange, client: str, times: Mapping[str, str]) -> None:
    """Gives registers of a change other stamps."""
    for name, at in times.items():
        register = change.f[name]
        sent = register.at if register.sent is UNSET else register.sent
        value = register.value
        if change.o == OPS["delete"] and name == "deletedAt" and deletes(change.f):
            value = Raw(b'"%s"' % at.encode())
        change.f[name] = LogRegister(value, at, sent)
        change.g[name] = StateRegister(value, at, client, sent)
    if times:
        all_times = [parse_instant(r.at) for r in change.f.values()]
        change.lo, change.hi = min(all_times), max(all_times)
