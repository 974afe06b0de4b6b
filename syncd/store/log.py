"""The log: pushes appended and merged, feeds read from a position. One call to the database each.

A small call waits for the one in flight and then shares a transaction with those that waited too: its
flush is shared, and a hot feed does not serialise devices by it. Each runs under its own user; where one
of them fails, all are run again alone, so nobody pays for another's fault but with a little time.
What would have to make a name, as a device's first push, is left out of its group and then goes alone.

Others take turns (`syncd.store.feed_queue`), so that a push waits here for those to its feed that are before it. But a
feed may be locked for long by another worker. At first nobody waits longer than a moment for it; who has to
wait longer does so apart, on a share of the connections, so that the others keep theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from syncd.postgres.contexts import ActingCall, ActingCalls, ActingUser
from syncd.store.batcher import Batcher
from syncd.store.devices import Devices
from syncd.store.feed_queue import FeedQueue
from syncd.store.kept_cursors import KeptCursors
from syncd.store.pool import Locked, Pool
from syncd.store.shared_pages import SharedPages
from syncd.store.standbys import Standbys
from syncd.store.turns import Turns
from syncd.store.usage import Over

LANES = 2
# A second lane of pushes is for a group that is full; peeks only share a round trip.
GROUP = 32
PEEKS = 48
# Fewer changes cost less one by one than the statements for all of them.
FEWEST = 4
SMALL = 16 * 1024
SHORT_LOCK_WAIT = "250ms"
# For those of a group that got no lock: one after the other they may all be stuck.
SHORTEST_LOCK_WAIT = "50ms"


class Page(NamedTuple):
    """What a read found. Positions are (space, seq, base) in three lists."""

    body: bytes
    spaces: list[int]
    seqs: list[int]
    bases: list[int]
    joined: list[str]
    gone: list[str]
    more: bool
    news: bool
    now_us: int
    boot_us: int
    trouble: str | None


class PulledThere(NamedTuple):
    """A page that a standby read; `members`: by which spaces of the user, as one value."""

    why: str | None
    replayed: int | None
    members: bytes | None
    page: Page | None


class PeekResult(NamedTuple):
    """Whether there is something to read; `roles`: whether there is something to tell of the user's spaces; `boot_us`:
    the database's start."""

    news: bool
    roles: bool
    now_us: int
    boot_us: int
    trouble: str | None


class ToldSpaces(NamedTuple):
    """Names and roles of a user's spaces as JSON text, comma-separated; up to where a device is told with them, as
    `protocol.told_spaces` has it, and whether there are others."""

    spaces: str
    head: int
    boot_us: int
    after: int | None
    more: bool


class UnreadableSpace(NamedTuple):
    """A space for which pulls fail, by number and id."""

    space_no: int
    space_id: str


class Detail(msgspec.Struct):
    """What more is to be said of a push: event ids by place, heads of feeds that records moved to by space, and the
    registers that lost, by place. Their values stay texts: they may be megabytes."""

    events: dict[str, str | None] = {}
    moved: dict[str, int] = {}
    conflicts: list[tuple[int, list[dict[str, msgspec.Raw]] | None]] = []


class Receipt(NamedTuple):
    """What became of a push: per change its seq (0: none) and a letter (see sync_receipt)."""

    seqs: list[int]
    marks: str
    detail: Detail
    page: Page | None


class GroupReceipt(NamedTuple):
    """What became of a group: of each push the seq, or 0, where its receipt follows in `receipts`, as tuples."""

    seqs: list[int]
    receipts: list[Any] | None


class PushCall(NamedTuple):
    """A push for the log: the head as JSON text, the waves as JSON texts, and its (space, app) where that is one.

    `moves`: its device is of the first generation, whose records move from the personal space to others; `follows`: it
    is not, and writes to records that moved. `single`: it is one change, and asks for nothing else.
    """

    head: bytes
    waves: list[str]
    feed: tuple[str, str] | None = None
    moves: bool = False
    follows: bool = False
    single: bool = False

    @property
    def small(self) -> bool:
        """Whether it may share a transaction with others."""
        return self.feed is not None and len(self.waves) == 1 and len(self.head) + len(self.waves[0]) <= SMALL


