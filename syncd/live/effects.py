"""What the live core wants done. It decides and does nothing itself: the runner performs these. Pure.

Some have an answer that the core waits for (`Call`). A process of the core is a generator of calls: it is given each
answer, or the error that came instead, and goes on from there (`Steps`). Everything else is done at once, in order.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

from syncd.bus.hints import Hint
from syncd.core.errors import SyncdError
from syncd.core.principal import External, Principal
from syncd.live.batch import Batch
from syncd.live.connection import Connection, Subscription
from syncd.live.live_space import Feed, LiveSpace
from syncd.protocol.cursor import Cursor, Position
from syncd.protocol.pull_messages import PullPage
from syncd.store.live_rows import FeedHead, FeedQuery, Here, MembershipChanges, News, ResolvedUser

T = TypeVar("T")


class Call(msgspec.Struct, Generic[T], frozen=True, eq=False):
    """Something with an answer: `answer = yield from Call(…)`. Each raises Busy and DatabaseUnavailable."""

    def __iter__(self) -> Generator[Call[T], T, T]:
        return (yield self)


Steps: TypeAlias = Generator[Call[Any], Any, T]


# -- asked of the database -----------------------------------------------------------------------------------


class ResolveUser(Call[ResolvedUser], frozen=True, eq=False):
    """The user in numbers, and its spaces."""

    caller: Principal


class CheckMembers(Call[tuple[int, set[int]]], frozen=True, eq=False):
    """A space's membership version, and which of the users (numbers) are members."""

    space: int
    users: list[int]


class ReadMembershipChanges(Call[MembershipChanges], frozen=True, eq=False):
    """Membership changes since a horizon; None: from now on."""

    horizon: str | None


class ReadFeed(Call[News], frozen=True, eq=False):
    """What came into a feed. Raises SyncdError where it cannot be read."""

    query: FeedQuery


class ReadHeads(Call[list[int]], frozen=True, eq=False):
    """How far feeds (space number, app) stand."""

    feeds: list[tuple[int, str]]


class FindFeeds(Call[list[FeedHead]], frozen=True, eq=False):
    """The feeds in some spaces, as a user sees them; `user` None: whoever is in them."""

    user: int | None
    spaces: list[int]


class ReadPresence(Call[tuple[int, list[Here]] | None], frozen=True, eq=False):
    """A space's membership version and the devices that said something there in the last seconds, as a user sees them;
    None when it is no member."""

    user: int
    space: int
    seconds: float


class WritePresence(Call[list[bool]], frozen=True, eq=False):
    """Puts states of devices."""

    items: list[dict[str, Any]]


class Missed(msgspec.Struct, frozen=True, eq=False):
    """A page of what a subscription had missed, and where the device is that has it."""

    page: PullPage
    found: Cursor


class ReadPage(Call[Missed], frozen=True, eq=False):
    """The next page of what a subscription had missed, when the device takes one. Raises ConnectionResetError, and
    SyncdError where its place is of no use."""

    subscription: Subscription


class ReadPositions(Call[list[Position] | None], frozen=True, eq=False):
    """All positions of a kept cursor; None where its row is gone."""

    user: str
    cursor: Cursor


# -- asked of others -----------------------------------------------------------------------------------------


class AskService(Call[External | None], frozen=True, eq=False):
    """The spaces of a user as the membership service knows them; None where it says nothing. `until`: how long that may
    be so, by the runner's clock. Raises MembershipsUnavailable after that."""

    user: str
    until: float


class SendPage(Call[None], frozen=True, eq=False):
    """Sends a page of what was missed. Raises ConnectionResetError."""

    subscription: Subscription
    page: PullPage


class Deliver(Call[None], frozen=True, eq=False):
    """Offers a batch to those who listened to the feed when it was read: all of them at once, in turns of some."""

    feed: Feed
    batch: Batch
    legacy: bool
    subscribers: list[Subscription]


class Rest(Call[None], frozen=True, eq=False):
    """Lets others have their turn."""


class Wait(Call[None], frozen=True, eq=False):
    """Waits for so many seconds."""

    seconds: float


class BackOff(Call[None], frozen=True, eq=False):
    """Waits for so many seconds, or by chance down to half of it, before something is tried again."""

    seconds: float


class Together(Call[None], frozen=True, eq=False):
    """Runs several processes side by side; the first error ends the waiting, and not the others."""

    processes: list[Steps[None]]


# -- done at once --------------------------------------------------------------------------------------------


class StartReading(msgspec.Struct, frozen=True, eq=False):
    """Begins to read a feed."""

    feed: Feed


class StartCatchingUp(msgspec.Struct, frozen=True, eq=False):
    """Begins to catch a subscription up."""

    subscription: Subscription


class StopCatchingUp(msgspec.Struct, frozen=True, eq=False):
    """Ends that, wherever it is."""

    subscription: Subscription


class StartFinding(msgspec.Struct, frozen=True, eq=False):
    """Begins to find the feeds in spaces of a connection; `all_new`: all that is in them is news."""

    spaces: list[LiveSpace]
    connection: Connection
    all_new: bool = False


class StartCheckingHeads(msgspec.Struct, frozen=True, eq=False):
    """Begins to look whether feeds that were joined have gone on meanwhile."""


class StartReadingPresence(msgspec.Struct, frozen=True, eq=False):
    """Begins to read who is in the spaces where something was said, and to tell of it."""


class StartWritingPresence(msgspec.Struct, frozen=True, eq=False):
    """Begins to put what was said, soon and together."""


class PollMembers(msgspec.Struct, frozen=True, eq=False):
    """Polls the membership changes without waiting for the next time."""


class Delivered(msgspec.Struct, frozen=True, eq=False):
    """All who listen to a feed have what was read of it."""

    feed: Feed


class Send(msgspec.Struct, frozen=True, eq=False):
    """Sends a frame to those of the connections whose devices keep up."""

    connections: list[Connection]
    frame: bytes


class Refuse(msgspec.Struct, frozen=True, eq=False):
    """Tells a device that its subscription cannot be, or not now."""

    subscription: Subscription
    why: SyncdError


class TellInvited(msgspec.Struct, frozen=True, eq=False):
    """Tells a user's devices that an invitation came or ended."""

    connections: list[Connection]


class Close(msgspec.Struct, frozen=True, eq=False):
    """Closes connections with a close code."""

    connections: list[Connection]
    code: int
    reason: str


class MembersChanged(msgspec.Struct, frozen=True, eq=False):
    """Tells the rest of the process which users (numbers) came, went or changed role."""

    users: frozenset[int]


class Publish(msgspec.Struct, frozen=True, eq=False):
    """Tells the other processes."""

    hint: Hint


Start: TypeAlias = StartFinding | StartCheckingHeads | StartReadingPresence | StartWritingPresence
Effect: TypeAlias = (
    Start | StartReading | StartCatchingUp | StopCatchingUp | PollMembers | Delivered | Send | Refuse | TellInvited
    | Close | MembersChanged | Publish
)  # fmt: skip
