"""What schemas and rules would have refused of the log. Nothing is written."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec

from syncd.core.clock import moment_of, parse_instant
from syncd.core.principal import Principal
from syncd.service.proposed import ProposedChange, Verdict, made, op_of
from syncd.service.rules import RuleRefused, Rules
from syncd.service.schema_checks import Tables, new_faults, refusal_of
from syncd.store.replay import ReplayChange, ReplayFeed, ReplayReads
from syncd.store.rules import Seen


class WouldRefuse(NamedTuple):
    """A change of the log, and what would be said to it now; None: it would be taken."""

    feed: ReplayFeed
    change: ReplayChange
    verdict: Verdict | None


async def replayed(
    reads: ReplayReads, schemas: Tables, rules: Rules, seconds: float, app: str | None
) -> AsyncIterator[WouldRefuse]:
    """The changes of the last seconds. Each is judged over its record as the log had it by then."""
    for feed in await reads.feeds(seconds, app):
        stands = dict[tuple[str, str], Seen]()
        async for row in reads.changes(feed, seconds):
            key = row.table_name, row.record_id
            before = stands.get(key, Seen("owner", feed.space_id, None, None, False))
            change = _proposed(feed, row, before)
            if row.counts:
                principal = Principal(row.user_id, role=row.role)
                yield WouldRefuse(feed, row, await _said(change, before, schemas, rules, principal))
            stands[key] = made(change, before, {})


def _proposed(feed: ReplayFeed, row: ReplayChange, before: Seen) -> ProposedChange:
    registers: dict[str, Any] = msgspec.json.decode(row.fields or "{}")
    # One whose value was folded away has been overwritten since.
    fields = {name: register["value"] for name, register in registers.items() if "value" in register}
    deleting = fields.pop("deletedAt") is not None if "deletedAt" in fields else None
    op, back = op_of(deleting, before)
    written = max((parse_instant(register["at"]) for register in registers.values()), default=0)
    actor = None if row.actor is None else msgspec.json.decode(row.actor)
    return ProposedChange(
        feed.app, row.table_name, row.record_id, feed.space_id, op, fields, row.change_id, actor, row.origin, back,
        moment_of(written),
    )  # fmt: skip


async def _said(
    change: ProposedChange, before: Seen, schemas: Tables, rules: Rules, principal: Principal
) -> Verdict | None:
    schema = schemas.get((change.app, change.table))
    if schema is not None and (faults := new_faults(schema, change, before)):
        return refusal_of(faults)
    for one in rules.about(change.app, change.table):
        try:
            said = one(change, before.record, principal)
            if inspect.isawaitable(said):
                await said
        except RuleRefused as why:
            return Verdict("rule_refused", why.field, why.text)
        except Exception as why:
            return Verdict("rule_failed", None, f"{getattr(one, '__qualname__', 'a rule')} raised {type(why).__name__}")
    return None
