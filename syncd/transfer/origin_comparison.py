"""Reads the origin once more and compares each row with what the server holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Set

import msgspec
from msgspec import Raw

from syncd.store.imports import Feeds, StoredRecord
from syncd.transfer.foreign_changes import ImportChange, RefusedRow, follow
from syncd.transfer.import_job import ImportJob, portions, read_ahead
from syncd.transfer.keeping import kept

AT_A_TIME = 1000


class HeldRegister(msgspec.Struct):
    """A register of the state, with the text of its value."""

    value: Raw
    at: str
    clientId: str


class Findings(msgspec.Struct):
    """By table: changes whose every field is what the server has; those that newer writes covered; and those that
    the server does not have or hold, or has otherwise. Of what an import cannot write: `written`, what was written
    since it was held; `waiting`, what only the log refuses, and is held."""

    same: Counter[str] = msgspec.field(default_factory=Counter)
    newer: Counter[str] = msgspec.field(default_factory=Counter)
    different: Counter[str] = msgspec.field(default_factory=Counter)
    written: Counter[str] = msgspec.field(default_factory=Counter)
    waiting: Counter[str] = msgspec.field(default_factory=Counter)


_HELD = msgspec.json.Decoder(dict[str, HeldRegister])


async def verify(
    passage: ImportJob, feeds: Feeds, refused: Set[str], step: Callable[[int], None], tell: Callable[[str], None]
) -> Findings:
    """Compares everything that can be imported, but not the events that the log `refused`. `tell` hears each
    difference, as a sentence."""
    findings = Findings()
    async for portion in read_ahead(portions(passage)):
        await _check_held(portion.held, feeds, findings, tell)
        for start in range(0, len(portion.arrivals), AT_A_TIME):
            part = portion.arrivals[start : start + AT_A_TIME]
            personal = await feeds.personal([one.owned for one in part]) if passage.origin.legacy else {}
            follow(part, personal)
            held = await feeds.held([_asked(arrival) for arrival in part])
            missing = [
                place for place in range(len(part)) if (there := held.get(place)) is None or there.change is None
            ]
            waiting = await _waiting(part, missing, feeds) if passage.origin.legacy and missing else set()
            for place, arrival in enumerate(part):
                if arrival.line.eventId in refused:
                    continue
                if place in waiting:
                    findings.waiting[arrival.line.table] += 1
                else:
                    twice = arrival.strayed and place in personal and personal[place] is None
                    _compare(arrival, held.get(place), twice, findings, tell)
        step(portion.rows)
    return findings


async def _waiting(part: list[ImportChange], missing: list[int], feeds: Feeds) -> set[int]:
    """Which of the missing changes are held, because the log did not take them."""
    keeps = [(place, kept(part[place].found, part[place].row.c)) for place in missing]
    asked = [(place, keep) for place, keep in keeps if keep is not None]
    return {asked[n][0] for n in await feeds.kept([keep for _, keep in asked])}


async def _check_held(some: list[RefusedRow], feeds: Feeds, findings: Findings, tell: Callable[[str], None]) -> None:
    """Whether what cannot be written is held, or was written since."""
    keeps = [one.kept for one in some if one.kept is not None]
    waiting = await feeds.kept(keeps) if keeps else set()
    written = await feeds.known([(keep.user, keep.client, keep.content) for keep in keeps]) if keeps else set()
    for place, one in enumerate(some):
        if place in waiting:
            continue
        if place in written:
            findings.written[one.table] += 1
        else:
            findings.different[one.table] += 1
            tell(f"{one.where}: {one.code}, and it is not held")


def _asked(arrival: ImportChange) -> tuple[str, str, str, str, str, str, str]:
    line = arrival.line
    return line.spaceId, line.appId, line.table, line.id, line.userId, line.clientId, arrival.row.c


def _compare(
    arrival: ImportChange, held: StoredRecord | None, twice: bool, findings: Findings, tell: Callable[[str], None]
) -> None:
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


def _faults(arrival: ImportChange, held: StoredRecord) -> tuple[list[str], bool]:
    """What of a change the server does not have, and whether something newer is there instead."""
    registers = _HELD.decode(str(held.registers))
    faults, newer, client = [], False, arrival.line.clientId
    for name, register in arrival.row.f.items():
        there = registers.get(name)
        if there is None:
            faults.append(f"has no field {name}")
            continue
        mine = there.at == register.at and there.clientId == client
        if not mine and (there.at, there.clientId.encode()) > (register.at, client.encode()):
            newer = True
        elif not _equal(bytes(register.value), bytes(there.value)):
            if mine and held.change is not None and held.seq != held.change:
                newer = True  # a later row wrote it with the same stamp: of two such the later one stands
            else:
                faults.append(f"differs in {name}")
    return faults, newer


def _equal(source: bytes, there: bytes) -> bool:
    """Whether two JSON values mean the same; numbers as doubles."""
    if source == there:
        return True
    value, other = msgspec.json.decode(source), msgspec.json.decode(there)
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)
