"""What a push is checked by before the log has it: the schemas of its tables first, then the application's rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import structlog

from syncd.core.clock import LAST, format_instant
from syncd.core.errors import Busy
from syncd.core.failures import Failures
from syncd.core.pieces import in_turns
from syncd.core.values import InvalidValue
from syncd.protocol.normalize import NormalizedChange
from syncd.protocol.push_decision import PushDecision
from syncd.service.aside import SMALL, aside
from syncd.service.proposed import Asked, Verdict
from syncd.service.rules import Rules
from syncd.service.schema_checks import Tables, judged, needing_records
from syncd.service.schema_cost import FEW_STEPS
from syncd.service.schemas import UNREAD, CurrentSchemas
from syncd.store.rules import RuleReads, WrittenRow, decoded

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
        large = _much(changes) or _takes_long(work, schemas, of_table)
        by_schema = await aside(large, needing_records, work, schemas) if schemas else []
        by_rule = [i for table, those in of_table.items() if self._rules.about(app, table) for i in those]
        places = sorted({*by_schema, *by_rule})
        if not places:
            return
        asked, sizes = await self._asked(work, places)
        judging = {i: asked[i] for i in by_schema}
        # A record is judged once a change.
        size = sum(sizes[i] for i in by_schema)
        large = large or size > SMALL or any(one.cost.at_most_of(size, 0) > FEW_STEPS for one in schemas.values())
        verdicts = await aside(large, judged, work, schemas, judging) if judging else {}
        verdicts |= await self._rules.judged(work, {i: asked[i] for i in by_rule if i not in verdicts})
        await self._settle(work, verdicts)

    async def _asked(self, work: PushDecision, places: Sequence[int]) -> tuple[dict[int, Asked], dict[int, int]]:
        """What stands before some changes, in one read, which has each record once; and how many bytes each is."""
        own = work.caller.personal
        keys = {i: (work.changes[i][1], work.changes[i][2], work.changes[i][0].r) for i in places}
        # A record of the first generation moves with all that it has: its fields are written in the other space too.
        movers = {i: (own, *key[1:]) for i, key in keys.items() if work.moves is not None and key[0] != own}
        once = list(dict.fromkeys((*keys.values(), *movers.values())))
        rows = await self._reads.seen(work.caller, work.pull.app, once)
        lengths = {key: len(row.record or "") for key, row in zip(once, rows, strict=True)}
        seen = dict(zip(once, await aside(sum(lengths.values()) > SMALL, decoded, rows), strict=True))
        brought = {i: seen[key].record or {} for i, key in movers.items()}
        sizes = {i: lengths[key] + (lengths[movers[i]] if i in movers else 0) for i, key in keys.items()}
        return {i: Asked(seen[key], brought.get(i, {})) for i, key in keys.items()}, sizes

    async def _settle(self, work: PushDecision, verdicts: dict[int, Verdict]) -> None:
        """Takes in what was said. What was written before is what it was then, whatever is said now."""
        weighty = {i: id_ for i, said in verdicts.items() if (said.code is not None or said.derived)
                   and (id_ := work.changes[i][0].c) is not None}  # fmt: skip
        written = dict[str, WrittenRow]()
        if weighty:
            asked = await aside(_much([work.changes[i][0] for i in weighty]), _contents, work, list(weighty))
            written = await self._reads.written(work.caller, work.client, work.pull.app, asked)
        for i, id_ in weighty.items():
            row = written.get(id_)
            if row is None:
                continue
            if row.too_large:
                verdicts[i] = Verdict("push_too_large")
                continue
            del verdicts[i]  # of another change under this id the log says that it is one
            if row.same:
                work.repeated(i, row.event_id, row.seq)
        refused = {i: said for i, said in verdicts.items() if said.code is not None}
        work.refuse_by_rule({i: (v.code or "", v.field, v.text) for i, v in refused.items()})
        failures = Failures(log, "a rule failed")
        for i, said in verdicts.items():
            if i not in refused and said.derived:
                _derive(work, i, said.derived, failures)
        failures.tell()


def _much(changes: Sequence[NormalizedChange]) -> bool:
    """Whether to go through their fields takes longer than the event loop has."""
    sizes = [len(register.value) for change in changes for register in change.f.values()]
    return sum(sizes) > SMALL or len(sizes) > MANY


def _takes_long(work: PushDecision, schemas: Tables, of_table: Mapping[str, Sequence[int]]) -> bool:
    """Whether schemas are asked more of their changes than the event loop has time for."""
    steps = 0.0
    for (_, table), schema in schemas.items():
        registers = [work.changes[i][0].f for i in of_table[table]]
        sizes = [len(register.value) for fields in registers for register in fields.values()]
        about = schema.cost.at_most_of(sum(sizes), len(sizes)) + schema.cost.record * len(registers)
        steps += about if about <= FEW_STEPS else sum(map(schema.cost.at_most, registers))
    return steps > FEW_STEPS


def _contents(work: PushDecision, places: Sequence[int]) -> bytes:
    """What some changes say, for comparing it with what was written under their ids."""
    contents = list[dict[str, Any]]()
    for i in in_turns(places):
        change, _, table = work.changes[i]
        values = {name: register.value for name, register in change.f.items()}
        highest = format_instant(change.hi) if change.hi < LAST else ""
        contents.append({"c": change.c, "t": table, "r": change.r, "hi": highest, "f": values})
    return msgspec.json.encode(contents)


def _derive(work: PushDecision, i: int, values: Mapping[str, Any], failures: Failures) -> None:
    try:
        work.derive(i, values)
    except (InvalidValue, TypeError, ValueError, msgspec.MsgspecError) as why:
        failures.add(why, rule="returned value", app=work.pull.app)
        work.refuse_by_rule({i: ("rule_failed", None, "")})
