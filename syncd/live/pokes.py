"""Pokes: what connections hear that did not subscribe (first generation): that there is news, and in which app."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from syncd.bus.hints import key
from syncd.live.member import Connection
from syncd.live.rooms import Feed, FeedHub, LiveSpace
from syncd.protocol.live_messages import sync_available

ROOMS_AT_ONCE = 2000


class PokeHub(FeedHub, Protocol):
    """What pokes need of their hub. `rooms`: the spaces of those who are connected."""

    rooms: dict[int, LiveSpace]


class Pokes:
    """Finds the feeds that somebody wants to be poked for: who subscribes names one, who does not wants all."""

    def __init__(self, hub: PokeHub) -> None:
        self._hub = hub

    async def discover(self, rooms: Iterable[LiveSpace], member: Connection) -> None:
        """Feeds of rooms that somebody wants to be poked for; what is in them by now is no news."""
        wanted = sorted({room.space for room in rooms if room.poked})
        for start in range(0, len(wanted), ROOMS_AT_ONCE):
            for space, app, head in await self._hub.live.feeds(member.user_no, wanted[start : start + ROOMS_AT_ONCE]):
                self._feed(space, app, head)

    async def discover_new(self, room: LiveSpace, member: Connection) -> None:
        """An app was written to for the first time: all of it is news."""
        for space, app, head in await self._hub.live.feeds(member.user_no, [room.space]):
            if space == room.space and (feed := self._feed(space, app, 0)) is not None:
                feed.hint(head)

    async def look(self) -> None:
        """Finds feeds of which no hint told: others make them too."""
        spaces = [room.space for room in self._hub.rooms.values() if room.poked]
        for start in range(0, len(spaces), ROOMS_AT_ONCE):
            for space, app, head in await self._hub.live.feeds_of(spaces[start : start + ROOMS_AT_ONCE]):
                if self._feed(space, app, head) is not None:
                    self.tell(list(self._hub.rooms[space].poked), (app,))

    def tell(self, members: Iterable[Connection], apps: Iterable[str]) -> None:
        """That there is news in some apps, without saying in which tables."""
        for member in members:
            for app in apps if member.app is None else {member.app}.intersection(apps):
                if member.poked and member.sink.room:
                    member.sink.frame(sync_available(app, ()))

    def _feed(self, space: int, app: str, head: int) -> Feed | None:
        """A feed that was not known, in a room that still wants to."""
        room = self._hub.rooms.get(space)
        if room is None or not room.poked or key(app) in room.feeds:
            return None
        room.feeds[key(app)] = feed = Feed(self._hub, room, app, head)
        return feed
