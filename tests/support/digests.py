"""Digests computed the plain way, from the records that a device has been sent: what the server's are held against."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import reduce
from operator import xor
from typing import Any, NamedTuple

from tests.support.device import Change, Device

Registers = Mapping[str, Mapping[str, Any]]


class Sum(NamedTuple):
    """The digest of a set of records."""

    records: int
    digest: str


def digest_of(table: str, id_: str, registers: Registers) -> str:
    """A record's, from its registers as the wire has them, each with its `clientId`."""
    lines = [table, id_]
    for name in sorted(registers, key=lambda name: name.encode()):
        lines += [name, registers[name]["at"], registers[name]["clientId"]]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def bucket_of(table: str, id_: str) -> int:
    return hashlib.sha256(f"{table}\n{id_}".encode()).digest()[0]


def alive(registers: Registers) -> bool:
    return registers.get("deletedAt", {"value": None})["value"] is None


def sum_of(digests: Iterable[str]) -> Sum:
    held = list(digests)
    return Sum(len(held), f"{reduce(xor, (int(digest, 16) for digest in held), 0):016x}")


class Copy:
    """All that a device has been sent, by space, table and id; `cursor` is how far."""

    def __init__(self, device: Device) -> None:
        self._personal = f"_personal:{device.user}"
        self._records: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.cursor = ""

    def apply(self, change: Change) -> None:
        """Takes a change in the order of the log: what comes is as new as what is there, or newer."""
        held = self._records.setdefault((change["spaceId"], change["table"], change["id"]), {})
        for name, register in change["fields"].items():
            new = {"clientId": change["clientId"], **register}
            old = held.get(name)
            if old is None or (old["at"], old["clientId"].encode()) <= (new["at"], new["clientId"].encode()):
                held[name] = new

    def replace(self, change: Change) -> None:
        """Forgets what was there."""
        self._records.pop((change["spaceId"], change["table"], change["id"]), None)
        self.apply(change)

    def registers(self, table: str, id_: str, space: str = "") -> Registers:
        return self._records[space or self._personal, table, id_]

    def sums(self) -> dict[str, Sum]:
        """The digests of its spaces."""
        found: dict[str, list[str]] = {}
        for (space, table, id_), registers in self._records.items():
            found.setdefault(space, [])
            if alive(registers):
                found[space].append(digest_of(table, id_, registers))
        return {space: sum_of(digests) for space, digests in found.items()}
