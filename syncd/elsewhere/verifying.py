"""Reads the origin once more and compares each row with what the server holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Set
from typing import Any

import msgspec

from syncd.elsewhere.arrivals import Arrival, follow
from syncd.elsewhere.writing import Passage, portions
from syncd.store.elsewhere import Feeds, Held

AT_A_TIME = 1000


class HeldRegister(msgspec.Struct):
    """A register of the state; the value is compared, so it is decoded."""

    value: Any
    at: str
    clientId: str


class Findings(msgspec.Struct):
    """By table: changes whose every field is what the server has; those that newer writes covered; and those that
    the server does not have, or has otherwise."""

    same: Counter[str] = msgspec.field(default_factory=Counter)
    newer: Counter[str] = msgspec.field(default_factory=Counter)
    different: Counter[str] = msgspec.field(default_factory=Counter)


_HELD = msgspec.json.Decoder(dict[str, HeldRegister])


async def verify(
    passage: Passage, feeds: Feeds, refused: Set[str], step: Callable[[int], None], tell: Callable[[str], None]
) -> Findings:
    """Compares everything that can be imported, but not the events that the log `refused`. `tell` hears each
    difference, as a sentence."""
    findings = Findings()
    async for portion in portions(passage):
        for start in range(0, len(portion.arrivals), AT_A_TIME):
            part = portion.arrivals[start : start + AT_A_TIME]
            personal = await feeds.personal([one.owned for one in part]) if passage.origin.moves else {}
            follow(part, personal)
            held = await feeds.held([_asked(arrival) for arrival in part])
            for place, arrival in enumerate(part):
                if arrival.line.eventId not in refused:
                    twice = arrival.strayed and place in personal and personal[place] is None
                    _compare(arrival, held.get(place), twice, findings, tell)
        step(portion.rows)
    return findings


def _asked(arrival: Arrival) -> tuple[str, str, str, str, str, str, str]:
    line = arrival.line
    return line.spaceId, line.appId, line.table, line.id, line.userId, line.clientId, arrival.row.c


def _compare(arrival: Arrival, held: Held | None, twice: bool, findings: Findings, tell: Callable[[str], None]) -> None:
    line = arrival.line
    fault: list[str] = ["is not there"]
    newer = False
    if held is not None and held.registers is not None:
        fault, newer = _faults(arrival, held)
    if twice:
        fault.append("is in the personal space, too")
    if fault:
        findings.different[line.table] += 1
        tell(f"{arrival.where}: {line.table} {line.id} {', '.join(fault)}")
    else:
        (findings.newer if newer else findings.same)[line.table] += 1


def _faults(arrival: Arrival, held: Held) -> tuple[list[str], bool]:
    """What of a change the server does not have, and whether something newer is there instead."""
    registers = _HELD.decode(str(held.registers))
    faults, newer = [], False
    for name, register in arrival.row.f.items():
        there = registers.get(name)
        mine = (register.at, arrival.line.clientId.encode())
        if there is None:
            faults.append(f"has no field {name}")
        elif (there.at, there.clientId.encode()) > mine:
            newer = True
        elif not _equal(bytes(register.value), there.value):
            if (there.at, there.clientId.encode()) == mine and held.change is not None and held.seq != held.change:
                newer = True  # a later row wrote it with the same stamp: of two such the later one stands
            else:
                faults.append(f"differs in {name}")
    return faults, newer


def _equal(source: bytes, there: Any) -> bool:
    """Whether two JSON values mean the same; numbers as doubles."""
    value = msgspec.json.decode(source)
    return bool(value == there) and isinstance(value, bool) == isinstance(there, bool)
