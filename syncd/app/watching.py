"""What a worker does again and again beside its requests: it looks at how it is, and says so."""

from __future__ import annotations

import asyncio
import contextlib

from syncd.core.errors import SyncdError
from syncd.edge.authenticator import Authenticator
from syncd.edge.concurrency import ConcurrencyLimit
from syncd.edge.metrics import Board, numbers
from syncd.live.hub import Hub
from syncd.service.counts import Counts
from syncd.store.consumers import consumer_lags
from syncd.store.numbers import used as numbers_used
from syncd.store.pool import Pool
from syncd.store.reports import Projections
from syncd.store.shared_pages import SharedPages
from syncd.store.webhooks import webhook_counts

WRITABLE_EVERY, PAGES_EVERY = 2.0, 60.0
# What is counted of consumers, in seconds, and how many of them a page of numbers has room for.
CONSUMERS_EVERY, MOST_CONSUMERS, MOST_PROJECTIONS = 5.0, 50, 20


async def ask_again(authenticator: Authenticator, hub: Hub, user: str) -> None:
    """Takes in which spaces a user is in by now, where a service says so. Raises MembershipsUnavailable."""
    said = await authenticator.ask(user)
    await hub.live.resolve_user(user, said.spaces, said.as_of)


async def publish_numbers(
    board: Board, hub: Hub, ended: dict[str, int], limit: ConcurrencyLimit, pages: SharedPages
) -> None:
    """Puts this worker's numbers where the others find them."""
    while True:
        hub.counts.requests, hub.counts.request_limit = limit.counted, int(limit.limit)
        hub.counts.shared_pages, hub.counts.shared_page_bytes = pages.hits, pages.bytes
        board.put(numbers(hub.counts, hub.bus, ended))
        await asyncio.sleep(1)


async def count_numbers(pool: Pool, counts: Counts) -> None:
    """How far the numbers of names and spaces are used up, now and then."""
    while True:
        with contextlib.suppress(SyncdError):
            counts.names, counts.spaces = await numbers_used(pool)
        await asyncio.sleep(60)


async def count_consumers(pool: Pool, counts: Counts) -> None:
    """How far consumers are behind, of the MOST_CONSUMERS that are behind most, and projections, and what became of as
    many webhooks' messages. It goes through all feeds for each consumer."""
    while True:
        begun = asyncio.get_running_loop().time()
        with contextlib.suppress(SyncdError):
            lags = sorted(await consumer_lags(pool), key=lambda lag: lag.changes)[-MOST_CONSUMERS:]
            counts.consumers = {lag.name: [lag.processes, lag.feeds, lag.changes, lag.seconds] for lag in lags}
            behind = sorted(await Projections(pool).lags(), key=lambda lag: lag.changes)[-MOST_PROJECTIONS:]
            counts.projections = {one.name: [one.feeds, one.changes, one.seconds] for one in behind}
            sent = (await webhook_counts(pool))[:MOST_CONSUMERS]
            counts.webhooks = {
                one.name: [one.sent, one.failed, one.retries, one.dead, one.seconds, *one.buckets] for one in sent
            }
        took = asyncio.get_running_loop().time() - begun
        await asyncio.sleep(max(CONSUMERS_EVERY, 50 * took))


async def drop_pages(pages: SharedPages) -> None:
    """Lets go of what is kept for first syncs when none come any more."""
    while True:
        await asyncio.sleep(PAGES_EVERY)
        pages.expire()


async def stay_where_writes_go(pool: Pool) -> None:
    """A worker that only reads would not notice that its database is written to elsewhere by now."""
    while True:
        await asyncio.sleep(WRITABLE_EVERY)
        with contextlib.suppress(SyncdError):
            await pool.attempt(pool.must_write)
