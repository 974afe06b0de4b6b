"""Push: what a device wrote, into the log, once."""

from __future__ import annotations

import asyncio
import os
from copy import copy
from typing import Any, NamedTuple

import msgspec

from syncd.core.error_codes import ERROR_CODES
from syncd.core.errors import Busy, Fault, InvalidId, Malformed, Refused, TooLarge
from syncd.core.ids import fault_in_id
from syncd.core.values import InvalidValue, check_text
from syncd.protocol import preparation
from syncd.protocol.first_generation import LegacyStamps
from syncd.protocol.messages import IncomingChange, PushBody, raw_changes
from syncd.protocol.preparation import Limits, Prepared, Stamps
from syncd.service.caller import Caller
from syncd.service.pull import Delta, Question, Reading, page_or_beginning
from syncd.store.log import Log, PushCall, Receipt
from syncd.store.pool import Refusal

LARGEST_RECORD = 16 * 1024 * 1024
ROUNDS = 4

# Why the log did not take a change, by the letter it answers with.
MARKS = {"n": "space_not_found", "r": "not_a_writer", "u": "change_id_reused"}


class Result(msgspec.Struct, omit_defaults=True):
    """What became of one change."""

    status: str
    changeId: str | None = None
    eventId: str | None = None
    seq: int | None = None
    at: dict[str, str] | None = None
    code: str | None = None
    detail: str | None = None


class Answer(NamedTuple):
    """A push's answer: one result a change, the registers that lost, what the device missed, and how far it brought
    each space's feed."""

    results: list[Result]
    conflicts: list[dict[str, Any]]
    delta: Delta | None
    since: str
    written: dict[str, int]

    def body(self) -> bytes:
        """The answer as JSON text."""
        results, conflicts = msgspec.json.encode(self.results), msgspec.json.encode(self.conflicts)
        delta = self.delta or Delta(b"", self.since, False, [], [])
        return delta.body(b'"results":%s,"conflicts":%s,' % (results, conflicts))


