"""Push: what a device wrote, into the log, once."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from syncd.core.errors import Busy, Fault, HeldFull, Malformed, Refused, TooLarge
from syncd.core.pieces import empty, in_turns
from syncd.core.principal import Principal
from syncd.core.values import InvalidValue, check_text
from syncd.protocol import normalize
from syncd.protocol.first_generation import LegacyStamps
from syncd.protocol.holding import Holding, Sent
from syncd.protocol.messages import PushBody, raw_changes
from syncd.protocol.normalize import Limits, Stamps
from syncd.protocol.pull_messages import PullRequest
from syncd.protocol.push_answer import PushAnswer
from syncd.protocol.push_decision import PushDecision
from syncd.service.aside import aside, is_large
from syncd.service.event_ids import EventIds
from syncd.service.pull import PullState, page_or_beginning
from syncd.store.log import Log, PushCall
from syncd.store.pool import UNWRITABLE, Refusal, Unforeseen, unwritable

ROUNDS = 8
# How often a push of the first generation may fail and be cut because what it touches is too much for one transaction,
# and after how many parts of one size others of twice the size are tried.
CUTS, SOME = 32, 4
# Why the log refuses single changes, whose places it tells, by what it raises.
REASONS = {"SY001": "record_too_large", "SY008": "push_too_large", "SY011": "too_many_names"}


Check = Callable[[PushDecision], Awaitable[None]]


class PushRequest(NamedTuple):
    """What a device pushes, and what it wants in return: `pull`. `body` is the JSON text of `message`; `now` is
    microseconds; `events` gives the changes their event ids; `on_derived` is told the places of changes that rules
    write something beside, before anybody hears of them."""

    caller: Principal
    client: str
    pull: PullRequest
    body: bytes
    message: PushBody
    now: int
    events: EventIds
    on_derived: Callable[[int], None] | None = None


class PushService:
    """Answers pushes. `key` signs cursors; `skew`: microseconds by which a device's clock may be ahead; `check`: the
    application's rules."""

    def __init__(self, log: Log, key: bytes, limits: Limits, skew: int, check: Check | None = None) -> None:
        self._log, self._key, self.limits, self._skew, self._check = log, key, limits, skew, check

    async def push(self, request: PushRequest) -> PushAnswer:
        """Raises Malformed, TooLarge, DeviceCopied, Refused, Busy and the like."""
        caller, client, wanted, body, message, now, event, on_derived = request
        log, limits, skew = self._log, self.limits, self._skew
        sent, large = Sent(body, message.schemaVersion, limits), is_large(body, wanted.plain)
        holds = wanted.plain and not message.atomic
        if len(message.changes) > limits.max_changes and not holds:
            raise TooLarge(
                f"A push holds at most {limits.max_changes} changes; send them in parts.", code="too_many_changes"
            )
        if not holds:
            await aside(large, _check_escapes, body)
        if message.incarnations is not None and await log.devices.check(caller.user, client, message.incarnations):
            message = msgspec.structs.replace(message, incarnations=None)
        state = PullState(wanted, caller.user, self._key)
        if state.partial:
            state = state.staying()
        parts = Parts(caller, client, state, message, sent, holds)
        if holds:
            bounds = await aside(large, parts.bounds)
            return await _perform_parts(log, parts, bounds, event, skew, now, large, self._check)
        work = await aside(large, parts.part, (0, len(message.changes)), stamps_of(state), message.pull)
        if on_derived is not None:
            work.on_derived = on_derived
        return await perform(work, state, log, event, skew, now, large=large, check=self._check)


def stamps_of(state: PullState) -> Stamps:
    """How a device's instants are read."""
    if not state.request.plain:
        return Stamps()
    return LegacyStamps(None if state.fresh else state.request.since)


