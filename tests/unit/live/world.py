"""What the live core asks of, as a model: spaces, members, feeds, devices. No database, no clock, no event loop.

An answer is what a call would find at the moment it is asked for. What a device is sent is judged as it comes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from syncd.core.errors import CursorLost, DatabaseUnavailable, SyncdError
from syncd.core.principal import External, Principal
from syncd.live import frames
from syncd.live.batch import Batch
from syncd.live.connection import Connection, Subscription
from syncd.live.effects import Missed
from syncd.protocol import cursor as cursors
from syncd.protocol.cursor import Cursor, Position
from syncd.protocol.live_messages import SEPARATOR
from syncd.protocol.pull_messages import PullPage
from syncd.store.live_rows import FeedHead, FeedQuery, Here, MembershipChanges, News, ResolvedUser

KEY = b"k" * 32
PAGE = 3  # changes that one reading brings at most


class Written(msgspec.Struct):
    """A change as a device reads it."""

    spaceId: str
    seq: int
    eventId: str = ""


class ModelSpace:
    """A space: `feeds` has the texts of the changes by app; `left_at`: what there was of each feed, and how often
    something had been said, when a user left."""

    def __init__(self, number: int) -> None:
        self.number, self.id, self.version = number, f"space-{number}", 1
        self.members: set[int] = set()
        self.feeds: dict[str, list[bytes]] = {}
        self.broken: set[str] = set()
        self.present: dict[tuple[int, str], str] = {}
        self.left_at: dict[int, dict[str, int]] = {}

    def head(self, app: str) -> int:
        return len(self.feeds.get(app, ()))

    def may_see(self, user: int, app: str, seq: int) -> bool:
        """Whether the user was a member when it was written, or since."""
        return user in self.members or seq <= self.left_at.get(user, {}).get(app, 0)


class ModelDatabase:
    """The answers. `said`: how often a device said something, which its states tell."""

    def __init__(self, spaces: int) -> None:
        self.spaces = {number: ModelSpace(number) for number in range(1, spaces + 1)}
        self.by_id = {space.id: space for space in self.spaces.values()}
        self.boot, self.now, self.said = 1, 1, 0
        self.events: list[int] = []

    # -- what others do --------------------------------------------------------------------------------

    def push(self, space: ModelSpace, app: str, count: int, event: str = "", *, whole: bool = False) -> int:
        """Commits changes; the feed's head. A `whole` one has a device drop what it holds of the record."""
        feed = space.feeds.setdefault(app, [])
        for _ in range(count):
            seq = len(feed) + 1
            more = ',"whole":true,"fields":{}' if whole else ""
            text = f'{{"eventId":"{event or f"{space.number}-{app}-{seq}":<36}","clientId":"c","spaceId":"{space.id}"'
            feed.append(f'{text},"seq":{seq}{more}}}'.encode())
        self.now += 1
        return len(feed)

    def join(self, space: ModelSpace, user: int) -> None:
        space.members.add(user)
        self._noted(space, user)

    def leave(self, space: ModelSpace, user: int) -> None:
        space.members.discard(user)
        space.left_at[user] = {**{app: len(feed) for app, feed in space.feeds.items()}, "said": self.said}
        self._noted(space, user)

    def _noted(self, space: ModelSpace, user: int) -> None:
        space.version += 1
        self.events.append(user)

    def of(self, user: int) -> list[ModelSpace]:
        """The spaces of a user."""
        return [space for space in self.spaces.values() if user in space.members]

    # -- what the core asks ----------------------------------------------------------------------------

    def resolved(self, caller: Principal) -> ResolvedUser:
        user = int(caller.user)
        mine = self.of(user)
        return ResolvedUser(user, [s.number for s in mine], [s.id for s in mine], [s.version for s in mine])

    def members(self, number: int, users: Iterable[int]) -> tuple[int, set[int]]:
        space = self.spaces[number]
        return space.version, space.members.intersection(users)

    def changes(self, horizon: str | None) -> MembershipChanges:
        start = len(self.events) if horizon is None else int(horizon)
        return MembershipChanges(str(len(self.events)), dict(enumerate(self.events[start:], start)), self.boot)

    def read(self, query: FeedQuery) -> News:
        space = self.spaces[query.space]
        if query.user not in space.members:
            return News(None, None, None, self.now, self.boot, None, None, None, None, None)
        if query.app in space.broken:
            raise SyncdError("It cannot be read.")
        texts = space.feeds.get(query.app, [])[query.after : query.after + PAGE]
        upto, body = query.after + len(texts), SEPARATOR.join(texts)
        seqs = list(range(query.after + 1, upto + 1))
        return News(
            space.head(query.app), upto if texts else None, space.version, self.now, self.boot, seqs, seqs,
            [f"{space.number}-{seq}" for seq in seqs], body, body if query.legacy else None,
        )  # fmt: skip

    def feeds(self, user: int | None, numbers: Iterable[int]) -> list[FeedHead]:
        spaces = [self.spaces[number] for number in numbers]
        seen = [space for space in spaces if user is None or user in space.members]
        return [FeedHead(space.number, app, len(feed)) for space in seen for app, feed in space.feeds.items()]

    def page(self, subscription: Subscription) -> Missed:
        """A page from where the subscription stands: a pull's answer."""
        app, user = subscription.request.app, subscription.connection.caller.user
        at = cursors.decode(subscription.cursor.decode(), KEY, user, app, ())
        before = {p.space: p.seq for p in at.positions} if isinstance(at, Cursor) else {}
        if isinstance(at, Cursor) and at.boot > self.boot:
            raise CursorLost
        mine = {space.number: space for space in self.of(int(user))}
        changes, places, unreadable, room = list[bytes](), dict[int, int](), list[tuple[int, str]](), PAGE + 1
        for number, space in mine.items():
            if app in space.broken:
                unreadable.append((number, space.id))
                if number in before:
                    places[number] = before[number]
                continue
            texts = space.feeds.get(app, [])[before.get(number, 0) :][:room]
            room -= len(texts)
            places[number] = before.get(number, 0) + len(texts)
            changes += texts
        more = room == 0 and any(
            places[n] < s.head(app) for n, s in mine.items() if n in places and app not in s.broken
        )
        found = Cursor(self.now, self.boot, (), tuple(Position(*place) for place in sorted(places.items())))
        page = PullPage(
            b",".join(changes), cursors.encode(found, KEY, user, app), more,
            [self.spaces[number].id for number in places if number not in before],
            [self.spaces[number].id for number in before if number not in mine],
            tuple(unreadable),
        )  # fmt: skip
        return Missed(page, found)

    def put_presence(self, items: list[dict[str, Any]]) -> list[bool]:
        for item in items:
            present, name = self.spaces[item["space"]].present, (item["user"], item["client"])
            if bytes(item["state"]) == b"null":
                present.pop(name, None)
            elif item["user"] in self.spaces[item["space"]].members:
                present[name] = bytes(item["state"]).decode()
        return [True] * len(items)

    def presence(self, user: int, number: int) -> tuple[int, list[Here]] | None:
        space = self.spaces[number]
        if user not in space.members:
            return None
        there = [Here(str(u), c, state) for (u, c), state in space.present.items() if u in space.members]
        return space.version, there


