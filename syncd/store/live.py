"""What live connections ask of the database: who a user is, what came into a feed, who came and went.

Small calls of one kind travel together, as in the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from syncd.postgres.contexts import ActingNumber, ActingNumbers, ActingUser, bound
from syncd.postgres.statements import statement
from syncd.store.batcher import Batcher
from syncd.store.pool import Pool

LANES, GROUP = 2, 32


class ResolvedUser(NamedTuple):
    """A user in numbers. `spaces`, `ids`, `rosters` go together: a space's number, id and version of memberships."""

    user_no: int
    spaces: list[int]
    ids: list[str]
    rosters: list[int]


class FeedQuery(NamedTuple):
    """One feed from `after` (a seq) on, read as the member `user`; `legacy`: inserts as plain records too."""

    user: int
    space: int
    app: str
    after: int
    limit: int
    bytes: int
    legacy: bool

    def call(self) -> dict[str, Any]:
        call = {**self._asdict(), "legacy": True}
        if not self.legacy:
            del call["legacy"]
        return call


class News(NamedTuple):
    """The result of a read; see sync_news in the schema. `roster`: the version of the memberships, None where the
    reader is no member."""

    head: int | None
    upto: int | None
    roster: int | None
    now_us: int
    boot_us: int
    seqs: list[int] | None
    ends: list[int] | None
    tables: list[str] | None
    body: bytes | None
    legacy: bytes | None


class FeedHead(NamedTuple):
    """How far a feed stands: `app` is its app's name."""

    space_no: int
    app: str
    head: int


class Members(NamedTuple):
    """The version of a space's memberships, and which of the users that were asked for are members."""

    roster: int
    members: list[int]


class MembershipNews(NamedTuple):
    """What was noted of memberships: `events` and `users` go together; None where there is nothing. A user's number is
    negated where an invitation came or ended."""

    horizon: str
    events: list[int] | None
    users: list[int] | None
    boot_us: int


class Present(NamedTuple):
    """One device in a space, and the version of its memberships; where nobody is there, one row has that alone."""

    roster: int
    user_id: str | None
    client_id: str | None
    state: str | None

    def here(self) -> list[Here]:
        """The device, if there is one."""
        if self.user_id is None or self.client_id is None or self.state is None:
            return []
        return [Here(self.user_id, self.client_id, self.state)]


class MembershipChanges(NamedTuple):
    """Membership changes: event number to the user's, negated where an invitation came or ended; `horizon` is where the
    next look begins, `boot` microseconds. While an old transaction runs the same events come again."""

    horizon: str
    changed: dict[int, int]
    boot: int


class Here(NamedTuple):
    """One device in a space: its user and what it says, as JSON text."""

    user: str
    client: str
    state: str


class Live:
    """The calls. They raise Busy and DatabaseUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._readings: Batcher[FeedQuery, News] = Batcher(self._read_group, self._read_alone, LANES, GROUP)
        self._greetings: Batcher[tuple[str, str | None, int], ResolvedUser] = Batcher(
            self._greet_group, self._greet_alone, LANES, GROUP
        )

    async def greet(self, user: str, spaces: list[dict[str, str]] | None, as_of: int) -> ResolvedUser:
        """A user in numbers; adopts a membership list from outside (None: the table decides) made at `as_of` (us)."""
        given = None if spaces is None else msgspec.json.encode(spaces).decode()
        return await self._greetings.join((user, given, as_of))

    async def _greet_alone(self, call: tuple[str, str | None, int]) -> ResolvedUser:
        return ResolvedUser(*(await self._pool.fetch("greet", ActingUser(call[0]), *call[1:]))[0])

    async def _greet_group(self, calls: list[tuple[str, str | None, int]]) -> list[ResolvedUser]:
        """One transaction for many, so that a storm of new connections costs one flush for all of them."""

        async def work(connection: Any) -> list[ResolvedUser]:
            found: dict[int, ResolvedUser] = {}
            async with connection.transaction():
                # In one order everywhere: new users are rows that others may be adding too.
                for i in sorted(range(len(calls)), key=lambda i: calls[i][0]):
                    call = bound(connection, ActingUser(calls[i][0]), *calls[i][1:])
                    found[i] = ResolvedUser(*(await connection.fetch(statement("greet"), *call))[0])
            return [found[i] for i in range(len(calls))]

        return await self._pool.attempt(work, "greet")

    async def read(self, reading: FeedQuery) -> News:
        """The news of a feed, and the version of the space's memberships in the same snapshot."""
        return await self._readings.join(reading)

    async def _read_alone(self, reading: FeedQuery) -> News:
        return (await self._read_group([reading]))[0]

    async def _read_group(self, readings: list[FeedQuery]) -> list[News]:
        calls = ActingNumbers([reading.call() for reading in readings])
        return [News(*row) for row in await self._pool.fetch("live", calls)]

    async def members(self, space: int, users: Sequence[int]) -> tuple[int, set[int]]:
        """The version of a space's memberships, and which of `users` are members."""
        for row in await self._pool.fetch("still_members", space, list(users)):
            found = Members(*row)
            return found.roster, set(found.members)
        return 0, set()

    async def comings(self, horizon: str | None) -> MembershipChanges:
        """The users that came, went, changed role or was invited since `horizon` (None: from now on)."""
        news = MembershipNews(*(await self._pool.fetch("membership_news", horizon))[0])
        return MembershipChanges(
            news.horizon, dict(zip(news.events or (), news.users or (), strict=True)), news.boot_us
        )

    async def heads(self, feeds: Sequence[tuple[int, str]]) -> list[int]:
        """How far feeds (space number, app) stand."""
        spaces, apps = [space for space, _ in feeds], [app for _, app in feeds]
        return list((await self._pool.fetch("heads", spaces, apps))[0][0])

    async def feeds(self, user: int, spaces: Sequence[int]) -> list[FeedHead]:
        """The feeds in some of a user's spaces."""
        return [FeedHead(*row) for row in await self._pool.fetch("feeds_in", ActingNumber(user), list(spaces))]

    async def feeds_of(self, spaces: Sequence[int]) -> list[FeedHead]:
        """The feeds in some spaces, whoever is in them."""
        return [FeedHead(*row) for row in await self._pool.fetch("feeds_of", list(spaces))]

    async def say(self, items: list[dict[str, Any]]) -> list[bool]:
        """Puts presence: [{"user", "space" (numbers), "client", "state"}]; whether each user is a member there."""
        return list((await self._pool.fetch("presence_put", ActingNumbers(items)))[0][0])

    async def here(self, user: int, space: int, seconds: float) -> tuple[int, list[Here]] | None:
        """The version of a space's memberships, and the devices that are there; None when `user` is no member (now)."""
        rows = [Present(*row) for row in await self._pool.fetch("presence_in", ActingNumber(user), space, seconds)]
        return (rows[0].roster, [here for row in rows for here in row.here()]) if rows else None
