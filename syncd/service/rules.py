"""An application's own rules about what may be written: functions in Python that see each change before the log does.

    from syncd import RuleRefused, rule

    @rule("notes/pages")
    def titled(change, record, principal):
        if change.fields.get("title") == "":
            raise RuleRefused("title", "A page needs a title.")

They run before any lock is taken, for changes of users who may write there. docs/guide/rules.md goes through it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

import msgspec
import structlog

from syncd.core.failures import log_failure
from syncd.core.ids import fault_in_id
from syncd.core.values import InvalidValue
from syncd.protocol.normalize import OPS
from syncd.protocol.push_decision import PushDecision
from syncd.store.rules import RuleReads, Seen

log = structlog.get_logger("syncd.rules")
F = TypeVar("F", bound=Callable[..., Any])

# Seconds that all rules of one push may take together, and threads in which those run that do not await.
TIME_LIMIT, THREADS = 2.0, 4
# Characters of the text that a refusal is told with.
LONGEST_TEXT = 500
_NAMES = {number: name for name, number in OPS.items()}
_TARGETS = "__syncd_rules__"


class RuleRefused(Exception):
    """A rule does not take a change. `field`: which one is wrong, or None; `text`: why, for people."""

    def __init__(self, field: str | None, text: str) -> None:
        super().__init__(field, text)
        self.field, self.text = field, text


class ProposedChange(NamedTuple):
    """A change that is about to be written. `fields`: the values that it writes, by name; `space`: its id; `op`:
    "insert", "update" or "delete"; `change_id` is None where the server makes it; `actor`, `origin`: as the device says
    them."""

    app: str
    table: str
    id: str
    space: str
    op: str
    fields: dict[str, Any]
    change_id: str | None
    actor: Any
    origin: str | None


def rule(*targets: str) -> Callable[[F], F]:
    """Marks a function as a rule for one or several "APP/TABLE", or "APP/*", all tables of an app.

    It is called with the change (`ProposedChange`), the record as it stands (a dict of its fields, None where there is
    none or it is deleted) and the `Principal`. It returns None, or a dict of fields that are written beside the
    change's own, stamped by the server. It raises RuleRefused. It may be a coroutine function. Raises ValueError where
    a target is none.
    """
    named = [tuple(target.split("/", 1)) for target in targets]
    for target, parts in zip(targets, named, strict=True):
        if len(parts) < 2 or any(map(fault_in_id, parts)):
            raise ValueError(f'{target!r} names no table: write "APP/TABLE", or "APP/*" for all tables of an app')
    if not named:
        raise ValueError('name a table: @rule("APP/TABLE")')

    def mark(function: F) -> F:
        setattr(function, _TARGETS, (*getattr(function, _TARGETS, ()), *named))
        return function

    return mark


def rules_of(module: str) -> list[Callable[..., Any]]:
    """The rules in a module of that name, in the order of their definition. Raises ImportError, and ValueError where
    there are none."""
    found = [one for one in vars(import_module(module)).values() if callable(one) and hasattr(one, _TARGETS)]
    if not found:
        raise ValueError(f"the module {module} has no rules: mark its functions with @rule")
    return found


class _Verdict(NamedTuple):
    """`code` is None where the change is taken, with `derived` written beside."""

    code: str | None = None
    field: str | None = None
    text: str = ""
    derived: Mapping[str, Any] = {}


class Rules:
    """The rules of a server. Raises TypeError where one is not marked by `rule`."""

    def __init__(self, rules: Iterable[Callable[..., Any]], reads: RuleReads) -> None:
        self._by_table: dict[tuple[str, str], list[Callable[..., Any]]] = {}
        self._reads = reads
        self._threads = ThreadPoolExecutor(THREADS, "syncd rule")
        for one in rules:
            if not hasattr(one, _TARGETS):
                raise TypeError(f'{one!r} is no rule: mark it with @rule("APP/TABLE")')
            for target in getattr(one, _TARGETS):
                self._by_table.setdefault(target, []).append(one)

    def about(self, app: str, table: str) -> list[Callable[..., Any]]:
        """The rules for a table."""
        return [*self._by_table.get((app, table), ()), *self._by_table.get((app, "*"), ())]

    async def check(self, work: PushDecision) -> None:
        """Has the rules look at the changes of a push, and takes in what they say. Raises what reading raises."""
        app = work.pull.app
        places = [i for i in work.left if self.about(app, work.changes[i][2])]
        if not places:
            return
        keys = [(work.changes[i][1], work.changes[i][2], work.changes[i][0].r) for i in places]
        seen = await self._reads.seen(work.caller, app, keys)
        verdicts = await self._judged(work, places, seen)
        refused = {i: verdict for i, verdict in verdicts.items() if verdict.code is not None}
        for i in await self._reads.written_before(work.caller.user, work.client, _ids(work, refused)):
            del refused[i]  # it was written: that it may not be again is no answer to a repeat
        work.refuse_by_rule({i: (v.code or "", v.field, v.text) for i, v in refused.items()})
        for i, verdict in verdicts.items():
            if i in work.left and verdict.derived:
                _derive(work, i, verdict.derived)

    async def _judged(self, work: PushDecision, places: Sequence[int], seen: Sequence[Seen]) -> dict[int, _Verdict]:
        """What the rules say to each change, by its place. What they do not say in time is no permission."""
        found: dict[int, _Verdict] = {}
        # A record that a push writes twice is, for the second change, what the first one made of it.
        made: dict[tuple[str, ...], dict[str, Any] | None] = {}
        try:
            async with asyncio.timeout(TIME_LIMIT):
                for i, before in zip(places, seen, strict=True):
                    change, space, table = work.changes[i]
                    if not before.writes and space != work.caller.personal:
                        found[i] = _Verdict()  # the log refuses it, and says why
                        continue
                    key = space, table, change.r
                    now = before._replace(record=made[key]) if key in made else before
                    verdict = found[i] = await self._judge(work, i, now)
                    if verdict.code is None:
                        made[key] = _made(work, i, now.record, verdict.derived)
        except TimeoutError:
            late = next(i for i in places if i not in found)
            log.error("rules took too long", app=work.pull.app, table=work.changes[late][2], seconds=TIME_LIMIT)
        return {i: found.get(i, _Verdict("rule_failed")) for i in places}

    async def _judge(self, work: PushDecision, i: int, before: Seen) -> _Verdict:
        if before.too_large:
            return _Verdict("push_too_large")
        change, derived = _proposed(work, i), dict[str, Any]()
        for one in self.about(change.app, change.table):
            try:
                said = await self._called(one, change, before.record, work.caller)
                if said is not None:
                    _check_derived(said)
                    derived.update(said)
            except RuleRefused as why:
                return _Verdict("rule_refused", why.field, str(why.text)[:LONGEST_TEXT])
            except TimeoutError:
                raise
            except Exception as why:
                log_failure(log, "a rule failed", why, rule=getattr(one, "__qualname__", "rule"), app=change.app)
                return _Verdict("rule_failed")
        return _Verdict(derived=derived)

    async def _called(self, one: Callable[..., Any], *arguments: Any) -> Any:
        if inspect.iscoroutinefunction(one):
            return await one(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(one, *arguments))


def _proposed(work: PushDecision, i: int) -> ProposedChange:
    change, space, table = work.changes[i]
    fields = {name: msgspec.json.decode(register.value) for name, register in change.f.items() if name != "deletedAt"}
    actor = None if change.a is None else msgspec.json.decode(change.a)
    return ProposedChange(
        work.pull.app, table, change.r, space, _NAMES[change.o], fields, work.message.changes[i].changeId, actor,
        change.n,
    )  # fmt: skip


def _made(
    work: PushDecision, i: int, record: dict[str, Any] | None, derived: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The record as a change leaves it, where nothing else is newer."""
    change = _proposed(work, i)
    return None if change.op == "delete" else {**(record or {}), **change.fields, **derived}


def _check_derived(said: object) -> None:
    """Raises TypeError, InvalidValue: what a rule returned cannot be written."""
    if not isinstance(said, Mapping):
        raise TypeError(f"a rule returns None or a dict of fields, not {type(said).__name__}")
    for name in said:
        if not isinstance(name, str) or name == "deletedAt" or fault_in_id(name):
            raise InvalidValue("a rule wrote a field that cannot be one")


def _derive(work: PushDecision, i: int, values: Mapping[str, Any]) -> None:
    try:
        work.derive(i, values)
    except (InvalidValue, TypeError, ValueError, msgspec.MsgspecError) as why:
        log_failure(log, "a rule failed", why, rule="returned value", app=work.pull.app)
        work.refuse_by_rule({i: ("rule_failed", None, "")})


def _ids(work: PushDecision, refused: Iterable[int]) -> dict[int, str]:
    return {i: id_ for i in refused if (id_ := work.changes[i][0].c) is not None}
