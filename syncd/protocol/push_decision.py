"""What a push asks of the log, and what it is answered: all but the asking. Nothing here waits for anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from typing import Any, Protocol

import msgspec

from syncd.core.error_codes import ERROR_CODES
from syncd.core.errors import Fault, InvalidId, Malformed
from syncd.core.ids import fault_in_id
from syncd.core.pieces import in_turns
from syncd.core.principal import Principal, actor_of
from syncd.protocol import normalize, restamp
from syncd.protocol.derived import derive
from syncd.protocol.messages import IncomingChange, PushBody
from syncd.protocol.normalize import OPS, Limits, NormalizedChange, Stamps
from syncd.protocol.pull_messages import PullPage, PullRequest
from syncd.protocol.push_answer import PushAnswer, Result, encoded

LARGEST_RECORD = 16 * 1024 * 1024
# What the head of a push says that is one change and asks for nothing else.
PLAIN_HEAD = {
    "user", "client", "app", "n", "spaces", "tables", "ids", "hi", "skew", "largest", "touched", "personal", "atomic",
    "apart",
}  # fmt: skip
# In place of a change that has no canonical form.
NOT_NORMALIZED = NormalizedChange(i=0, r="", o=0, f={}, g={}, lo=0, hi=0)

# Why the log did not take a change, by the letter it answers with.
MARKS = {"n": "space_not_found", "r": "not_a_writer", "u": "change_id_reused"}


class Refusals(Protocol):
    """What is done about the changes of a push that are refused."""

    def refuse(
        self, place: int, code: str, change: IncomingChange, normalized: NormalizedChange | None, space: str
    ) -> None: ...
    def make(self, space: str) -> bool: ...
    def may_make(self, space: str) -> bool: ...
    def head(self) -> dict[str, Any]: ...


class PushDecision:
    """One push on its way through the log. Decides what to send and what to answer; the push service sends.

    `pull`: how its device pulls; `refusals`: what is done about refused changes, beside telling; `passed_over`: places
    in the whole push of changes that are too large, and not looked at.
    """

    def __init__(
        self, caller: Principal, client: str, pull: PullRequest, message: PushBody, limits: Limits,
        stamps: Stamps | None = None, first: int = 0, refusals: Refusals | None = None,
        passed_over: Set[int] = frozenset(),
    ) -> None:  # fmt: skip
        self.caller, self.client, self.pull, self.message = caller, client, pull, message
        self.first, self.refusals = first, refusals
        self.results: list[Result | None] = [None] * len(message.changes)
        self.adjusted: dict[int, dict[str, str]] = {}
        self.repeats: dict[int, int] = {}
        self.left: list[int] = []
        self.changes: list[tuple[NormalizedChange, str, str]] = []
        self.conflicts: list[dict[str, Any]] = []
        # Whether records are to be moved, None for a device of ours.
        self.moves: bool | None = False if pull.plain else None
        # Whether a device of ours writes to records that moved.
        self.follows = False
        self._moved: Mapping[str, int] = {}
        # The registers that rules wrote beside those of a change.
        self._derived: dict[int, list[str]] = {}
        # Is told the places, in the whole push, of changes that rules write something beside.
        self.on_derived: Callable[[int], None] = lambda place: None
        self._touched = limits.max_touched
        # The space of the change before, whose id was looked at.
        self._good = self.caller.personal
        self._normalize(limits, stamps or Stamps(), passed_over)

    def _normalize(self, limits: Limits, stamps: Stamps, passed_over: Set[int]) -> None:
        first, last, turns = dict[str, int](), dict[tuple[str, ...], str | None](), Counter[str]()
        if self.refusals is None:
            normalize.version(self.message.schemaVersion, "")
        for i, change in enumerate(in_turns(self.message.changes)):
            if self.first + i in passed_over:
                space = normalize.space_of(change, self.caller.personal) or self.caller.personal
                self.changes.append((NOT_NORMALIZED, space, change.table))
                self.reject(i, "change_too_large")
                continue
            try:
                normalized = self._normalized(i, change, limits, stamps)
            except Malformed as why:
                if self.refusals is None:
                    raise
                self.changes.append((NOT_NORMALIZED, "", ""))
                self.reject(i, why.code)
                continue
            if self.moves is not None and change.changeId is None:
                self._written_again(i, last, turns)
            if not normalized.f:
                self.results[i] = Result("applied", change.changeId)  # nothing to write, and all of that is there
            elif limits.max_schema_version is not None and (normalized.v or 0) > limits.max_schema_version:
                self.reject(i, "schema_too_new")
            elif normalized.c is not None and normalized.c in first:
                self._repeat(i, first[normalized.c])
            else:
                if normalized.c is not None:
                    first[normalized.c] = i
                self.left.append(i)

    def _normalized(self, i: int, change: IncomingChange, limits: Limits, stamps: Stamps) -> NormalizedChange:
        """The next change, in canonical form. Raises Malformed."""
        space = normalize.space_of(change, self.caller.personal)
        if stamps.legacy and not space:
            space = self.caller.personal
        feed = (self.pull.app, space)
        normalized = normalize.normalize_change(
            change, self.first + i + 1, self.client, stamps, limits, feed, self.message.bases
        )
        # The changes of a push are mostly of one space.
        if space != self._good and space != self.caller.personal and (wrong := fault_in_id(space)):
            raise InvalidId(f"spaceId {wrong}.", faults=(Fault(f"/changes/{self.first + i}/spaceId", wrong),))
        self._good = space
        normalized.a = actor_of(self.caller.service, normalized.a)
        if normalized.v is None and self.message.schemaVersion is not None:
            normalized.v = normalize.version(self.message.schemaVersion, "")
        self.changes.append((normalized, space, change.table))
        return normalized

    def _written_again(self, i: int, last: dict[tuple[str, ...], str | None], turns: Counter[str]) -> None:
        """Of a value, another one and the first again, all at one instant, the third is no repeat: it is what the
        device shows, and gets an id of its own. `last`: which content wrote a register with a stamp last; `turns`: how
        often each came where another one stood."""
        normalized, space, table = self.changes[i]
        content = normalized.c
        keys = [(space, table, normalized.r, name, register.at) for name, register in normalized.f.items()]
        if content is not None and any(last.get(key) != content for key in keys):
            if content in turns:
                normalized.c = normalize.content_id([content, turns[content]])
            turns[content] += 1
        last.update(dict.fromkeys(keys, content))

    def _repeat(self, i: int, earlier: int) -> None:
        """The same change id twice in one push: the same change once, or one that must not be."""
        if _content(self.changes[i]) == _content(self.changes[earlier]):
            self.repeats[i] = earlier
        else:
            self.reject(i, "change_id_reused")

    def leave_out(self, places: set[int], code: str) -> None:
        """Rejects changes that are not to be tried; places are those of the whole push."""
        self.refuse({i: code for i in self.left if self.first + i in places})

    def refuse(self, codes: dict[int, str], never: Collection[int] = ()) -> None:
        """Rejects changes that were to be tried, each with its code; those in `never` are not held."""
        self.left = [i for i in self.left if i not in codes]
        for i, code in codes.items():
            self.reject(i, code, hold=i not in never)

    def reject(self, i: int, code: str, *, hold: bool = True) -> None:
        """Refuses the change at a place, with a code of the error codes."""
        change = self.message.changes[i]
        held = hold and self.refusals is not None
        if held and self.refusals is not None:
            normalized, space, _ = self.changes[i]
            known = None if normalized is NOT_NORMALIZED else normalized
            self.refusals.refuse(self.first + i, code, change, known, space)
        text = ERROR_CODES[code].text
        self.results[i] = Result("rejected", change.changeId, code=code, detail=text, held=held)

    def refused(self, marks: str) -> None:
        """Takes in why the log refused changes, unless a space is to be made for them."""
        spaces = [self.changes[i][1] for i in self.left]
        unknown = {space for space, mark in zip(spaces, marks, strict=True) if mark == "n"}
        made = {space for space in sorted(unknown) if self.refusals and self.refusals.make(space)}
        found = zip(self.left, spaces, marks, strict=True)
        self.refuse(
            {i: MARKS[mark] for i, space, mark in found if mark in MARKS and not (mark == "n" and space in made)}
        )

    def into(self, full: Collection[str]) -> list[int]:
        """The changes that would add to one of these spaces."""
        left = ((i, *self.changes[i][:2]) for i in self.left)
        return [
            i for i, change, space in left
            if space in full and not (change.o == OPS["delete"] and normalize.deletes(change.f))
        ]  # fmt: skip

    def refuse_full(self, quotas: Mapping[int, str]) -> None:
        """Rejects changes, each because of a quota."""
        self.refuse(dict.fromkeys(quotas, "quota_exceeded"))
        for i, quota in quotas.items():
            result = self.results[i]
            assert result is not None
            result.quota = quota

    def refuse_by_rule(self, reasons: Mapping[int, tuple[str, str | None, str]]) -> None:
        """Rejects changes that rules of the application do not take: the code, the field and the text of each; an empty
        text is the code's."""
        self.refuse({i: code for i, (code, _, _) in reasons.items()})
        for i, (_, field, text) in reasons.items():
            result = self.results[i]
            assert result is not None
            result.field, result.detail = field, text or result.detail

    def repeated(self, i: int, event: str, seq: int) -> None:
        """A change is in the log already, as it is."""
        self.left.remove(i)
        self.results[i] = Result("duplicate", self.message.changes[i].changeId, event, seq)

    def derive(self, i: int, values: Mapping[str, Any]) -> None:
        """Writes fields beside those of a change, stamped above all of them, as a rule says. Raises InvalidValue."""
        normalized, _, _ = self.changes[i]
        if normalize.deletes(normalized.f):
            return
        derive(normalized, values, self.client)
        self._derived[i] = list(values)
        self.on_derived(self.first + i)

    def rejected(self) -> list[int]:
        """The places of the changes that were refused."""
        return [i for i, result in enumerate(self.results) if result is not None and result.status == "rejected"]

    def coded(self, i: int) -> str | None:
        """Why the change at a place was refused."""
        result = self.results[i]
        return None if result is None else result.code

    def call(
        self, event: Callable[[int], str], skew: int, pull: Mapping[str, Any]
    ) -> tuple[bytes, list[str], tuple[str, str] | None, bool]:
        """What is left of the push, for the log: the head and the waves as JSON texts, the (space, app) where all of it
        is one feed's, and whether it is one change and asks for nothing else. `event`: the event id of a place; `skew`:
        microseconds; `pull`: `since` and `how` of the page that is to be read with it, or nothing."""
        batch = normalize.batch([self.changes[i] for i in self.left], event)
        if len(batch.waves) > 1:
            self.separate_stamps()
        chosen = [self.changes[i][0] for i in self.left]
        head: dict[str, Any] = {
            **self.caller.head(), "client": self.client, "app": self.pull.app, "n": len(chosen),
            "spaces": batch.spaces, "tables": batch.tables, "ids": [p.c for p in chosen],
            "hi": max((p.hi for p in chosen), default=0), "skew": skew, "largest": LARGEST_RECORD,
            "touched": self._touched,
        }  # fmt: skip
        if len(batch.spaces) > 1:
            head["sp"] = batch.space_of
        if self.caller.personal in batch.spaces:
            head["personal"] = True
        if self.message.atomic:
            head["atomic"] = True
        if self.refusals is not None:
            head["held"] = self.refusals.head()
            if "release" in head["held"]:
                head["tells"] = True
        if self.message.incarnations is not None:
            head["incarnations"] = self.message.incarnations
        head.update(pull)
        if self.moves is None:
            head["apart"] = True
        else:
            head["moves"] = self.moves
        if self.follows:
            head["follows"] = True
        feed = (batch.spaces[0], self.pull.app) if len(batch.spaces) == 1 else None
        single = len(chosen) == 1 and head.keys() <= PLAIN_HEAD
        return msgspec.json.encode(head), [encoded(wave).decode() for wave in in_turns(batch.waves)], feed, single

    def move(self, said: dict[str, Any]) -> None:
        """Brings changes to where their records have moved, and moves others in the next round; a device of ours has
        what it writes written there, too."""
        if "follow" in said:
            self.follows = True
            return
        for n, space in said["away"].items():
            i = self.left[int(n) - 1]
            change, _, table = self.changes[i]
            self.changes[i] = change, space, table
        self.moves = self.moves or bool(said["here"])

    def forgotten(self, places: list[int], erased: Collection[int] = ()) -> None:
        """Rejects what would bring back a record whose tombstone the server does not have any more, or one that was
        `erased`, of which nothing is held."""
        never = {self.left[n - 1] for n in erased}
        self.refuse({self.left[n - 1]: "record_forgotten" for n in places}, never)

    def lower_stamps(self, said: dict[str, Any], skew: int) -> None:
        """Brings stamps ahead of the database's clock down to it, above all that this device wrote there before, and
        above what it says that it overwrote."""
        now = int(said["now"])
        own = int(said["own"])
        start = max(now, own + 1 if own <= now + skew else now)
        if not self.pull.plain:
            start = max(start, restamp.greatest_base([self.message.changes[i] for i in self.left], now + skew) + 1)
        chosen = [self.changes[i][0] for i in self.left]
        for i, times in zip(self.left, restamp.lower_stamps(chosen, self.client, now + skew, start), strict=True):
            if times:
                self.adjusted[i] = {**self.adjusted.get(i, {}), **times}

    def separate_stamps(self, said: Sequence[tuple[int, list[str]]] = ()) -> None:
        """Raises stamps that a device of ours has given to another value already: in this push or, as the log said,
        before."""
        if self.moves is not None:
            return
        twice = {self.left[n - 1]: fields for n, fields in said}
        records: dict[tuple[str, str, str], list[int]] = {}
        for i in self.left:
            change, space, table = self.changes[i]
            records.setdefault((space, table, change.r), []).append(i)
        for places in in_turns(records.values()):
            chosen = [self.changes[i][0] for i in places]
            again = {(k, field) for k, i in enumerate(places) for field in twice.get(i, ())}
            for i, times in zip(places, restamp.separate_stamps(chosen, self.client, again), strict=True):
                if times:
                    self.adjusted[i] = {**self.adjusted.get(i, {}), **times}

    def settle(
        self, marks: str, seqs: Sequence[int], events: Mapping[str, str | None], moved: Mapping[str, int],
        conflicts: Sequence[tuple[int, Sequence[Mapping[str, Any]] | None]],
    ) -> None:  # fmt: skip
        """Takes the log's answer into the results: a letter and a seq by place, the event ids of what was there before,
        the heads of feeds that records moved to, and the registers that lost by place."""
        self._moved = moved
        for n, i in enumerate(self.left):
            mark, seq = marks[n], seqs[n]
            if mark in MARKS:
                self.reject(i, MARKS[mark])
                continue
            event = events.get(str(n + 1)) if mark == "d" else self.changes[i][0].e
            status = {"a": "applied", "s": "superseded", "d": "duplicate"}[mark]
            at = self.adjusted.get(i) if mark != "d" else None
            self.results[i] = Result(status, self.message.changes[i].changeId, event, seq, at)
        for n, fields in conflicts:
            self._told(self.left[n - 1], fields or ())

    def _told(self, i: int, fields: Sequence[Mapping[str, Any]]) -> None:
        """The registers of a change that lost, and those that it wrote over unseen."""
        change, space, table = self.changes[i]
        for field in fields:
            if "clientValue" in field:
                said = {"spaceId": space, "table": table, "id": change.r, **field}
                if self.pull.plain:
                    del said["by"]
                self.conflicts.append(said)
            elif (result := self.results[i]) is not None:
                result.overwrote = [*(result.overwrote or ()), field]

    def answer(self, delta: PullPage | None) -> PushAnswer:
        results: list[Result] = []
        for i, result in enumerate(self.results):
            if i in self.repeats:
                first = results[self.repeats[i]]
                same = first.status in ("applied", "superseded", "duplicate")
                result = msgspec.structs.replace(first, status="duplicate" if same else first.status)
            assert result is not None
            results.append(result)
        if delta is not None and self._derived:
            # A page leaves out the changes of its own push, and its device has not these.
            told = [self._derived_text(i, results[i]) for i in self._derived if results[i].status == "applied"]
            delta = delta._replace(changes=b",".join([text for text in (delta.changes, *told) if text]))
        return PushAnswer(results, self.conflicts, delta, self.pull.since, self._written(results))

    def _derived_text(self, i: int, result: Result) -> bytes:
        """What a rule wrote beside a change, as a page says a change."""
        change, space, table = self.changes[i]
        fields: dict[str, Any] = {name: change.f[name] for name in self._derived[i]}
        if self.pull.plain:
            # A device of the first generation reads milliseconds, under both names.
            times = {name: f"{register.at[:23]}Z" for name, register in fields.items()}
            fields = {n: {"value": r.value, "at": times[n], "updatedAt": times[n]} for n, r in fields.items()}
        return msgspec.json.encode({
            "eventId": result.eventId, "seq": result.seq, "table": table, "id": change.r, "op": "update",
            "spaceId": space, "clientId": self.client, "fields": fields,
        })  # fmt: skip

    def _written(self, results: list[Result]) -> dict[str, int]:
        heads = dict(self._moved)
        for (_, space, _), result in zip(self.changes, results, strict=True):
            if result.status in ("applied", "superseded") and result.seq:
                heads[space] = max(heads.get(space, 0), result.seq)
        return heads


def _content(change: tuple[NormalizedChange, str, str]) -> tuple[Any, ...]:
    normalized, space, table = change
    registers = {name: (msgspec.json.decode(r.value), r.at) for name, r in normalized.f.items()}
    return space, table, normalized.r, normalized.o, msgspec.json.encode(registers, order="deterministic")