class Parts(NamedTuple):
    """A push, of which the first generation may send more than one transaction should hold: it never splits one.

    A part is a push of the ordinary size, and is cut once more where that touches too much. The order of a record's
    changes is that of the whole; where a later part fails, those before it stand, and a retry finds them there. A
    record that is written in the personal space and then under the id of another moves there, so that begins another
    part. `holds`: what cannot be written is held.
    """

    caller: Principal
    client: str
    state: PullState
    message: PushBody
    sent: Sent
    holds: bool

    def bounds(self) -> list[tuple[int, int]]:
        """Where each part begins and ends."""
        changes, personal = self.message.changes, self.caller.personal
        starts, own = [0], set[tuple[str, str]]()
        for i, change in enumerate(in_turns(changes)):
            key = change.table, change.id
            is_own = (normalize.space_of(change, personal) or personal) == personal
            if i - starts[-1] == self.sent.limits.max_changes or (key in own and not is_own):
                starts.append(i)
                own.clear()
            if is_own:
                own.add(key)
        return list(zip(starts, [*starts[1:], len(changes)], strict=True))

    def part(self, bounds: tuple[int, int], stamps: Stamps, pull: bool) -> PushDecision:
        """The push of some changes. Raises Malformed where it does not hold."""
        (start, end), message, limits = bounds, self.message, self.sent.limits
        if end - start < len(message.changes):
            message = msgspec.structs.replace(message, changes=message.changes[start:end], pull=pull)
        holding = Holding(self.sent, self.caller.user, self.caller.service) if self.holds else None
        # Nobody looks at what is too large.
        passed_over = self.sent.too_large
        work = PushDecision(
            self.caller, self.client, self.state.request, message, limits, stamps, start, holding, passed_over
        )  # fmt: skip
        if self.holds:
            work.leave_out(self.sent.unstorable, "invalid_value")
        return work

    def let_go(self) -> None:
        """All has been done: its changes are not kept until the answer is sent."""
        empty(self.message.changes)
        self.sent.let_go()


class Cuts:
    """Where the parts of a push end that touches too much: after as many changes as the last one took, for what follows
    is mostly like what was before it, and to try more costs as much as to write it. Not for ever: after SOME such parts
    twice as many are tried. `left`: how often one may still be too much; what is written uses up none."""

    def __init__(self) -> None:
        self.left = CUTS
        self._size, self._taken = 0, 0

    def cut(self, bounds: tuple[int, int]) -> list[tuple[int, int]]:
        """A part as it is to be tried: whole, or as two."""
        (start, end), size = bounds, self._size
        if not 0 < size < end - start:
            return [bounds]
        return [(start, start + size), (start + size, end)]

    def took(self) -> None:
        """A part was written."""
        self._taken += 1
        if self._taken == SOME:
            self._size, self._taken = 2 * self._size, 0

    def too_much(self, place: int) -> None:
        """A part was too much from this change of it on."""
        self.left -= 1
        self._size, self._taken = place, 0


class _TouchesTooMuch(Exception):
    """A part is to be cut at a place of its own, which is not its first."""

    def __init__(self, place: int) -> None:
        super().__init__(place)
        self.place = place


async def _perform_parts(
    log: Log, parts: Parts, all_bounds: list[tuple[int, int]], event: EventIds, skew: int, now: int, large: bool,
    check: Check | None,
) -> PushAnswer:  # fmt: skip
    """Performs all parts in order; the answer is one."""
    state, stamps, pull = parts.state, stamps_of(parts.state), parts.message.pull
    answers: list[PushAnswer] = []
    many, large = len(parts.message.changes) > parts.sent.limits.max_changes, large or len(all_bounds) > 1
    waiting, cuts = deque(all_bounds), Cuts()
    while waiting:
        bounds, *rest = cuts.cut(waiting.popleft())
        waiting.extendleft(rest)
        start, end = bounds
        # A few are answered by the last part: of what was written before a record moved only what lost is told.
        whole = many or end == len(parts.message.changes)
        work, at = await aside(large, parts.part, bounds, stamps, pull), state if whole else state.staying()
        try:
            turn = event.after(start)
            answers.append(await perform(work, at, log, turn, skew, now, large=large, cuts=cuts.left > 0, check=check))
        except _TouchesTooMuch as why:
            cuts.too_much(why.place)
            waiting.appendleft(bounds)
            continue
        cuts.took()
        delta = answers[-1].delta
        if delta is not None and whole:
            # Where a page is full the device has to come for the rest anyway, but not for what it has lost.
            state = state.after(delta)
            state = state.staying() if delta.more else state
    if len(answers) == 1:
        return answers[0]
    return await aside(True, _one_answer, answers, parts)


def _one_answer(answers: list[PushAnswer], parts: Parts) -> PushAnswer:
    parts.let_go()
    deltas = [answer.delta for answer in answers if answer.delta is not None]
    written: dict[str, int] = {}
    for answer in answers:
        written.update(answer.written)  # a later part brought a feed further
    delta = deltas[-1]._replace(
        changes=b",".join(delta.changes for delta in deltas if delta.changes),
        joined=[space for delta in deltas for space in delta.joined],
        left=[space for delta in deltas for space in delta.left],
        unreadable=tuple({space: None for delta in deltas for space in delta.unreadable}),
    ) if deltas else None  # fmt: skip
    results = [result for answer in in_turns(answers, 1) for result in answer.results]
    conflicts = [conflict for answer in answers for conflict in answer.conflicts]
    return PushAnswer(results, conflicts, delta, parts.state.request.since, written)


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


