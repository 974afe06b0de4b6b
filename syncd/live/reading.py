"""What is read for all who listen: feeds, their heads, and who is in a space. Pure: each function is a process."""

from __future__ import annotations

from collections.abc import Iterable

from syncd.core.errors import Busy, DatabaseUnavailable, SyncdError
from syncd.live import effects
from syncd.live.batch import Batch
from syncd.live.effects import Steps
from syncd.live.live_space import Feed, LiveSpace
from syncd.live.memberships import check_members
from syncd.live.state import LiveState
from syncd.store.live_rows import FeedQuery, News

READ_LIMIT = 1000
READ_BYTES = 256 * 1024
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
HEADS_AT_ONCE = 2000
# What is said is repeated three times as often.
PRESENT_FOR = 30.0


def read_feed(state: LiveState, feed: Feed) -> Steps[None]:
    """Reads a feed until all of it that is known of was read, as long as somebody listens."""
    pause = SHORTEST_PAUSE
    try:
        while feed.heard and feed.hinted > feed.head:
            try:
                yield from _read_on(state, feed)
                pause = SHORTEST_PAUSE
            except (Busy, DatabaseUnavailable):
                yield from effects.BackOff(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            except SyncdError:
                # It cannot be read: its listeners are told so by the page that they catch up with, and leave it.
                for subscription in list(feed.subscribers):
                    state.fall_behind(subscription)
                return
    finally:
        feed.reading = False


def _read_on(state: LiveState, feed: Feed) -> Steps[None]:
    """Reads what comes next, as one of the listeners, and delivers it to all of them that are members still."""
    reader = next(iter(feed.subscribers)).connection if feed.subscribers else next(iter(feed.space.available))
    legacy = any(subscription.request.plain for subscription in feed.subscribers)
    news = yield from effects.ReadFeed(
        FeedQuery(reader.user_no, feed.space.number, feed.app, feed.head, READ_LIMIT, READ_BYTES, legacy)
    )
    if news.version is None:
        # The reader is no member any more: it goes, and the next one reads.
        yield from check_members(state, feed.space)
        return
    while feed.space.version < news.version and feed.heard:
        yield from check_members(state, feed.space)
    if news.upto is None or news.upto <= feed.head or news.boot_us != state.boot:
        # The hint was wrong, or the database is another one than before.
        feed.hinted = feed.head
        state.effects.append(effects.PollMembers())
        return
    yield from _deliver(state, feed, news, news.upto, legacy)


def _deliver(state: LiveState, feed: Feed, news: News, upto: int, legacy: bool) -> Steps[None]:
    batch = Batch(feed.app, feed.head, news)
    # First: whoever joins from here on has to have what is in the batch.
    feed.head = upto
    state.counts.batches += 1
    yield from effects.Deliver(feed, batch, legacy, list(feed.subscribers))
    state.tell_of_batch(feed, batch)
    state.effects.append(effects.Delivered(feed))


def check_heads(state: LiveState, feeds: Iterable[Feed]) -> Steps[None]:
    """Reads how far feeds have come, of which no hint may have told."""
    known = list(dict.fromkeys(feeds))
    for start in range(0, len(known), HEADS_AT_ONCE):
        some = known[start : start + HEADS_AT_ONCE]
        heads = yield from effects.ReadHeads([(feed.space.number, feed.app) for feed in some])
        for feed, head in zip(some, heads, strict=True):
            state.hinted(feed, head)


def check_joined_heads(state: LiveState) -> Steps[None]:
    """The same for the feeds that were joined just now, together."""
    yield from effects.Rest()
    feeds, state.unsure = state.unsure, []
    yield from check_heads(state, feeds)


def poll_heads(state: LiveState) -> Steps[None]:
    """The same for all feeds that somebody listens to."""
    yield from check_heads(state, [feed for space in state.spaces.values() for feed in space.feeds.values()])


def read_presence(state: LiveState) -> Steps[None]:
    """Reads who is in the spaces where something was said, and tells their watchers what changed."""
    presence = state.presence
    try:
        while presence.stale:
            space = next(iter(presence.stale))
            del presence.stale[space]
            yield from _read_presence_in(state, space)
    except (Busy, DatabaseUnavailable):
        presence.stale.clear()
    finally:
        presence.reading = False


def _read_presence_in(state: LiveState, space: LiveSpace) -> Steps[None]:
    if not space.watchers:
        return
    reader = next(iter(space.watchers))
    found = yield from effects.ReadPresence(reader.user_no, space.number, PRESENT_FOR)
    if found is None:
        yield from check_members(state, space)
        state.presence.changed(space)
        return
    version, there = found
    while space.version < version and space.watchers:
        # Somebody came or went: whoever is no member any more is not to hear what was said since.
        yield from check_members(state, space)
    state.presence.read(space, there)
