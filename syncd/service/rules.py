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
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Future
from importlib import import_module
from typing import Any, TypeVar

import structlog

from syncd.core.errors import Busy
from syncd.core.failures import Failures
from syncd.core.ids import fault_in_id
from syncd.core.values import InvalidValue
from syncd.protocol.import_lines import ImportLine
from syncd.protocol.push_decision import PushDecision
from syncd.service.proposed import Asked, ProposedChange, Verdict, acting, made, proposed, why_not
from syncd.service.rule_threads import RuleThreads, TooManyEndless
from syncd.store.rules import Seen

log = structlog.get_logger("syncd.rules")
F = TypeVar("F", bound=Callable[..., Any])

# Seconds that all rules of one push may take together from when the first is asked, pushes that are judged at a time,
# and how many rules that do not end are left alone before no more are asked.
TIME_LIMIT, THREADS, MOST_ENDLESS = 2.0, 4, 64
# Characters of the text that a refusal is told with.
LONGEST_TEXT = 500
ENDLESS = "Rules of the application have not ended, and none is asked any more."
_TARGETS = "__syncd_rules__"
NOT_ASKED = (
    "Changes to this table are judged by rules of the application, which cannot be asked about imports and restores. "
    "Write it as a change."
)


class RuleRefused(Exception):
    """A rule does not take a change. `field`: which one is wrong, or None; `text`: why, for people."""

    def __init__(self, field: str | None, text: str) -> None:
        super().__init__(field, text)
        self.field, self.text = field, text


def rule(*targets: str) -> Callable[[F], F]:
    """Marks a function as a rule for one or several "APP/TABLE", or "APP/*", all tables of an app.

    It is called with the change (`ProposedChange`), the record as it stands (a dict of its fields, None where there is
    none or it is deleted) and the `Principal`, with its `role` in the change's space. It returns None, or a dict of
    fields that are written beside the change's own, stamped by the server. It raises RuleRefused. It may be a coroutine
    function. Raises ValueError where a target is none.
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


class Rules:
    """The rules of a server. Raises TypeError where one is not marked by `rule`."""

    def __init__(self, rules: Iterable[Callable[..., Any]]) -> None:
        self._by_table: dict[tuple[str, str], list[Callable[..., Any]]] = {}
        self._threads = RuleThreads(THREADS, MOST_ENDLESS)
        for one in rules:
            if not hasattr(one, _TARGETS):
                raise TypeError(f'{one!r} is no rule: mark it with @rule("APP/TABLE")')
            for target in getattr(one, _TARGETS):
                self._by_table.setdefault(target, []).append(one)

    def about(self, app: str, table: str) -> list[Callable[..., Any]]:
        """The rules for a table."""
        return [*self._by_table.get((app, table), ()), *self._by_table.get((app, "*"), ())]

    def tables(self, app: str) -> list[str]:
        """The tables of an app that have rules; "*": all have."""
        return [table for of, table in self._by_table if of == app]

    def fault_in_import(self, change: ImportLine) -> str | None:
        """Why a user may not import a change: what stood before it is not known, so that no rule can be asked."""
        return NOT_ASKED if self.about(change.line.appId, change.line.table) else None

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._by_table)

    async def judged(self, work: PushDecision, asked: Mapping[int, Asked]) -> dict[int, Verdict]:
        """What the rules say to each change, by its place. What they do not say in time is no permission. Raises Busy
        where none is asked, TooMany."""
        if not asked:
            return {}
        judging = Judging(self, work, asked)
        try:
            await self._threads(judging.run, TIME_LIMIT)
        except TimeoutError:
            pass
        except TooManyEndless as why:
            log.error("no rule is asked any more: restart the worker", why=str(why))
            raise Busy(ENDLESS) from None
        finally:
            judging.give_up()
            judging.failures.tell()
        found, asking = dict(judging.found), judging.asking
        if len(found) < len(asked):
            late = None if asking is None or asking[0] in found else asking
            if late is None and not found:
                raise Busy  # nothing was asked, so that nobody can say whose fault it is
            if late is not None and (not found or time.monotonic() - late[1] > TIME_LIMIT / 2):
                log.error("rules took too long", app=work.pull.app, table=work.changes[late[0]][2], seconds=TIME_LIMIT)
                found[late[0]] = Verdict("rule_failed")
        # The others have done nothing: their device sends them again in a push of fewer.
        return {i: found.get(i, Verdict("push_too_large")) for i in asked}

    def reasons(self) -> list[str]:
        """Why this worker is not ready."""
        return [f"{ENDLESS} Restart the worker."] if self._threads.full else []


class Judging:
    """The rules' look at a push, in one thread for all of it; those that await do so in the loop. `found`: what was
    said so far, by place; `asking`: the place that is being asked about, and since when."""

    def __init__(self, rules: Rules, work: PushDecision, asked: Mapping[int, Asked]) -> None:
        self._rules, self._work, self._asked = rules, work, asked
        self._loop = asyncio.get_running_loop()
        self._awaited: Future[Any] | None = None
        self._over = threading.Event()
        self.found: dict[int, Verdict] = {}
        self.failures = Failures(log, "a rule failed")
        self.asking: tuple[int, float] | None = None

    def give_up(self) -> None:
        """Nobody waits any more."""
        self._over.set()
        if self._awaited is not None:
            self._awaited.cancel()

    def run(self) -> None:
        """Asks about each change in its turn."""
        work = self._work
        # A record that a push writes twice is, for the second change, what the first one made of it.
        left: dict[tuple[str, ...], Seen] = {}
        for i, (before, brought) in self._asked.items():
            if self._over.is_set():
                return
            if (code := why_not(work, i, before)) is not None:
                self.found[i] = Verdict(code)
                continue
            key = before.space, work.changes[i][2], work.changes[i][0].r
            now = left.get(key, before)
            change = proposed(work, i, now, brought)
            self.asking = i, time.monotonic()
            verdict = self._judge(change, now)
            if self._over.is_set():
                return
            self.found[i] = verdict
            if verdict.code is None:
                left[key] = made(change, now, verdict.derived)

    def _judge(self, change: ProposedChange, before: Seen) -> Verdict:
        derived, principal = dict[str, Any](), acting(self._work.caller, before)
        for one in self._rules.about(change.app, change.table):
            try:
                said = self._called(one, change, before.record, principal)
                if said is not None:
                    _check_derived(said)
                    derived.update(said)
            except RuleRefused as why:
                return Verdict("rule_refused", why.field, str(why.text)[:LONGEST_TEXT])
            except (Exception, CancelledError) as why:
                if not self._over.is_set():
                    self.failures.add(why, rule=getattr(one, "__qualname__", "rule"), app=change.app)
                return Verdict("rule_failed")
        return Verdict(derived=derived)

    def _called(self, one: Callable[..., Any], *arguments: Any) -> Any:
        if not inspect.iscoroutinefunction(one):
            return one(*arguments)
        self._awaited = asyncio.run_coroutine_threadsafe(one(*arguments), self._loop)
        return self._awaited.result()


def _check_derived(said: object) -> None:
    """Raises TypeError, InvalidValue: what a rule returned cannot be written."""
    if not isinstance(said, Mapping):
        raise TypeError(f"a rule returns None or a dict of fields, not {type(said).__name__}")
    for name in said:
        if not isinstance(name, str) or name == "deletedAt" or fault_in_id(name):
            raise InvalidValue("a rule wrote a field that cannot be one")
