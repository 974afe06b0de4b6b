"""The log as it is replayed through schemas and rules, over an operator's connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, NamedTuple

from syncd.postgres.statements import statement


class ReplayFeed(NamedTuple):
    """An app in a space, by numbers and names."""

    space_no: int
    app_no: int
    space_id: str
    app: str


class ReplayChange(NamedTuple):
    """A change of the log. `counts`: it is new enough to be told; `role`: what its user is in the space today, None
    where it has left; `fields`, its registers that won, and `actor`: JSON text."""

    seq: int
    counts: bool
    created_at: datetime
    user_id: str
    role: str | None
    table_name: str
    record_id: str
    change_id: str | None
    actor: str | None
    origin: str | None
    fields: str | None


class ReplayReads:
    """Reads everybody's log, for a connection that row security does not bind."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def feeds(self, seconds: float, app: str | None) -> list[ReplayFeed]:
        """Those with changes of the last seconds."""
        return [ReplayFeed(*row) for row in await self._connection.fetch(statement("replay_feeds"), seconds, app)]

    async def changes(self, feed: ReplayFeed, seconds: float) -> AsyncIterator[ReplayChange]:
        """All changes of a feed, in order."""
        after = 0
        while rows := await self._connection.fetch(
            statement("replay_changes"), feed.space_no, feed.app_no, after, seconds
        ):
            for row in rows:
                yield ReplayChange(*row)
            after = rows[-1]["seq"]