class Device:
    """A device: a sink that judges what it is sent. `has`: seqs by app and space; `owed`: failures that it is to be
    told of; `told`: the tables it was told of news in; `missed`: it did not keep up once; `sees`: presence by space,
    user and client."""

    page_bytes = 1 << 20

    def __init__(self, database: ModelDatabase, user: int, client: str, app: str | None) -> None:
        self.database, self.user = database, user
        # Its memberships come from outside, so that they are asked for again with each new token.
        self.connection = Connection(self, Principal(str(user), External([], 0)), client, app)
        self.room, self.ended, self.missed = True, False, False
        self.has: dict[str, dict[int, set[int]]] = {}
        self.at: dict[str, Cursor] = {}
        self.cursors: dict[str, str] = {}
        self.owed: dict[str, int] = {}
        self.refused: list[str] = []
        self.told: set[str] = set()
        self.sees: dict[tuple[str, str, str], str] = {}

    def knows(self, app: str, number: int) -> set[int]:
        return self.has.setdefault(app, {}).setdefault(number, set())

    # -- what it is sent -------------------------------------------------------------------------------

    def changes(self, subscription: Subscription, batch: Batch, after: int, cursor: bytes) -> None:
        """Part of a batch: what follows what it has, and nothing twice."""
        app = subscription.request.app
        assert self.connection.subscriptions.get(app) is subscription, "a batch for a subscription that is over"
        assert self.room, "a device that does not keep up is sent more"
        head = frames.changes(subscription, batch, after)
        taken = _written(head.partition(b'"changes":[')[2]) if head else []
        for one in taken:
            space = self.database.by_id[one.spaceId]
            known = self.knows(app, space.number)
            assert space.may_see(self.user, app, one.seq), f"{one} is shown to {self.user}, who had left"
            assert one.seq > after, f"{one} comes after {after}"
            assert one.seq not in known or one.eventId.startswith("own"), f"{one} comes again"
            known.add(one.seq)
        if batch.whole and after == batch.after:
            assert len(taken) == batch.upto - batch.after, "what a device wrote itself is kept from it"
        self._stands(app, cursor.decode())

    async def page(self, subscription: Subscription, page: PullPage) -> None:
        """As the runner would send it; the simulation calls `takes`."""
        self.takes(subscription, page)

    async def page_turn(self) -> None:
        """It always takes one."""

    def takes(self, subscription: Subscription, page: PullPage) -> None:
        """A page of what it had missed."""
        app = subscription.request.app
        for space_id in page.left:
            number = self.database.by_id[space_id].number
            self.has.get(app, {}).pop(number, None)
            if app in self.at:
                left = tuple(p for p in self.at[app].positions if p.space != number)
                self.at[app] = self.at[app]._replace(positions=left)
        for one in _written(page.changes):
            self.knows(app, self.database.by_id[one.spaceId].number).add(one.seq)
        self._stands(app, page.synced_until)

    def _stands(self, app: str, text: str) -> None:
        """A cursor came: it has all that is before it, and never goes back."""
        found = cursors.decode(text, KEY, str(self.user), app, ())
        assert isinstance(found, Cursor)
        before = {p.space: p.seq for p in self.at[app].positions} if app in self.at else {}
        for space, seq, _ in found.positions:
            missing = set(range(1, seq + 1)) - self.knows(app, space)
            assert not missing, f"{self.user} has a cursor at {seq} in {space}, and {missing} never came"
            assert seq >= before.get(space, 0), f"a cursor went from {before[space]} back to {seq} in {space}"
        self.at[app], self.cursors[app] = found, text

    def frame(self, frame: bytes) -> None:
        said = msgspec.json.decode(frame)
        if said["type"] == "sync-available":
            assert self.connection.available_only
            for table in said["tables"]:
                number, _, seq = table.partition("-")
                space = self.database.spaces[int(number)]
                assert space.may_see(self.user, said["appId"], int(seq)), f"{self.user} is told of {table} and had left"
            self.told |= {*said["tables"], said["appId"]}
            return
        space, name = self.database.by_id[said["spaceId"]], (said["spaceId"], said["userId"], said["clientId"])
        if said["state"] is None:
            self.sees.pop(name, None)
            return
        assert space.may_see(self.user, "said", said["state"]), f"{self.user} hears {said}, and had left"
        self.sees[name] = str(said["state"])

    def invitations(self) -> None:
        self.told.add("invitations")

    def end(self, code: int, reason: str) -> None:
        self.ended = True


def _written(texts: bytes) -> list[Written]:
    return msgspec.json.decode(b"[%b]" % texts, type=list[Written])


def unavailable() -> SyncdError:
    """What a call raises that failed."""
    return DatabaseUnavailable()
