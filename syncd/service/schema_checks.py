"""What JSON Schemas say to the changes of a push.

A change is judged as the record that it makes: what stands, with its fields over that. A fault counts where the change
makes it, or writes the field that has it. So a record that was invalid before there was a schema can be edited, and
corrected field by field.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Set
from typing import Any

import msgspec
import structlog

from syncd.core.failures import Failures
from syncd.core.pieces import in_turns
from syncd.protocol.normalize import deletes
from syncd.protocol.push_decision import PushDecision
from syncd.service.proposed import Asked, ProposedChange, Verdict, made, proposed, values_of, why_not
from syncd.service.schema_faults import (
    FAULTS_SHOWN,
    MOST_FAULTS,
    RecordFault,
    TookTooLong,
    is_too_much,
    judged_until,
    told,
)
from syncd.service.table_schema import TableSchema
from syncd.store.rules import Seen

log = structlog.get_logger("syncd.rules")

Tables = Mapping[tuple[str, str], TableSchema]
# Seconds that the changes of one push may be judged; what is left then comes again in a push of fewer.
TIME_LIMIT = 2.0
NOTHING: frozenset[str] = frozenset()
NO_FIELDS: Mapping[str, Any] = {}


def needing_records(work: PushDecision, schemas: Tables) -> list[int]:
    """The places of changes that no schema takes by themselves, and of the others of the push to their records."""
    keys, needing = dict[int, tuple[str, ...]](), set[tuple[str, ...]]()
    there = dict[tuple[str, ...], Set[str]]()  # the fields that a record has with what this push wrote before
    for i in in_turns(work.left):
        change, space, table = work.changes[i]
        schema = schemas.get((work.pull.app, table))
        if schema is None:
            continue
        key = keys[i] = space, table, change.r
        fields = values_of(change)
        if deletes(change.f):
            there.pop(key, None)
            if fields:
                needing.add(key)
        elif _moves(work, space) or not _takes(schema, fields, there.get(key, NOTHING)):
            needing.add(key)
        else:
            there[key] = there.get(key, NOTHING) | fields.keys()
    return [i for i, key in keys.items() if key in needing]


def _moves(work: PushDecision, space: str) -> bool:
    """Whether a record of the first generation may bring fields along, from its author's own space."""
    return work.moves is not None and space != work.caller.personal


def _takes(schema: TableSchema, fields: dict[str, Any], there: Set[str]) -> bool:
    try:
        return schema.takes_alone(fields, there)
    except Exception:  # what the validator cannot bear is told where it is judged again
        return False


def judged(work: PushDecision, schemas: Tables, asked: Mapping[int, Asked]) -> dict[int, Verdict]:
    """What is refused of some changes, by place, with why. A change that cannot be judged is refused, too."""
    found = dict[int, Verdict]()
    left = dict[tuple[str, ...], Seen]()
    failures = Failures(log, "a schema could not judge")
    until = time.monotonic() + TIME_LIMIT
    for i, (before, brought) in in_turns(asked.items(), 1):
        if (found or left) and time.monotonic() > until:
            found[i] = Verdict("push_too_large")
            continue
        if (code := why_not(work, i, before)) is not None:
            found[i] = Verdict(code)
            continue
        table = work.changes[i][2]
        key = before.space, table, work.changes[i][0].r
        now = left.get(key, before)
        change = proposed(work, i, now, brought)
        try:
            with judged_until(until):
                faults = new_faults(schemas[work.pull.app, table], change, now, brought)
        except Exception as why:
            # Beside others it comes again in a push of fewer; alone it takes all the time that there is.
            cut = isinstance(why, TookTooLong) and (found or left)
            found[i] = Verdict("push_too_large" if cut else "rule_failed")
            if not cut:
                failures.add(why, app=work.pull.app, table=table)
            continue
        if faults:
            found[i] = refusal_of(faults)
        else:
            left[key] = made(change, now, {})
    failures.tell()
    return found


def refusal_of(faults: list[RecordFault]) -> Verdict:
    """A refusal that tells the first faults."""
    return Verdict("rule_refused", faults[0].field, told(faults))


def new_faults(
    schema: TableSchema, change: ProposedChange, before: Seen, brought: Mapping[str, Any] = NO_FIELDS
) -> list[RecordFault]:
    """The faults of the record with a change that count: those that it makes, and those of fields that it gives another
    value. A record that is new, or comes back, has to be whole as well; one that moves, with the fields that it brought
    along, is neither."""
    stood = (before.deleted if before.record is None else before.record) or dict(brought)
    if not change.fields and change.op != "insert":
        return []
    if not stood and change.op == "insert":
        return schema.faults(change.fields, FAULTS_SHOWN + 1)
    found = schema.faults({**stood, **change.fields})
    if not found:
        return []
    old = schema.faults(stood)
    if is_too_much(found) and not is_too_much(old):
        return found
    if is_too_much(found) or max(len(found), len(old)) >= MOST_FAULTS:
        # Which of them are new cannot be told; what it writes has to be right by itself.
        return schema.faults_of_fields({name: value for name, value in change.fields.items() if name not in brought})
    known = {fault.key for fault in old}
    changed = {name for name, value in change.fields.items() if name not in stood or _text(stood[name]) != _text(value)}
    return [
        fault
        for fault in found
        if fault.field in changed
        or fault.key not in known
        or (change.op == "insert" and not brought and not fault.of_a_field)
    ]


def _text(value: Any) -> bytes:
    return msgspec.json.encode(value, order="deterministic")