class Event:
    """Event ids of one push: UUIDv7, ascending, so that neighbours in the log are neighbours in an index."""

    def __init__(self, micros: int) -> None:
        random = int.from_bytes(os.urandom(10))
        self._first = (micros // 1000 & (1 << 48) - 1) << 80 | 7 << 76 | (random >> 68) << 64 | 2 << 62
        self._first |= random & (1 << 61) - 1  # a bit is left so that counting on never runs into the variant

    def after(self, count: int) -> Event:
        """The ids after the first `count`."""
        later = copy(self)
        later._first += count
        return later

    def __call__(self, i: int) -> str:
        text = f"{self._first + i:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Push:
    """One push on its way through the log. Decides what to send and what to answer; `perform` sends."""

    def __init__(
        self, caller: Caller, client: str, reading: Reading, message: PushBody, limits: Limits,
        stamps: Stamps | None = None, first: int = 0,
    ) -> None:  # fmt: skip
        self.caller, self.client, self.reading, self.message = caller, client, reading, message
        self.first = first
        self.results: list[Result | None] = [None] * len(message.changes)
        self.adjusted: dict[int, dict[str, str]] = {}
        self.repeats: dict[int, int] = {}
        self.left: list[int] = []
        self.changes: list[tuple[Prepared, str, str]] = []
        self.conflicts: list[dict[str, Any]] = []
        self._prepare(limits, stamps or Stamps())

    def _prepare(self, limits: Limits, stamps: Stamps) -> None:
        first = dict[str, int]()
        preparation.version(self.message.schemaVersion, "")
        for i, change in enumerate(self.message.changes):
            space = preparation.space_of(change, self.caller.personal)
            if stamps.legacy and not space:
                space = self.caller.personal
            feed = (self.reading.question.app, space)
            prepared = preparation.prepare(change, self.first + i + 1, self.client, stamps, limits, feed)
            if space != self.caller.personal and (wrong := fault_in_id(space)):
                raise InvalidId(f"spaceId {wrong}.", faults=(Fault(f"/changes/{self.first + i}/spaceId", wrong),))
            if not prepared.f:
                self.results[i] = Result("applied", change.changeId)  # nothing to write, and all of that is there
            if prepared.v is None and self.message.schemaVersion is not None:
                prepared.v = self.message.schemaVersion
            self.changes.append((prepared, space, change.table))
            if self.results[i] is not None:
                continue
            if limits.max_schema_version is not None and (prepared.v or 0) > limits.max_schema_version:
                self.reject(i, "schema_too_new")
            elif prepared.c is not None and prepared.c in first:
                self._repeat(i, first[prepared.c])
            else:
                if prepared.c is not None:
                    first[prepared.c] = i
                self.left.append(i)

    def _repeat(self, i: int, earlier: int) -> None:
        """The same change id twice in one push: the same change once, or one that must not be."""
        if _content(self.changes[i]) == _content(self.changes[earlier]):
            self.repeats[i] = earlier
        else:
            self.reject(i, "change_id_reused")

    def too_large(self, places: set[int]) -> None:
        """Rejects what is too large; places are those of the whole push."""
        for i in [i for i in self.left if self.first + i in places]:
            self.left.remove(i)
            self.reject(i, "change_too_large")

    def reject(self, i: int, code: str) -> None:
        self.results[i] = Result("rejected", self.message.changes[i].changeId, code=code, detail=ERROR_CODES[code].text)

    def rejected(self) -> list[int]:
        return [i for i, result in enumerate(self.results) if result is not None and result.status == "rejected"]

    def call(self, event: Event, skew: int) -> PushCall:
        """What is left of the push, for the log."""
        batch = preparation.batch([self.changes[i] for i in self.left], event)
        chosen = [self.changes[i][0] for i in self.left]
        head: dict[str, Any] = {
            **self.caller.head(), "client": self.client, "app": self.reading.question.app, "n": len(chosen),
            "spaces": batch.spaces, "tables": batch.tables, "ids": [p.c for p in chosen],
            "hi": max((p.hi for p in chosen), default=0), "skew": skew, "largest": LARGEST_RECORD,
        }  # fmt: skip
        if len(batch.spaces) > 1:
            head["sp"] = batch.space_of
        if self.caller.personal in batch.spaces:
            head["personal"] = True
        if self.message.atomic:
            head["atomic"] = True
        if self.message.pull:
            head["since"], head["how"] = self.reading.since(), self.reading.how()
        feed = (batch.spaces[0], self.reading.question.app) if len(batch.spaces) == 1 else None
        return PushCall(msgspec.json.encode(head), [msgspec.json.encode(wave).decode() for wave in batch.waves], feed)

    def forgotten(self, places: list[int]) -> None:
        """Rejects what would bring back a record whose tombstone the server does not have any more."""
        chosen = [self.left[n - 1] for n in places]
        self.left = [i for i in self.left if i not in set(chosen)]
        for i in chosen:
            self.reject(i, "record_forgotten")

    def lower(self, said: dict[str, Any], skew: int) -> None:
        """Brings stamps ahead of the database's clock down to it, above all that this device wrote there before."""
        now = int(said["now"])
        own = int(said["own"])
        start = max(now, own + 1 if own <= now + skew else now)
        chosen = [self.changes[i][0] for i in self.left]
        for i, times in zip(self.left, preparation.lower(chosen, self.client, now + skew, start), strict=True):
            if times:
                self.adjusted[i] = {**self.adjusted.get(i, {}), **times}

    def settle(self, receipt: Receipt) -> None:
        """Takes the log's answer into the results."""
        events = receipt.detail.get("events", {})
        for n, i in enumerate(self.left):
            mark, seq = receipt.marks[n], receipt.seqs[n]
            if mark in MARKS:
                self.reject(i, MARKS[mark])
                continue
            event = events.get(str(n + 1)) if mark == "d" else self.changes[i][0].e
            status = {"a": "applied", "s": "superseded", "d": "duplicate"}[mark]
            at = self.adjusted.get(i) if mark != "d" else None
            self.results[i] = Result(status, self.message.changes[i].changeId, event, seq, at)
        for n, fields in receipt.detail.get("conflicts", []):
            change, space, table = self.changes[self.left[n - 1]]
            self.conflicts += ({"spaceId": space, "table": table, "id": change.r, **field} for field in fields or [])

    def answer(self, delta: Delta | None) -> Answer:
        results: list[Result] = []
        for i, result in enumerate(self.results):
            if i in self.repeats:
                first = results[self.repeats[i]]
                same = first.status in ("applied", "superseded", "duplicate")
                result = msgspec.structs.replace(first, status="duplicate" if same else first.status)
            assert result is not None
            results.append(result)
        return Answer(results, self.conflicts, delta, self.reading.question.since, self._written(results))

    def _written(self, results: list[Result]) -> dict[str, int]:
        heads: dict[str, int] = {}
        for (_, space, _), result in zip(self.changes, results, strict=True):
            if result.status in ("applied", "superseded") and result.seq:
                heads[space] = max(heads.get(space, 0), result.seq)
        return heads


def _content(change: tuple[Prepared, str, str]) -> tuple[Any, ...]:
    prepared, space, table = change
    registers = {name: (msgspec.json.decode(r.value), r.at) for name, r in prepared.f.items()}
    return space, table, prepared.r, prepared.o, msgspec.json.encode(registers, order="deterministic")


async def push(
    log: Log, key: bytes, caller: Caller, client: str, question: Question, body: bytes, message: PushBody,
    limits: Limits, *, now: int, skew: int, event: Event | None = None,
) -> Answer:  # fmt: skip
    """Answers a push. `now` and `skew` are microseconds; `event` gives the changes their event ids.

    Raises Malformed, TooLarge, Refused, Busy and the like.
    """
    in_parts = len(message.changes) > limits.max_changes
    if in_parts and (message.atomic or not question.plain):
        raise TooLarge(
            f"A push holds at most {limits.max_changes} changes; send them in parts.", code="too_many_changes"
        )
    _check_escapes(body)
    reading, event, large = Reading(question, caller.user, key), event or Event(now), _too_large(body, limits)
    if in_parts:
        return await _perform_parts(log, Parts(caller, client, reading, message, limits, large), event, skew, now)
    work = Push(caller, client, reading, message, limits, stamps_of(reading))
    work.too_large(large)
    return await perform(work, log, event, skew, now)


def stamps_of(reading: Reading) -> Stamps:
    """How a device's instants are read."""
    if not reading.question.plain:
        return Stamps()
    return LegacyStamps(None if reading.fresh else reading.question.since)


def _too_large(body: bytes, limits: Limits) -> set[int]:
    """The places of changes that are too large."""
    if len(body) <= limits.max_change:
        return set()
    return {i for i, raw in enumerate(raw_changes(body)) if len(raw) > limits.max_change}


class Parts(NamedTuple):
    """A push of more changes than one transaction should hold, from a device that never splits one (first generation).

    A part is a push of the ordinary size. The order of a record's changes is that of the whole; where a later part
    fails, those before it stand, and a retry finds them there.
    """

    caller: Caller
    client: str
    reading: Reading
    message: PushBody
    limits: Limits
    large: set[int]

    def starts(self) -> range:
        return range(0, len(self.message.changes), self.limits.max_changes)

    def part(self, start: int, reading: Reading, stamps: Stamps, *, pull: bool) -> Push:
        """The push that begins at a change. Raises Malformed."""
        changes = self.message.changes[start : start + self.limits.max_changes]
        message = msgspec.structs.replace(self.message, changes=changes, pull=pull)
        work = Push(self.caller, self.client, reading, message, self.limits, stamps, start)
        work.too_large(self.large)
        return work


async def _perform_parts(log: Log, parts: Parts, event: Event, skew: int, now: int) -> Answer:
    """Performs all parts, none before each of them can be; the answer is one."""
    for start in parts.starts():
        parts.part(start, parts.reading, stamps_of(parts.reading), pull=False)
        await asyncio.sleep(0)  # others' turn
    reading, stamps, pull = parts.reading, stamps_of(parts.reading), parts.message.pull
    answers: list[Answer] = []
    for start in parts.starts():
        work = parts.part(start, reading, stamps, pull=pull)
        answers.append(await perform(work, log, event.after(start), skew, now))
        delta = answers[-1].delta
        if delta is not None:
            # Where a page is full the device has to come for the rest anyway.
            reading, pull = reading.after(delta), not delta.more
    return _one_answer(answers, parts.reading.question.since)


def _one_answer(answers: list[Answer], since: str) -> Answer:
    deltas = [answer.delta for answer in answers if answer.delta is not None]
    written: dict[str, int] = {}
    for answer in answers:
        written.update(answer.written)  # a later part brought a feed further
    delta = deltas[-1]._replace(
        changes=b",".join(delta.changes for delta in deltas if delta.changes),
        joined=[space for delta in deltas for space in delta.joined],
        left=[space for delta in deltas for space in delta.left],
    ) if deltas else None  # fmt: skip
    results = [result for answer in answers for result in answer.results]
    conflicts = [conflict for answer in answers for conflict in answer.conflicts]
    return Answer(results, conflicts, delta, since, written)


def _check_escapes(body: bytes) -> None:
    try:
        check_text(body)
    except InvalidValue:
        for i, raw in enumerate(raw_changes(body)):
            try:
                check_text(raw)
            except InvalidValue as wrong:
                fault = Fault(f"/changes/{i}", str(wrong))
                raise Malformed(f"{wrong} (/changes/{i})", code="invalid_value", faults=(fault,)) from None
        raise Malformed("The body holds text that cannot be stored.", code="invalid_value") from None


async def perform(work: Push, log: Log, event: Event, skew: int, now: int) -> Answer:
    """Appends what is left of a push, settling in a few rounds what the log refuses."""
    for turn in range(ROUNDS):
        if work.message.atomic and work.rejected():
            raise _atomic(work)
        # A clock that is ahead, by ours too, will be refused once: not at the cost of a whole group.
        ahead = any(work.changes[i][0].hi > now + skew for i in work.left)
        try:
            receipt = await log.push(work.call(event, skew), alone=ahead or turn > 0)
        except Refusal as why:
            if why.state == "SY004":
                work.forgotten(await log.unremembered(work.call(event, skew)))
            else:
                _settle(work, why, skew)
            continue
        work.settle(receipt)
        if receipt.page is None:
            return work.answer(None)
        return work.answer(await page_or_beginning(log, work.caller, work.reading, receipt.page))
    raise Busy


def _settle(work: Push, why: Refusal, skew: int) -> None:
    if why.state == "SY001":
        large = {work.left[n - 1] for n in msgspec.json.decode(why.said, type=list[int])}
        work.left = [i for i in work.left if i not in large]
        for i in large:
            work.reject(i, "record_too_large")
    elif why.state == "SY002":
        work.lower(msgspec.json.decode(why.said), skew)
    elif why.state == "SY003":
        for n, mark in enumerate(why.said):
            if mark in MARKS:
                work.reject(work.left[n], MARKS[mark])
    else:
        raise why


def _atomic(work: Push) -> Refused:
    results = ((i, work.results[i]) for i in work.rejected())
    return Refused(faults=tuple(Fault(f"/changes/{i}", r.detail or "", r.code) for i, r in results if r is not None))


__all__ = ["Answer", "IncomingChange", "push"]
