"""What the live core asks of, as a model: spaces, members, feeds, kept cursors, a membership service. No database, no
clock, no event loop. An answer is what a call would find at the moment it is asked for.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from syncd.core.errors import CursorLost, SyncdError
from syncd.core.principal import External, Principal
from syncd.live.connection import Subscription
from syncd.live.effects import Missed
from syncd.protocol import cursor as cursors
from syncd.protocol.cursor import Cursor, Position
from syncd.protocol.live_messages import SEPARATOR
from syncd.protocol.pull_messages import PullPage
from syncd.store.live_rows import FeedHead, FeedQuery, Here, MembershipChanges, News, ResolvedUser

KEY = b"k" * 32
PAGE = 3  # changes that one reading brings at most


@lru_cache(4096)
def opened(text: bytes) -> Cursor | None:
    """A cursor without a look at its signature and its instant, None for a text that is none. The last look at a world
    decodes it as the server does."""
    if not text:
        return None
    signed = base64.urlsafe_b64decode(text[28:] + b"=" * (-(len(text) - 28) % 4))
    return cursors._parse(0, signed[: -cursors.SIGNATURE])[0]


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
    """The answers. `said`: how often a device said something, which its states tell. `keeps`: positions are kept in
    rows, which cursors name. `lists`: the spaces of each user as a membership service has them, where there is one."""

    def __init__(self, spaces: int, *, keeps: bool = False) -> None:
        self.spaces = {number: ModelSpace(number) for number in range(1, spaces + 1)}
        self.by_id = {space.id: space for space in self.spaces.values()}
        self.boot, self.now, self.said = 1, 1, 0
        self.events: list[int] = []
        self.keeps, self.rows, self.kept = keeps, 0, dict[int, dict[int, int]]()
        self.lists: dict[int, set[int]] | None = None
        self.made, self.adopted = 0, dict[int, int]()

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

    # -- a membership service --------------------------------------------------------------------------

    def external(self, user: int) -> External:
        """What the service says now, or nothing where the table decides."""
        self.made += 1
        mine = () if self.lists is None else sorted(self.lists.get(user, ()))
        return External([{"id": self.spaces[number].id, "role": "writer"} for number in mine], self.made)

    def _adopt(self, user: int, said: External) -> None:
        """Takes a list over; one that is older than another is not."""
        if said.as_of < self.adopted.get(user, 0):
            return
        self.adopted[user] = said.as_of
        now = {one["id"] for one in said.spaces}
        for space in self.spaces.values():
            if (space.id in now) != (user in space.members):
                (self.join if space.id in now else self.leave)(space, user)

    # -- what the core asks ----------------------------------------------------------------------------

    def resolved(self, caller: Principal) -> ResolvedUser:
        user = int(caller.user)
        if self.lists is not None and caller.external is not None:
            self._adopt(user, caller.external)
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

    def positions(self, at: Cursor) -> Sequence[Position] | None:
        """All positions of a cursor; None where its row is gone."""
        if not at.row:
            return at.positions
        if at.row not in self.kept:
            return None
        places = {**self.kept[at.row], **{p.space: p.seq for p in at.positions}}
        return [Position(space, seq) for space, seq in sorted(places.items()) if seq >= 0]

    def _cursor(self, places: dict[int, int], at: Cursor | None) -> Cursor:
        """The cursor for some positions, of a device that had another one."""
        if not self.keeps:
            return Cursor(self.now, self.boot, (), tuple(Position(*place) for place in sorted(places.items())))
        row = at.row if at is not None else 0
        base = self.kept.get(row, {})
        changed = sorted(space for space in {*base, *places} if base.get(space) != places.get(space))
        if not row or len(changed) > cursors.MOST_MOVED:
            row = self.rows = self.rows + 1
            self.kept[row], changed = places, []
        moved = tuple(Position(space, places.get(space, -1)) for space in changed)
        return Cursor(self.now, self.boot, (), moved, row=row)

    def page(self, subscription: Subscription) -> Missed:
        """A page from where the subscription stands: a pull's answer."""
        app, user = subscription.request.app, subscription.connection.caller.user
        at = opened(subscription.cursor)
        known = () if at is None else self.positions(at)
        if known is None or (at is not None and at.boot > self.boot):
            raise CursorLost
        before = {p.space: p.seq for p in known}
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
        found = self._cursor(places, at)
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
