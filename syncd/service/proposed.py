"""A change as those see it who judge it before it is written: what it will be, and over what."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from syncd.core.clock import moment_of
from syncd.core.principal import Principal
from syncd.protocol.normalize import NormalizedChange, deletes
from syncd.protocol.push_decision import PushDecision
from syncd.store.rules import Seen


class ProposedChange(NamedTuple):
    """A change that is about to be written. `fields`: the values that it writes, by name; `space`: the id of the one
    that its record is in; `op`: what it will be, "insert", "update" or "delete", whatever its device calls it;
    `change_id` is None where the server makes it; `actor`, `origin`: as the device says them; `brings_back`: the fields
    of a deleted record that it inserts again, which are there again with it, else None; `written_at`: when its user
    wrote it, the latest of its stamps, in UTC: the word of the device, whose clock may be wrong."""

    app: str
    table: str
    id: str
    space: str
    op: str
    fields: dict[str, Any]
    change_id: str | None
    actor: Any
    origin: str | None
    brings_back: dict[str, Any] | None
    written_at: datetime


class Verdict(NamedTuple):
    """What is said to a change. `code` is None where it is taken, with `derived` written beside."""

    code: str | None = None
    field: str | None = None
    text: str = ""
    derived: Mapping[str, Any] = {}


class Asked(NamedTuple):
    """What stands before a change, and the fields that its record brings along from the space that it moves from."""

    seen: Seen
    brought: dict[str, Any]


def why_not(work: PushDecision, i: int, before: Seen) -> str | None:
    """The code of a change that nobody is asked about: its user may not write there, or too much would be read."""
    if before.too_large:
        return "push_too_large"
    if before.role == "reader":
        return "not_a_writer"
    known = before.role is not None or before.space == work.caller.personal
    makes = work.refusals is not None and work.refusals.may_make(before.space)
    return None if known or makes else "space_not_found"


def acting(caller: Principal, before: Seen) -> Principal:
    """The principal of a change, with its role there. A space that the change makes is its user's."""
    return caller._replace(role=before.role or "owner")


def values_of(change: NormalizedChange) -> dict[str, Any]:
    """The fields that a change writes, without the one that says whether the record is deleted."""
    return {name: msgspec.json.decode(register.value) for name, register in change.f.items() if name != "deletedAt"}


def op_of(deleting: bool | None, before: Seen) -> tuple[str, dict[str, Any] | None]:
    """What a change will be, by what `deletes` says of it, and the fields that it brings back."""
    if deleting:
        return "delete", None
    revives = before.deleted is not None and deleting is False
    new = before.record is None and (revives or before.deleted is None)
    return "insert" if new else "update", before.deleted if revives else None


def proposed(work: PushDecision, i: int, before: Seen, brought: Mapping[str, Any]) -> ProposedChange:
    """A change of a push, over what stands before it."""
    change, _, table = work.changes[i]
    actor = None if change.a is None else msgspec.json.decode(change.a)
    op, back = op_of(deletes(change.f), before)
    return ProposedChange(
        work.pull.app, table, change.r, before.space, op, {**brought, **values_of(change)},
        work.message.changes[i].changeId, actor, change.n, back, moment_of(change.hi),
    )  # fmt: skip


def made(change: ProposedChange, before: Seen, derived: Mapping[str, Any]) -> Seen:
    """What stands behind a change, where nothing else is newer."""
    stood = before.deleted if before.record is None else before.record
    stands = {**(stood or {}), **change.fields, **derived}
    if change.op == "delete" or (change.op == "update" and before.record is None):
        return before._replace(record=None, deleted=stands)
    return before._replace(record=stands, deleted=None)