def push_call(work: PushDecision, state: PullState, event: EventIds, skew: int) -> PushCall:
    """What is left of a push, and where its device's pull begins, as the log takes it."""
    pull = {"since": state.since(), "how": state.how()} if work.message.pull else {}
    head, waves, feed, single = work.call(event, skew, pull)
    return PushCall(head, waves, feed, moves=work.moves is not None, follows=work.follows, single=single)


async def perform(
    work: PushDecision, state: PullState, log: Log, event: EventIds, skew: int, now: int, *, large: bool = False,
    cuts: bool = False, check: Check | None = None,
) -> PushAnswer:  # fmt: skip
    """Appends what is left of a push, settling in a few rounds what the log refuses. `large`: beside other work;
    `cuts`: what touches too much is not refused but told, by _TouchesTooMuch; `check`: leaves out what rules refuse."""
    if check is not None:
        await check(work)
        place = next((i for i in work.rejected() if work.coded(i) == "push_too_large"), 0)
        if cuts and place:
            raise _TouchesTooMuch(place)
    for turn in range(ROUNDS):
        if log.full:
            await _leave_out_full(work, log)
        if work.message.atomic and work.rejected():
            raise _atomic(work)
        # A clock that is ahead, by ours too, will be refused once: not at the cost of a whole group.
        ahead = any(work.changes[i][0].hi > now + skew for i in work.left)
        refused = work.refusals is not None and bool(work.rejected())
        try:
            call = await aside(large, push_call, work, state, event, skew)
            receipt = await log.push(call, alone=ahead or refused or turn > 0)
        except Refusal as why:
            if why.state == "SY004":
                work.forgotten(await log.unremembered(call), await log.erased(call) if work.refusals else ())
            else:
                _settle(work, why, skew, cuts)
            continue
        except Unforeseen as why:
            if not work.message.pull:
                raise
            state = await state.around(log, work.caller, why)
            continue
        detail = receipt.detail
        work.settle(receipt.marks, receipt.seqs, detail.events, detail.moved, detail.conflicts)
        if receipt.page is None:
            return work.answer(None)
        return work.answer(await page_or_beginning(log, work.caller, state, receipt.page))
    raise Busy


async def _leave_out_full(work: PushDecision, log: Log) -> None:
    """Rejects what would add to a full space, but for what was written before and is only repeated: was it done comes
    before may it be done."""
    found = work.into(log.full)
    if not found:
        return
    # Meanwhile a look at what there is may find that one of the spaces has room again.
    full = {i: log.full[work.changes[i][1]] for i in found}
    ids = [id_ for i in found if (id_ := work.changes[i][0].c) is not None]
    before = await log.pushed_before(work.caller.user, work.client, ids) if ids else set()
    refused = {i: over for i, over in full.items() if work.changes[i][0].c not in before}
    work.refuse_full({i: over.quota for i, over in refused.items()})
    for over in refused.values():
        log.on_hit(over.quota, over.space_id)


def _settle(work: PushDecision, why: Refusal, skew: int, cuts: bool) -> None:
    if why.state in REASONS:
        places = [work.left[n - 1] for n in msgspec.json.decode(why.said, type=list[int])]
        if cuts and why.state == "SY008" and min(places) > 0:
            raise _TouchesTooMuch(min(places))
        work.refuse(dict.fromkeys(places, REASONS[why.state]))
    elif why.state == UNWRITABLE:
        work.refuse_by_rule(
            {work.left[one.place - 1]: ("rule_refused", one.field, one.text) for one in unwritable(why)}
        )
    elif why.state == "SY002":
        work.lower_stamps(msgspec.json.decode(why.said), skew)
    elif why.state == "SY003":
        work.refused(why.said)
    elif why.state == "SY007":
        work.move(msgspec.json.decode(why.said))
    elif why.state == "SY009":
        work.separate_stamps(msgspec.json.decode(why.said, type=list[tuple[int, list[str]]]))
    elif why.state == "SY006":
        raise HeldFull
    elif why.state == "SY010":
        raise why.as_code()
    else:
        raise why


def _atomic(work: PushDecision) -> Refused:
    results = ((i, work.results[i]) for i in work.rejected())
    return Refused(faults=tuple(Fault(f"/changes/{i}", r.detail or "", r.code) for i, r in results if r is not None))
