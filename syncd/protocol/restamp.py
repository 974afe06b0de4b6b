"""Stamps that are given a second time to the changes of a push: a clock was ahead, or two values shared one. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
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
    given = defaultdict[str, _InstantsGiven](_InstantsGiven)
    moved: list[dict[str, str]] = []
    for place, change in enumerate(changes):
        times: dict[str, str] = {}
        for name, register in change.f.items():
            at = parse_instant(register.at)
            found = given[name].take(at, bytes(register.value), elsewhere=(place, name) in twice)
            if found != at:
                times[name] = format_instant(found)
        _date(change, client, times)
        moved.append(times)
    return moved


class _InstantsGiven:
    """The instants of one register's writes in a push, in microseconds, each of one value. A push may give one instant
    to all of its changes, so none is looked for by going through those that are given: that would be a square."""

    def __init__(self) -> None:
        self._values: dict[int, bytes] = {}
        # Of each value, in order; and of an instant that is given, one after it up to the next that is free.
        self._places = defaultdict[bytes, list[int]](list)
        self._after: dict[int, int] = {}

    def take(self, at: int, value: bytes, *, elsewhere: bool) -> int:
        """The first instant from `at` on that no other value has. `elsewhere`: another write in the log has `at`."""
        if at < RECEIPT.micros and (elsewhere or self._values.get(at, value) != value):
            free, places = self._free(at + 1), self._places[value]
            place = bisect_left(places, at + 1)
            at = places[place] if place < len(places) and places[place] < free else free
        if self._values.get(at) != value:
            self._values[at] = value
            insort(self._places[value], at)
            # The last instant stays: it is ahead of every clock, so it is lowered first.
            if at < RECEIPT.micros:
                self._after[at] = at + 1
        return at

    def _free(self, at: int) -> int:
        """The first that is not given, from `at` on."""
        passed = []
        while at in self._after:
            passed.append(at)
            at = self._after[at]
        for one in passed:
            self._after[one] = at
        return at


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
