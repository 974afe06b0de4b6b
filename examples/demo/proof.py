"""The proof: every replica and the server hold the same records, with the same registers and stamps."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
from syncd_client import Register, Replica
from syncd_client.data.clock import format_instant

from examples.demo.devices import APP, SPACE

Registers = dict[str, tuple[Any, str, str]]  # field -> (value, at, clientId), as on the wire
Records = dict[tuple[str, str], Registers]  # (table, id) -> registers


@dataclass(frozen=True)
class Holding:
    """What somebody holds: records, and tombstones of deleted ones.

    A device that begins after a deletion is not sent the tombstone, so holdings that agree have the same records, and
    the same registers in those tombstones that both have.
    """

    who: str
    records: Records
    tombstones: Records

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over the records in order of their ids, each with its registers and stamps."""
        whole = hashlib.sha256()
        for key in sorted(self.records):
            whole.update(json.dumps([key, self.records[key]], sort_keys=True, ensure_ascii=False).encode() + b"\n")
        return whole.hexdigest()

    def agrees(self, other: Holding) -> bool:
        """Whether they hold the same."""
        both = self.tombstones.keys() & other.tombstones.keys()
        return self.digest == other.digest and all(self.tombstones[key] == other.tombstones[key] for key in both)


def of_replica(who: str, replica: Replica) -> Holding:
    """What a device's SQLite file holds."""
    everything: Records = {}
    for (space, table, record), registers in replica.all_registers().items():
        if space == SPACE:
            everything[table, record] = {name: _wire(register) for name, register in registers.items()}
    return _split(who, everything)


def _wire(register: Register) -> tuple[Any, str, str]:
    return register.value, format_instant(register.at), register.client


def of_snapshot(url: str, token: str, http: httpx2.Client) -> Holding:
    """What a device gets that was never here before: the server's current state."""
    return _split("server, fresh snapshot", _read(url, token, http, {}))


def of_log(url: str, token: str, http: httpx2.Client) -> Holding:
    """The server's log from its first change, applied in its order: each register just replaces the one before."""
    return _split("server, log replayed", _read(url, token, http, {"history": "1"}))


def _read(url: str, token: str, http: httpx2.Client, how: Mapping[str, str]) -> Records:
    records: Records = {}
    for change in _changes(url, token, http, how):
        held = records.setdefault((change["table"], change["id"]), {})
        for name, register in change["fields"].items():
            held[name] = (register["value"], register["at"], register.get("clientId", change["clientId"]))
    return records


def _changes(url: str, token: str, http: httpx2.Client, how: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token}", "X-Client-Id": "auditor", "X-Sync-Protocol": "1"}
    since, more = "", True
    while more:
        params = {"since": since, "limit": "5000", **how}
        answer = http.get(f"{url}/sync/{APP}/pull", params=params, headers=headers)
        page = answer.raise_for_status().json()
        yield from (change for change in page["serverChanges"] if change["spaceId"] == SPACE)
        since, more = page["syncedUntil"], page["hasMore"]


def _split(who: str, everything: Records) -> Holding:
    def deleted(registers: Registers) -> bool:
        return "deletedAt" in registers and registers["deletedAt"][0] is not None

    live = {key: registers for key, registers in everything.items() if not deleted(registers)}
    return Holding(who, live, {key: registers for key, registers in everything.items() if key not in live})


def differences(one: Holding, other: Holding, most: int = 10) -> list[str]:
    """What two holdings disagree about, a line a register."""
    mine, theirs = {**one.tombstones, **one.records}, {**other.tombstones, **other.records}
    found = []
    for key in sorted(one.records.keys() | other.records.keys() | (one.tombstones.keys() & other.tombstones.keys())):
        left, right = mine.get(key, {}), theirs.get(key, {})
        for name in sorted(left.keys() | right.keys()):
            if left.get(name) != right.get(name):
                found.append(f"{key[0]}/{key[1]} {name}: {left.get(name)} here, {right.get(name)} there")
    return found[:most] + ([f"… and {len(found) - most} more"] if len(found) > most else [])
