"""What a push is checked by before the log has it: the schemas of its tables first, then the application's rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import structlog

from syncd.core.clock import LAST, format_instant
from syncd.core.errors import Busy
from syncd.core.failures import log_failure
from syncd.core.values import InvalidValue
from syncd.protocol.normalize import LogRegister
from syncd.protocol.push_decision import PushDecision
from syncd.service.aside import SMALL, aside
from syncd.service.proposed import Asked, Verdict
from syncd.service.rules import Rules
from syncd.service.schema_checks import judged, needing_records
from syncd.service.schemas import UNREAD, CurrentSchemas
from syncd.store.rules import RuleReads, WrittenRow

log = structlog.get_logger("syncd.rules")

# Fields of a push: to judge more, of which each may be at fault, takes longer than the event loop has.
MANY = 300


class Checks:
    """Looks at the changes of a push. What schemas take by themselves, of tables without rules, costs no read."""

    def __init__(self, schemas: CurrentSchemas, rules: Rules, reads: RuleReads) -> None:
        self._schemas, self._rules, self._reads = schemas, rules, reads

    async def __call__(self, work: PushDecision) -> None:
        """Takes in what schemas and rules say. Raises Busy where a schema cannot be read, and what reading raises."""
        if not (self._schemas.current or self._rules or self._schemas.unread):
            return
        app = work.pull.app
        of_table = dict[str, list[int]]()
        for i in work.left:
            of_table.setdefault(work.changes[i][2], []).append(i)
        if any((app, table) in self._schemas.unread for table in of_table):
            raise Busy(UNREAD)
        schemas = {(app, table): found for table in of_table if (found := self._schemas.current.get((app, table)))}
        changes = [work.changes[i][0] for _, table in schemas for i in of_table[table]]
        sizes = [len(register.value) for change in changes for register in change.f.values()]
        large = sum(sizes) > SMALL or len(sizes) > MANY
        by_schema = await aside(large, needing_records, work, schemas) if schemas else []
        by_rule = [i for table, those in of_table.items() if self._rules.about(app, table) for i in those]
        places = sorted({*by_schema, *by_rule})
        if not places:
            return
        asked = await self._asked(work, places)
        large = large or sum(asked[i].seen.size for i in by_schema) > SMALL
        verdicts = await aside(large, judged, work, schemas, {i: asked[i] for i in by_schema})
        verdicts |= await self._rules.judged(work, {i: asked[i] for i in by_rule if i not in verdicts})
        await self._settle(work, verdicts)

    async def _asked(self, work: PushDecision, places: Sequence[int]) -> dict[int, Asked]:
        """What stands before some changes, in one read."""
        own = work.caller.personal
        keys = [(work.changes[i][1], work.changes[i][2], work.changes[i][0].r) for i in places]
        # A record of the first generation moves with all that it has: its fields are written in the other space too.
        movers = [n for n, (space, _, _) in enumerate(keys) if work.moves is not None and space != own]
        seen = await self._reads.seen(work.caller, work.pull.app, [*keys, *((own, *keys[n][1:]) for n in movers)])
        brought = {places[n]: one.record or {} for n, one in zip(movers, seen[len(keys) :], strict=True)}
        return {i: Asked(seen[n], brought.get(i, {})) for n, i in enumerate(places)}

    async def _settle(self, work: PushDecision, verdicts: dict[int, Verdict]) -> None:
        """Takes in what was said. What was written before is what it was then, whatever is said now."""
        weighty = {i: work.changes[i][0].c for i, said in verdicts.items() if said.code is not None or said.derived}
        ids = [id_ for id_ in weighty.values() if id_ is not None]
        written = await self._reads.written(work.caller, work.client, ids)
        for i, id_ in weighty.items():
            row = written.get(id_ or "")
            if row is not None:
                del verdicts[i]  # of another change under this id the log says that it is one
                if _is_repeat(work, i, row):
                    work.repeated(i, row.event_id, row.seq)
        refused = {i: said for i, said in verdicts.items() if said.code is not None}
        work.refuse_by_rule({i: (v.code or "", v.field, v.text) for i, v in refused.items()})
        for i, said in verdicts.items():
            if i not in refused and said.derived:
                _derive(work, i, said.derived)


def _is_repeat(work: PushDecision, i: int, row: WrittenRow) -> bool:
    """Whether a change says what was written under its id: all of it, but for what a rule wrote above it."""
    change, _, table = work.changes[i]
    if (row.app, row.table_name, row.record_id) != (work.pull.app, table, change.r):
        return False
    logged = msgspec.json.decode(row.fields)
    highest = format_instant(change.hi) if change.hi < LAST else ""
    return all(
        name in logged and (logged[name].get("at", "") > highest or logged[name]["value"] == _value(register))
        for name, register in change.f.items()
    )


def _value(register: LogRegister) -> Any:
    return msgspec.json.decode(register.value)


def _derive(work: PushDecision, i: int, values: Mapping[str, Any]) -> None:
    try:
        work.derive(i, values)
    except (InvalidValue, TypeError, ValueError, msgspec.MsgspecError) as why:
        log_failure(log, "a rule failed", why, rule="returned value", app=work.pull.app)
        work.refuse_by_rule({i: ("rule_failed", None, "")})
