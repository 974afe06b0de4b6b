"""Connections and their subscriptions: a user on a device, where its bytes go, and its place in each app. Pure.

What keeps a subscription without a gap is one comparison: it takes a batch only where the batch begins at its own seq.
One that stands elsewhere, or whose device reads too slowly, catches up from its cursor and then joins its feeds again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence, Set
from itertools import islice
from typing import Final, Protocol

from syncd.core.principal import Principal
from syncd.live.batch import Batch
from syncd.protocol.cursor import Bookmark
from syncd.protocol.live_messages import MAX_PUSHED
from syncd.protocol.pull_messages import PullPage, PullRequest, space_ids
from syncd.protocol.push_answer import Result

# Own event ids that never came by: the device's feed was not listened to, or the change was rejected.
MAX_OWN = 4096
# What a subscription does with a batch, where it does not take it after a seq.
SKIPS: Final = -1
FALLS_BEHIND: Final = -2


class Sink(Protocol):
    """Where a connection's bytes go. Nothing here waits but `page_turn`, and `page` for as long as it is made ready."""

    @property
    def keeps_up(self) -> bool:
        """Whether the device keeps up: little of what it was sent is still here."""

    @property
    def page_bytes(self) -> int:
        """How large the next page of what it had missed should be."""

    async def page_turn(self) -> None:
        """Returns when the next page may go. Raises ConnectionResetError when the connection is gone."""

    def changes(self, subscription: Subscription, batch: Batch, after: int, cursor: bytes) -> None:
        """Sends what a subscription takes of a batch, after a seq."""

    async def page(self, subscription: Subscription, page: PullPage) -> None:
        """Sends what a subscription had missed."""

    def frame(self, frame: bytes) -> None:
        """Sends a message that is ready."""

    def invitations(self) -> None:
        """Says that the user was invited, or that an invitation has ended."""

    def end(self, code: int, reason: str) -> None:
        """Closes the connection with a close code."""


class Connection:
    """One connection of a user. `app`: the only one it is for, None for every app; `spaces`: number to id; `resolved`:
    the number of the answer that its spaces are from."""

    __slots__ = (
        "app",
        "caller",
        "client",
        "fields_alone",
        "own",
        "resolved",
        "sink",
        "spaces",
        "subscriptions",
        "user_no",
    )

    def __init__(self, sink: Sink, caller: Principal, client: str, app: str | None) -> None:
        self.sink, self.caller, self.client, self.app = sink, caller, client, app
        self.user_no = 0
        self.fields_alone = False
        self.resolved = 0
        self.spaces: dict[int, str] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.own: dict[bytes, None] | None = None

    @property
    def available_only(self) -> bool:
        """Whether it is told that there is news instead of being sent it (first generation)."""
        return not self.subscriptions

    def pushed(self, events: list[bytes]) -> None:
        """Remembers the event ids of a push of its own, before anyone else can hear of it: the last MAX_OWN of them."""
        if self.own is None:
            self.own = {}
        self.own.update(dict.fromkeys(events[-MAX_OWN:]))
        for old in list(islice(self.own, max(0, len(self.own) - MAX_OWN))):
            del self.own[old]

    def forget_own(self, events: Iterable[bytes]) -> None:
        """Forgets own event ids that came by."""
        for event in events:
            if self.own is not None:
                self.own.pop(event, None)
        if not self.own:
            self.own = None


class Subscription:
    """A device's place in one app. `live`: it takes batches; else it catches up. `again`: something came while it was
    catching up; `told`: it was sent a page; `cursor`: its place as text. The cursor's signature was checked before.
    `roles`: up to where it was told of its user's spaces; None: it does not ask."""

    __slots__ = (
        "_boot",
        "_pushed",
        "again",
        "bookmark",
        "catching_up",
        "connection",
        "cursor",
        "live",
        "request",
        "roles",
        "told",
    )

    def __init__(self, connection: Connection, request: PullRequest, cursor: bytes) -> None:
        self.connection, self.request, self.cursor, self.roles = connection, request, cursor, request.roles
        self.bookmark: Bookmark | None = None
        self.live = self.again = self.told = self.catching_up = False
        # Acknowledged changes of the device's own that the place may not be past, and the start that they are known of.
        self._pushed, self._boot = deque(request.pushed, MAX_PUSHED), 0

    @property
    def spaces(self) -> Set[int]:
        """Those of the connection's spaces that it is for."""
        wanted, known = self.request.spaces, self.connection.spaces
        if not wanted:
            return known.keys()
        ids = space_ids(wanted, self.connection.caller.user)
        return {number for number, space_id in known.items() if space_id in ids}

    def takes_after(self, space: int, batch: Batch, keeps_up: bool) -> int:
        """The seq after which it takes of a batch, whose end is its place from now on; SKIPS where it has all of it, or
        FALLS_BEHIND. `keeps_up`: whether the device keeps up."""
        place = self.bookmark
        if not self.live or place is None:
            return SKIPS
        seq = place.seqs.get(space, -1)
        if seq >= batch.upto:
            return SKIPS
        if seq < batch.after or batch.boot != place.boot or not keeps_up or place.full:
            return FALLS_BEHIND
        self.cursor = place.move(space, batch.upto, batch.now)
        return seq

    def acknowledges(self, results: Sequence[Result | None]) -> None:
        """A push of the device is about to be answered: its place is still before it."""
        for result in reversed(results):
            if result and result.changeId and result.status == "applied":
                self._pushed.append(result.changeId)
                return

    def to_confirm(self, boot: int) -> tuple[str, ...]:
        """Its acknowledged changes that have to be in the log of another start of the database: the log may have gone
        back to after the device's place, and before what it has had acknowledged since."""
        return () if boot == self._boot or self.request.plain else tuple(self._pushed)

    def confirmed(self, boot: int, pushed: Sequence[str]) -> None:
        """They are, and the last page was read: they are not asked for again under this start."""
        if boot != self._boot and not self.request.plain:
            self._boot = boot
            self._pushed = deque((change for change in self._pushed if change not in pushed), MAX_PUSHED)
