"""Usage: what there is is counted by a look now and then, which also says which spaces are full.

A worker counts the feeds that were pushed to through it, each from where it was last counted by anybody, and now and
then those that nobody has counted. Between two looks a quota may be exceeded by what is written then. A full space
takes deletions, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import structlog

from syncd.core.errors import DatabaseUnavailable, SyncdError
from syncd.service.counts import Counts
from syncd.service.held import Releaser
from syncd.service.quotas import Quotas
from syncd.store.usage import Over, Totals

log = structlog.get_logger("syncd.quotas")

# Feeds, and seqs of each, that one transaction counts.
FEEDS_AT_ONCE, ROWS_AT_ONCE = 50, 2000
# The first look, and after that one in so many, is for all feeds: those of workers that were killed, and of imports.
EVERYTHING_EVERY = 40


class WrittenFeeds:
    """The feeds that this process wrote to since they were last counted, by space and app."""

    def __init__(self) -> None:
        self._feeds = set[tuple[str, str]]()

    def add(self, space: str, app: str) -> None:
        """A push to a feed was committed."""
        self._feeds.add((space, app))

    def take(self) -> list[tuple[str, str]]:
        """All of them in order; none is left."""
        feeds, self._feeds = self._feeds, set()
        return sorted(feeds)


class UsageRound:
    """A look, again and again. `written`: the feeds to count; `full` is what the log is told: the spaces that take
    nothing but deletions. `tell`: is given the rates that users have of their own; `audit`: writes what was counted of
    refusals."""

    def __init__(
        self, totals: Totals, quotas: Quotas, written: WrittenFeeds, full: dict[str, Over], releaser: Releaser,
        counts: Counts, tell: Callable[[Mapping[str, Mapping[str, float]]], None], every: float,
        audit: Callable[[], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._totals, self._quotas, self._written, self._releaser = totals, quotas, written, releaser
        self._full, self._counts, self._tell, self._every, self._audit = full, counts, tell, every, audit
        self._rounds = 0

    async def __call__(self) -> None:
        """Looks, and waits until the next time. Raises Busy, DatabaseUnavailable."""
        written = self._written.take()
        try:
            await self._count(written, everything=self._rounds % EVERYTHING_EVERY == 0)
        except SyncdError:
            for space, app in written:
                self._written.add(space, app)
            raise
        self._rounds += 1
        await self._compare()
        await self._note()
        await asyncio.sleep(self._every)

    async def _note(self) -> None:
        """Writes what was counted of refusals. What could not be written stays counted until the next round."""
        try:
            await self._audit()
        except SyncdError as why:
            log.warning("refusals could not be noted", error=type(why).__name__)

    async def _count(self, feeds: list[tuple[str, str]], *, everything: bool) -> None:
        more = everything
        while feeds or more:
            some = feeds[:FEEDS_AT_ONCE]
            more = await self._totals.look(some, ROWS_AT_ONCE, everything=everything)
            # What is not counted to its end has its turn again, in which the others lie at their ends.
            feeds = feeds if more and some else feeds[FEEDS_AT_ONCE:]

    async def _compare(self) -> None:
        found = {row.space_id: row for row in await self._totals.over(self._quotas.totals())}
        for space in self._full.keys() - found.keys():
            del self._full[space]
        self._full.update(found)
        self._counts.full = dict(Counter(row.quota for row in self._full.values()))
        own: dict[str, dict[str, float]] = {}
        for row in await self._totals.rates():
            own.setdefault(row.user_id, {})[row.quota] = row.most
        self._tell(own)
        await self._release()

    async def _release(self) -> None:
        """Writes what was held because a space was full that is not any more."""
        for due in await self._releaser.held.with_room(list(self._full)):
            try:
                await self._releaser.release(due.device, due.nos)
            except DatabaseUnavailable:
                raise
            except SyncdError as why:
                log.warning("held changes could not be written", code=why.code)
