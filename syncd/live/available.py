"""What connections hear that did not subscribe (first generation): that there is news, and in which app. Pure.

Whoever subscribes names an app; whoever does not wants to hear of all of them, so their feeds are to be found.
"""

from __future__ import annotations

from collections.abc import Iterable

from syncd.live import effects
from syncd.live.connection import Connection
from syncd.live.effects import Steps
from syncd.live.live_space import LiveSpace
from syncd.live.state import LiveState

SPACES_AT_ONCE = 2000


def find_feeds(state: LiveState, spaces: Iterable[LiveSpace], connection: Connection) -> Steps[None]:
    """The feeds in spaces where somebody wants to hear of all; what is in them by now is no news."""
    wanted = sorted({space.number for space in spaces if space.available})
    for start in range(0, len(wanted), SPACES_AT_ONCE):
        found = yield from effects.FindFeeds(connection.user_no, wanted[start : start + SPACES_AT_ONCE])
        for number, app, head in found:
            state.found_feed(number, app, head)


def find_new_feeds(state: LiveState, spaces: Iterable[LiveSpace], connection: Connection) -> Steps[None]:
    """An app was written to for the first time: all of it is news."""
    for number, app, head in (yield from effects.FindFeeds(connection.user_no, [space.number for space in spaces])):
        if (feed := state.found_feed(number, app, 0)) is not None:
            state.hinted(feed, head)


def poll_feeds(state: LiveState) -> Steps[None]:
    """Finds feeds of which no hint told: others make them too."""
    spaces = [space.number for space in state.spaces.values() if space.available]
    for start in range(0, len(spaces), SPACES_AT_ONCE):
        found = yield from effects.FindFeeds(None, spaces[start : start + SPACES_AT_ONCE])
        for number, app, head in found:
            if state.found_feed(number, app, head) is not None:
                state.tell_available(state.spaces[number].available, (app,))
