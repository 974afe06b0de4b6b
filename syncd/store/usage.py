"""What spaces and users have, counted behind the pushes, and what they may have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from syncd.postgres.contexts import ActingUser
from syncd.postgres.statements import statement
from syncd.store.pool import Pool


class Over(NamedTuple):
    """A space that takes nothing but deletions: which quota is used up, the space's own or its maker's."""

    space_id: str
    quota: str
    used: int
    most: int


class OwnRate(NamedTuple):
    """A rate that a user has in place of the server's setting."""

    user_id: str
    quota: str
    most: int


class Use(NamedTuple):
    """As JSON text: what a user has by quota, the user's own quotas, and the same of a space, None where the user is in
    none of that id."""

    used: str
    own: str
    space_used: str | None
    space_own: str | None


class Listed(NamedTuple):
    """What an operator is shown of a user or a space: `own` is its own quota, if it has one."""

    kind: str
    name: str
    quota: str
    used: int | None
    own: int | None


class Totals:
    """Each call is one transaction. They raise Busy, DatabaseUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def look(self, feeds: Sequence[tuple[str, str]], rows: int, *, everything: bool) -> bool:
        """Counts some rows of each of these feeds, by space and app; `everything`: some of those too that were never
        counted. Whether there is more."""
        spaces, apps = [space for space, _ in feeds], [app for _, app in feeds]
        return bool((await self._pool.fetch("usage_look", spaces, apps, rows, everything))[0][0])

    async def over(self, defaults: dict[str, int]) -> list[Over]:
        """The spaces that have more than they may, or whose maker has."""
        return [Over(*row) for row in await self._pool.fetch("quota_over", msgspec.json.encode(defaults).decode())]

    async def rates(self) -> list[OwnRate]:
        """The rates that users have of their own."""
        return [OwnRate(*row) for row in await self._pool.fetch("quota_rates")]

    async def use(self, user: str, space: str | None) -> Use:
        """What a user has, and a space that the user is a member of."""
        return Use(*(await self._pool.fetch("quota_of", ActingUser(user), space))[0])


class QuotaOperator:
    """Everybody's, for a connection that row security does not bind."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def list(self, user: str | None, space: str | None, most: int) -> list[Listed]:
        return [Listed(*row) for row in await self._connection.fetch(statement("quota_list"), user, space, most)]

    async def set(self, user: str | None, space: str | None, quota: str, most: int | None) -> bool:
        """Gives a user or a space a quota of its own, None: takes it back; whether there is such a one."""
        return bool(await self._connection.fetchval(statement("quota_set"), user, space, quota, most))

    async def recount(self, space: str | None) -> int:
        """Forgets what was counted of a space, or of all, which is then counted again; of how many feeds."""
        return int(await self._connection.fetchval(statement("usage_recount"), space))
