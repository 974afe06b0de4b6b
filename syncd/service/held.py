"""Held changes on their way out: shown to their author, and written when they may be."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import structlog
from msgspec import Raw, UnsetType

from syncd.core.clock import format_instant
from syncd.core.errors import DatabaseUnavailable, Malformed, MembershipsUnavailable, SyncdError
from syncd.core.pieces import in_turns
from syncd.core.principal import Principal, actor_of
from syncd.core.values import InvalidValue, check_text
from syncd.protocol import restamp
from syncd.protocol.first_generation import LegacyStamps, push_body
from syncd.protocol.holding import UNKNOWN
from syncd.protocol.messages import IncomingChange, PushBody
from syncd.protocol.normalize import Limits, NormalizedChange
from syncd.protocol.pull_messages import PullRequest
from syncd.protocol.push_decision import PushDecision
from syncd.service.aside import LEGACY_SMALL, aside
from syncd.service.counts import Counts
from syncd.service.event_ids import EventIds
from syncd.service.pull import PullState
from syncd.service.push import Check, perform
from syncd.store.held import Due, HeldChange, HeldChanges, HeldRow
from syncd.store.log import Log
from syncd.store.pool import Refusal

log = structlog.get_logger("syncd.held")

AT_ONCE = 200
EVERY = 15.0
# Of whom a membership service is asked in one slow look.
ASKED = 20
# All workers hear of a new member at once; the first to come has usually done it before the next.
JITTER = 0.2
GONE = "SY005"


class Released(NamedTuple):
    """What became of held changes by number: a status, or the code of why they stay."""

    written: dict[int, str]
    kept: dict[int, str]


class Releasing:
    """The refusals of a push of held changes: they stay, with the new reason."""

    def __init__(self, rows: Sequence[HeldChange]) -> None:
        self._rows, self.kept = rows, dict[int, str]()

    def refuse(
        self, place: int, code: str, change: IncomingChange, normalized: NormalizedChange | None, space: str
    ) -> None:
        self.kept[self._rows[place].held_no] = code

    def make(self, space: str) -> bool:
        return False

    def may_make(self, space: str) -> bool:
        return False

    def head(self) -> dict[str, Any]:
        return {"release": [row.held_no for row in self._rows if row.held_no not in self.kept]}


class Releaser:
    """Writes held changes as the users and devices that pushed them, with their own stamps, each once: the push and the
    end of being held are one transaction. `wrote` is told (space, app, seq). `skew` is microseconds."""

    def __init__(
        self, log: Log, held: HeldChanges, key: bytes, limits: Limits, skew: int,
        wrote: Callable[[str, str, int], None], check: Check | None = None,
    ) -> None:  # fmt: skip
        self._log, self.held, self._key, self._limits, self._skew, self._wrote = log, held, key, limits, skew, wrote
        self._check = check

    async def release(self, due: Due, nos: Sequence[int] | None = None) -> Released:
        """Writes a device's changes that may be written by now, or tries those of `nos`. Raises Busy and the like."""
        rows = await self.held.take(due, min(AT_ONCE, self._limits.max_changes), nos)
        large = sum(len(row.change) for row in rows) > LEGACY_SMALL
        readable, kept = await aside(large, self._readable, rows)
        written = dict[int, str]()
        if readable:
            written, refused = await self._push(due, readable, large)
            # What is too much for one push has its turn in the next.
            kept |= {no: code for no, code in refused.items() if not (written and code == "push_too_large")}
        await self.held.mark(due.user_id, kept)
        return Released(written, kept)

    def _readable(self, rows: Sequence[HeldChange]) -> tuple[list[tuple[HeldChange, IncomingChange]], dict[int, str]]:
        """Those that can be read, and why the others stay."""
        readable, kept = list[tuple[HeldChange, IncomingChange]](), dict[int, str]()
        for row in in_turns(rows, 1):
            try:
                readable.append((row, self._read(row)))
            except (Malformed, InvalidValue) as why:
                kept[row.held_no] = why.code if isinstance(why, Malformed) else "invalid_value"
        return readable, kept

    def _read(self, row: HeldChange) -> IncomingChange:
        raw = row.change.encode()
        check_text(raw)
        if len(raw) > self._limits.max_change:
            raise Malformed(code="change_too_large")
        return push_body(b'{"changes":[%s]}' % raw).changes[0]

    async def _push(
        self, due: Due, readable: Sequence[tuple[HeldChange, IncomingChange]], large: bool
    ) -> tuple[dict[int, str], dict[int, str]]:
        rows = [row for row, _ in readable]
        releasing = Releasing(rows)
        work = await aside(large, self._decision, due, readable, releasing)
        if not work.left and not work.repeats and len(releasing.kept) == len(rows):
            return {}, releasing.kept
        now = time.time_ns() // 1000
        try:
            state = PullState(work.pull, due.user_id, self._key)
            answer = await perform(
                work, state, self._log, EventIds(now), self._skew, now, large=large, check=self._check
            )
        except Refusal as why:
            if why.state != GONE:
                raise
            return {}, {}  # another process was first
        for space, seq in answer.written.items():
            self._wrote(space, due.app, seq)
        statuses = zip(rows, answer.results, strict=True)
        return {row.held_no: result.status for row, result in statuses if not result.code}, releasing.kept

    def _decision(
        self, due: Due, readable: Sequence[tuple[HeldChange, IncomingChange]], releasing: Releasing
    ) -> PushDecision:
        message, wanted = PushBody([change for _, change in readable], pull=False), PullRequest(due.app, plain=True)
        work = PushDecision(
            Principal(due.user_id), due.client_id, wanted, message, self._limits, LegacyStamps(), refusals=releasing
        )
        for i in in_turns(work.left, 1):
            normalized, row = work.changes[i][0], readable[i][0]
            # A stamp that was ahead when it came, or was to be the time of receipt, is from then.
            restamp.lower_stamps([normalized], due.client_id, row.received_us + self._skew, row.received_us)
            known = None if row.content is None or row.content.startswith(UNKNOWN) else row.content
            normalized.c = normalized.c or known
            said = readable[i][1].actor
            normalized.a = actor_of(row.service, None if isinstance(said, UnsetType) else bytes(said).decode())
        return work