_DETAIL = msgspec.json.Decoder(Detail)


NO_DETAIL = Detail()


def worth_a_group(calls: Sequence[PushCall]) -> bool:
    """Whether calls are written by a few statements for all: most are of one change, and none needs another way."""
    return sum(call.single for call in calls) >= FEWEST and not any(call.moves or call.follows for call in calls)


def _receipt(row: Any) -> Receipt | None:
    if row[1] is None:
        return None
    return Receipt(row[0], row[1], _DETAIL.decode(row[2]) if row[2] else NO_DETAIL, _page(row[3]))


def _heads(calls: Sequence[PushCall]) -> ActingCalls:
    """The heads of a group say that they are of one."""
    return ActingCalls([b'{"grouped":true,' + call.head[1:] if len(calls) > 1 else call.head for call in calls])


def _page(row: Any) -> Page | None:
    return None if row is None else Page(*row)


class Log:
    """Pushes and pulls. Small ones travel together. `full`: the spaces that take nothing but deletions, by id, as the
    last look found them; `on_hit`: is told which quota was met, and in which space; `on_wait`: is told how long
    the quickest of a group was on its way. `standbys`: what may be read elsewhere is asked of them first."""

    def __init__(
        self, pool: Pool, *, most_devices: int = 0, on_wait: Callable[[float], None] = lambda seconds: None,
        on_hit: Callable[[str, str], None] = lambda quota, space: None, standbys: Standbys | None = None,
    ) -> None:  # fmt: skip
        self._pool, self._standbys = pool, standbys
        self.devices, self.cursors, self.pages = Devices(pool, most_devices), KeptCursors(pool), SharedPages()
        self.full: dict[str, Over] = {}
        self.on_hit = on_hit
        self._pushes: Batcher[PushCall, Receipt] = Batcher(
            self._push_group, self._push_alone, LANES, GROUP, spare=GROUP // 2, on_wait=on_wait
        )
        self._queue: FeedQueue[PushCall, Receipt] = FeedQueue(self._push_group, self._push_alone, GROUP)
        self._patient = Turns(max(1, pool.size // 2))
        self._peeks: Batcher[bytes, PeekResult] = Batcher(
            self._peek_group, self._peek_alone, LANES, PEEKS, on_wait=on_wait
        )

    async def push(self, call: PushCall, *, alone: bool = False) -> Receipt:
        """Appends a push. Raises Refusal (SY001 to SY012), Busy, DatabaseUnavailable."""
        if alone or not call.small:
            async with self._queue.large(call.feed):
                return await self._push_large(call)
        try:
            if call.feed is not None and self._queue.apart(call.feed):
                return await self._queue.join(call.feed, call)
            return await self._pushes.join(call)
        except Locked:
            return await self._push_patiently(call)

    async def unremembered(self, call: PushCall) -> list[int]:
        """The places of the changes for which a push was refused with SY004."""
        return list((await self._pool.fetch("unremembered", ActingCall(call.head), call.waves))[0][0] or [])

    async def erased(self, call: PushCall) -> list[int]:
        """Those of them that are of erased records."""
        return list((await self._pool.fetch("erased_in", ActingCall(call.head), call.waves))[0][0] or [])

    async def pushed_before(self, user: str, client: str, changes: Sequence[str]) -> set[str]:
        """Which of a device's change ids are in the log already."""
        return set((await self._pool.fetch("pushed_before", ActingUser(user), client, list(changes)))[0][0])

    async def pull(self, call: bytes) -> Page:
        """Reads a page. `call` is one member of sync_pull's parameter as JSON text. Raises Unforeseen where a feed
        cannot be read."""
        return await self._pull_alone(call)

    @property
    def spread(self) -> bool:
        """Whether standbys answer what begins."""
        return self._standbys is not None

    async def pull_anywhere(self, call: bytes) -> Page:
        """The same of what a standby may answer: it is so far as the primary is now, which has the clock."""
        found = await self._standbys.read("pull_there", call) if self._standbys else None
        if found is None:
            return await self._pull_alone(call)
        row, point = found
        return Page(*row["page"])._replace(now_us=point.now_us)

    async def unreadable(self, call: bytes) -> list[UnreadableSpace]:
        """For which spaces a pull fails, when it has failed with Unforeseen; none where it is something else."""
        return [UnreadableSpace(*row) for row in await self._pool.fetch("unreadable", ActingCall(call))]

    async def roles(self, call: bytes) -> ToldSpaces:
        """What a device is to be told of its user's spaces: `call` is the parameter of sync_roles as JSON text."""
        return ToldSpaces(*(await self._pool.fetch("roles", ActingCall(call)))[0])

    async def peek(self, call: bytes) -> PeekResult:
        """Whether there is news, in company of others. `call` is as for `pull`, and says "peek"."""
        return await self._peeks.join(call)

    async def _push_large(self, call: PushCall) -> Receipt:
        try:
            return await self._append_one(call, SHORT_LOCK_WAIT)
        except Locked:
            return await self._push_patiently(call)

    async def _push_alone(self, call: PushCall) -> Receipt:
        return await self._append_one(call, SHORTEST_LOCK_WAIT)

    async def _push_group(self, calls: list[PushCall]) -> list[Receipt | None]:
        # Every group locks its feeds in one order, so that two groups never wait for each other in a ring.
        order = sorted(range(len(calls)), key=lambda i: calls[i].feed or ("", ""))
        ordered = [calls[i] for i in order]
        append = self._append_together if worth_a_group(calls) else self._append
        receipts = await append(ordered, SHORT_LOCK_WAIT)
        return [receipt for _, receipt in sorted(zip(order, receipts, strict=True), key=lambda pair: pair[0])]

    async def _push_patiently(self, call: PushCall) -> Receipt:
        async with self._patient.place(self._pool.lock_seconds):
            return await self._append_one(call, None)

    async def _append_one(self, call: PushCall, patience: str | None) -> Receipt:
        [receipt] = await self._append([call], patience)
        assert receipt is not None
        return receipt

    async def _append(self, calls: list[PushCall], patience: str | None) -> list[Receipt | None]:
        """The receipt of each; None for one that has to come alone."""
        heads = _heads(calls)
        waves = [text for call in calls for text in call.waves]
        name = "push_following" if calls[0].follows else "push_moving" if any(call.moves for call in calls) else "push"
        feeds = [call.feed for call in calls]
        rows = await self._pool.fetch(
            name, heads, [len(call.waves) for call in calls], waves, patience,
            took=lambda seconds: self._queue.took(feeds, seconds),
        )  # fmt: skip
        return [_receipt(row) for row in rows]

    async def _append_together(self, calls: list[PushCall], patience: str) -> list[Receipt | None]:
        heads = _heads(calls)
        changes = ",".join([call.waves[0][1:-1] if call.single else "{}" for call in calls])
        others = [call.waves for call in calls if not call.single]
        waves = [text for texts in others for text in texts]
        feeds = [call.feed for call in calls]
        row = (await self._pool.fetch(
            "push_group", heads, f"[{changes}]", [len(texts) for texts in others], waves, patience,
            took=lambda seconds: self._queue.took(feeds, seconds),
        ))[0]  # fmt: skip
        rest = iter(row[1] or ())
        return [Receipt([seq], "a", NO_DETAIL, None) if seq else _receipt(next(rest)) for seq in row[0]]

    async def _pull_alone(self, call: bytes) -> Page:
        return Page(*(await self._pool.fetch("pull", ActingCalls([call])))[0])

    async def _peek_alone(self, call: bytes) -> PeekResult:
        return (await self._peek_group([call]))[0]

    async def _peek_group(self, calls: list[bytes]) -> list[PeekResult]:
        rows = await self._pool.fetch("peek", ActingCalls(calls))
        return [PeekResult(*row) for row in rows]


async def cursor_key(pool: Pool) -> bytes:
    """The key that signs this server's cursors."""
    return bytes((await pool.fetch("server"))[0][0])
