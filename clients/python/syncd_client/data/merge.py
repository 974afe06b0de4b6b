"""Last writer wins, register by register. Pure: the same code merges what arrives and what is shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

TOMBSTONE = "deletedAt"


class Register(NamedTuple):
    """One field of one record, with its stamp.

    `at` is in microseconds since 1970. `sent` is set where the server lowered the stamp: the instant
    that the writer had put there.
    """

    value: Any
    at: int
    client: str
    sent: int | None = None


Registers = dict[str, Register]


def wins(incoming: Register, held: Register) -> bool:
    """Whether `incoming` replaces `held`: the greater (at, client), and at a tie what came later.

    Python compares text by code point, which is the order of the UTF-8 bytes. A register and the form
    of it that the server lowered are the same write, so the lowered form stands.
    """
    if incoming.client == held.client and incoming.at != held.at:
        if incoming.sent == held.at:
            return True
        if held.sent == incoming.at:
            return False
    return (incoming.at, incoming.client) >= (held.at, held.client)


def merge(held: Registers, incoming: Mapping[str, Register]) -> bool:
    """Merges `incoming` into `held`, in place. Whether anything changed."""
    changed = False
    for field, register in incoming.items():
        standing = held.get(field)
        if standing is None or (not _same(register, standing) and wins(register, standing)):
            held[field] = register
            changed = True
    return changed


def _same(one: Register, other: Register) -> bool:
    """Equality of JSON: to Python false is 0, and true is 1."""
    return one == other and json.dumps(one.value, sort_keys=True) == json.dumps(other.value, sort_keys=True)


def overlay(base: Mapping[str, Register], pending: Iterable[Mapping[str, Register]]) -> Registers:
    """The registers that the application sees: the server's with its own unsent writes on top.

    A pending write wins a tie against what the server sent, because it is merged last.
    """
    view = dict(base)
    for registers in pending:
        merge(view, registers)
    return view


def is_deleted(registers: Mapping[str, Register]) -> bool:
    """A record is deleted while its tombstone register is not null."""
    tombstone = registers.get(TOMBSTONE)
    return tombstone is not None and tombstone.value is not None
