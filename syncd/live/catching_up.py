"""How a subscription catches up: page after page from its cursor, until it can join its feeds. Pure."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import TypeAlias

from syncd.core.errors import Busy, DatabaseUnavailable, SyncdError
from syncd.live import effects
from syncd.live.connection import Subscription
from syncd.live.effects import Steps
from syncd.live.memberships import knows_spaces
from syncd.live.state import LiveState
from syncd.protocol.cursor import Bookmark, Cursor, Position
from syncd.protocol.pull_messages import PullPage

SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
Positions: TypeAlias = Sequence[Position]


def catch_up(state: LiveState, subscription: Subscription) -> Steps[None]:
    """Until it takes batches, or cannot be."""
    pause = SHORTEST_PAUSE
    try:
        while not subscription.live:
            try:
                yield from _round(state, subscription)
                pause = SHORTEST_PAUSE
            except (Busy, DatabaseUnavailable) as why:
                state.effects.append(effects.Refuse(subscription, why))
                yield from effects.BackOff(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
    except ConnectionResetError:
        return
    except SyncdError as why:
        subscription.catching_up = False
        state.refuse(subscription, why)
    finally:
        subscription.catching_up = False


def _round(state: LiveState, subscription: Subscription) -> Steps[None]:
    """One page, and when it was the last one, the feeds are joined."""
    subscription.again = False
    missed = yield from effects.ReadPage(subscription)
    page, found, connection = missed.page, missed.found, subscription.connection
    if _says_something(page) or not subscription.told:
        subscription.told = True
        yield from effects.SendPage(subscription, page)
    subscription.cursor = page.synced_until.encode()
    subscription.roles = page.roles_until or subscription.roles
    # What came while it was read is found by the next round: joining and looking are one step here.
    if page.more or subscription.again:
        return
    unreadable = {number for number, _ in page.unreadable} & connection.spaces.keys()
    places = yield from _places(subscription, found)
    known = yield from knows_spaces(state, subscription, {position.space for position in places} | unreadable)
    if known and not subscription.again:
        _join(state, subscription, found, places, unreadable)


def _says_something(page: PullPage) -> bool:
    return bool(page.changes or page.joined or page.left or page.unreadable or page.more or page.roles_until)


def _places(subscription: Subscription, found: Cursor) -> Steps[Positions]:
    """The position in every feed."""
    if not found.row:
        return found.positions
    places = yield from effects.ReadPositions(subscription.connection.caller.user, found)
    if places is None:
        raise Busy  # it went this moment: the next page tells
    return places


def _join(state: LiveState, subscription: Subscription, found: Cursor, places: Positions, unreadable: Set[int]) -> None:
    """Takes a place in every feed but those that cannot be read, which are tried again with the next page."""
    for space in unreadable:
        state.leave_feed(subscription, space)
    readable = tuple(position for position in places if position.space not in unreadable)
    if state.join_feeds(subscription, found._replace(positions=readable)):
        user, app = subscription.connection.caller.user, subscription.request.app
        subscription.bookmark = Bookmark(found, state.key, user, app, places if found.row else None)
        subscription.live = True
