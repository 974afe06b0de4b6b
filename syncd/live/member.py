"""A connection, as the hub knows it: a user on a device, where its bytes go, and what it listens to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Protocol

from syncd.core.principal import Principal
from syncd.live.batch import Batch
from syncd.protocol.pull_messages import PullPage, PullRequest
from syncd.protocol.push_answer import Result

# Own event ids that were never met again: the device's feed was not listened to, or the change was rejected.
MAX_OWN = 4096


class Listener(Protocol):
    """A subscription, as its connection and its feeds know it."""

    member: Connection
    question: PullRequest
    cursor: bytes
    live: bool

    def take(self, space: int, batch: Batch) -> None:
        """A feed was read, for all who listen to it."""

    def fall_behind(self) -> None:
        """From now on it catches up by pulls."""

    def acknowledges(self, results: Sequence[Result | None]) -> None:
        """A push of the device is about to be answered."""

    def end(self) -> None:
        """It is over: nothing more is sent."""


class Sink(Protocol):
    """Where a connection's bytes go. Nothing here waits but `page_turn`, and `page` for as long as it is made ready."""

    @property
    def room(self) -> bool:
        """Whether the device keeps up: little of what it was sent is still here."""

    @property
    def page_bytes(self) -> int:
        """How large the next page of what it had missed should be."""

    async def page_turn(self) -> None:
        """Returns when the next page may go. Raises ConnectionResetError when the connection is gone."""

    def changes(self, subscription: Listener, batch: Batch, after: int, cursor: bytes) -> None:
        """Sends what a subscription takes of a batch, after a seq."""

    async def page(self, subscription: Listener, delta: PullPage) -> None:
        """Sends what a subscription had missed."""

    def frame(self, frame: bytes) -> None:
        """Sends a message that is ready."""

    def invitations(self) -> None:
        """Says that the user was invited, or that an invitation has ended."""

    def end(self, code: int, reason: str) -> None:
        """Closes the connection with a close code."""


class Connection:
    """One connection of a user. `app`: the only one it is for, None for every app; `spaces`: number to id."""

    __slots__ = (
        "app",
        "caller",
        "client",
        "fields_alone",
        "greeting",
        "own",
        "sink",
        "spaces",
        "subscriptions",
        "user_no",
    )

    def __init__(self, sink: Sink, caller: Principal, client: str, app: str | None) -> None:
        self.sink, self.caller, self.client, self.app = sink, caller, client, app
        self.user_no = 0
        self.fields_alone = False
        self.greeting = 0
        self.spaces: dict[int, str] = {}
        self.subscriptions: dict[str, Listener] = {}
        self.own: dict[bytes, None] | None = None

    @property
    def poked(self) -> bool:
        """Whether it is told that there is news instead of being sent it (first generation)."""
        return not self.subscriptions

    def wrote(self, events: list[bytes]) -> None:
        """Remembers the event ids of a push of its own, before anyone else can hear of it: the last MAX_OWN of them."""
        if self.own is None:
            self.own = {}
        self.own.update(dict.fromkeys(events[-MAX_OWN:]))
        for old in list(islice(self.own, max(0, len(self.own) - MAX_OWN))):
            del self.own[old]

    def met(self, events: Iterable[bytes]) -> None:
        """Forgets own event ids that came by."""
        for event in events:
            if self.own is not None:
                self.own.pop(event, None)
        if not self.own:
            self.own = None