class ChangedMembers:
    """The users whose memberships are not what they were, by number, until somebody looks."""

    def __init__(self) -> None:
        self._users = set[int]()
        self._awake = asyncio.Event()

    def add(self, users: Iterable[int]) -> None:
        """Adds some, and wakes who waits."""
        self._users.update(users)
        self._awake.set()

    async def wait(self) -> None:
        """Returns when there are some since the last `take`."""
        await self._awake.wait()

    def take(self) -> list[int]:
        """All of them in order; none is left."""
        self._awake.clear()
        users, self._users = self._users, set()
        return sorted(users)


class ReleaseRound:
    """Finds held changes that have become writable: at once where somebody `changed`, else by a slow look.

    `hear`: where memberships come from a service, takes in which a user has by now. An author whose device is away asks
    for nothing, so the slow look does it for those who wait, `ASKED` of them in turn. Raises MembershipsUnavailable.
    """

    def __init__(
        self, releaser: Releaser, counts: Counts, changed: ChangedMembers,
        hear: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:  # fmt: skip
        self._releaser, self._counts, self._changed, self._hear = releaser, counts, changed, hear
        self._heard = 0
        self._looked = -EVERY

    async def __call__(self) -> None:
        """Waits for the next look, and looks. Raises Busy, DatabaseUnavailable."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._looked + EVERY - loop.time()):
                await self._changed.wait()
        users = self._changed.take()
        if loop.time() >= self._looked + EVERY:
            self._looked, found = loop.time(), None
        else:
            await asyncio.sleep(random.uniform(0, JITTER))
            found = users
        if self._counts.held or await self._releaser.held.number():
            if found is None and self._hear is not None:
                await self._hear_of_waiting(self._hear)
            while any([await self._release(due) for due in await self._releaser.held.due(found)]):
                pass  # there may be more than one answer names
            self._counts.held = await self._releaser.held.number()

    async def _hear_of_waiting(self, hear: Callable[[str], Awaitable[None]]) -> None:
        async def one(user: str) -> None:
            with contextlib.suppress(MembershipsUnavailable):  # the log has it
                await hear(user)

        waiting = await self._releaser.held.waiting(self._heard, ASKED)
        self._heard = waiting[-1].user_no if len(waiting) == ASKED else 0
        await asyncio.gather(*(one(user.user_id) for user in waiting))

    async def _release(self, due: Due) -> bool:
        """Writes what a device has due; whether there was any. One that cannot be written just now keeps no other."""
        done = False
        try:
            while (await self._releaser.release(due)).written:
                done = True
        except DatabaseUnavailable:
            raise
        except SyncdError as why:
            log.warning("held changes could not be written", code=why.code)
            return False
        return done


def shown(rows: Sequence[HeldRow], more: bool) -> bytes:
    """Held changes for their author, as JSON text."""
    return msgspec.json.encode({"held": [_shown(row) for row in rows], "hasMore": more})


def _shown(row: HeldRow) -> dict[str, Any]:
    said = {
        "heldId": row.held_no, "reason": row.reason, "receivedAt": format_instant(row.received_us),
        "clientId": row.client_id, "spaceId": row.space_id, "table": row.table_name, "id": row.record_id,
    }  # fmt: skip
    return {name: value for name, value in (said | as_it_came(row.change)).items() if value is not None}


def as_it_came(change: str) -> dict[str, Any]:
    """A held change as a member: `change`, or `text` where it is JSON that not every reader takes."""
    try:
        msgspec.json.decode(change)
    except (msgspec.DecodeError, RecursionError):
        return {"text": change}
    return {"change": Raw(change.encode())}
