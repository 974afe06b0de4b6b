"""What live connections ask of the database: who a user is, what came into a feed, who came and went.

Small calls of one kind travel together, as in the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from syncd.postgres.contexts import ActingNumber, ActingNumbers, ActingUser, bound
from syncd.postgres.statements import statement
from syncd.store.batcher import Batcher
from syncd.store.live_rows import (
    FeedHead,
    FeedQuery,
    Here,
    Members,
    MembershipChanges,
    MembershipNews,
    News,
    Present,
    ResolvedUser,
)
from syncd.store.pool import Pool

LANES, GROUP = 2, 32


class Live:
    """The calls. They raise Busy and DatabaseUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._readings: Batcher[FeedQuery, News] = Batcher(self._read_group, self._read_alone, LANES, GROUP)
        self._users: Batcher[tuple[str, str | None, int], ResolvedUser] = Batcher(
            self._resolve_group, self._resolve_alone, LANES, GROUP
        )

    async def resolve_user(self, user: str, spaces: list[dict[str, str]] | None, as_of: int) -> ResolvedUser:
        """A user in numbers; adopts a membership list from outside (None: the table decides) made at `as_of` (us)."""
        given = None if spaces is None else msgspec.json.encode(spaces).decode()
        return await self._users.join((user, given, as_of))

    async def _resolve_alone(self, call: tuple[str, str | None, int]) -> ResolvedUser:
        return ResolvedUser(*(await self._pool.fetch("resolve_user", ActingUser(call[0]), *call[1:]))[0])

    async def _resolve_group(self, calls: list[tuple[str, str | None, int]]) -> list[ResolvedUser]:
        """One transaction for many, so that a storm of new connections costs one flush for all of them."""

        async def work(connection: Any) -> list[ResolvedUser]:
            found: dict[int, ResolvedUser] = {}
            async with connection.transaction():
                # In one order everywhere: new users are rows that others may be adding too.
                for i in sorted(range(len(calls)), key=lambda i: calls[i][0]):
                    call = bound(connection, ActingUser(calls[i][0]), *calls[i][1:])
                    found[i] = ResolvedUser(*(await connection.fetch(statement("resolve_user"), *call))[0])
            return [found[i] for i in range(len(calls))]

        return await self._pool.attempt(work, "resolve_user")

    async def read(self, reading: FeedQuery) -> News:
        """What came into a feed, and the space's membership version in the same snapshot."""
        return await self._readings.join(reading)

    async def _read_alone(self, reading: FeedQuery) -> News:
        return (await self._read_group([reading]))[0]

    async def _read_group(self, readings: list[FeedQuery]) -> list[News]:
        calls = ActingNumbers([reading.call() for reading in readings])
        return [News(*row) for row in await self._pool.fetch("live", calls)]

    async def members(self, space: int, users: Sequence[int]) -> tuple[int, set[int]]:
        """A space's membership version, and which of `users` are members."""
        for row in await self._pool.fetch("still_members", space, list(users)):
            found = Members(*row)
            return found.version, set(found.members)
        return 0, set()

    async def membership_changes(self, horizon: str | None) -> MembershipChanges:
        """The users that came, went, changed role or were invited since `horizon` (None: from now on)."""
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

    async def put_presence(self, items: list[dict[str, Any]]) -> list[bool]:
        """Puts presence: [{"user", "space" (numbers), "client", "state"}]; whether each user is a member there."""
        return list((await self._pool.fetch("presence_put", ActingNumbers(items)))[0][0])

    async def presence(self, user: int, space: int, seconds: float) -> tuple[int, list[Here]] | None:
        """A space's membership version, and the devices that are there, as a member sees them; None when `user` is none
        (now)."""
        rows = [Present(*row) for row in await self._pool.fetch("presence_in", ActingNumber(user), space, seconds)]
        return (rows[0].version, [here for row in rows for here in row.here()]) if rows else None
