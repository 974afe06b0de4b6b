"""Who is here: what devices say about their users in a space, for as long as they say it.

It is kept in the database, unlogged, for a minute at most; every process tells its own connections what changed.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

import msgspec

from syncd.bus.hints import Bus, Hint
from syncd.core.errors import Busy, DatabaseUnavailable, NotFound
from syncd.live.member import Connection
from syncd.live.pokes import PokeHub
from syncd.live.rooms import LiveSpace
from syncd.protocol.live_messages import presence

# Typing and moving pointers make many states; a few a second are enough to see them.
TOGETHER_SECONDS = 0.05
REPEAT_EVERY = 10.0
GONE_AFTER = 30.0
LOOK_EVERY = 5.0
NOBODY = "null"


class PresenceHub(PokeHub, Protocol):
    """What presence needs of its hub. `users`: the connections of each user, by number."""

    bus: Bus
    users: dict[int, dict[Connection, None]]

    def hear(self, hint: Hint) -> None:
        """What this or another process says has happened."""


class Presence:
    """What this process's connections say, and what they are told."""

    def __init__(self, hub: PresenceHub) -> None:
        self._hub = hub
        self._said: dict[Connection, dict[int, str]] = {}
        self._waiting: dict[tuple[int, int, str], dict[str, Any]] = {}
        self._flushing: asyncio.Task[None] | None = None
        self._stale: dict[LiveSpace, None] = {}
        self._looking: asyncio.Task[None] | None = None
        self._repeated = self._looked = time.monotonic()

    async def say(self, member: Connection, space_id: str, state: bytes) -> None:
        """A device says something (any JSON text that the database can hold, "null": no longer here) and listens from
        now on. Raises NotFound."""
        space = next((number for number, known in member.spaces.items() if known == space_id), None)
        if space is None:
            raise NotFound(code="space_not_found")
        room = self._hub.rooms[space]
        text = msgspec.json.format(state, indent=-1).decode()
        self._put(member, space, text)
        said = self._said.setdefault(member, {})
        if text == NOBODY:
            said.pop(space, None)
        else:
            said[space] = text
        if room.watchers is None:
            room.watchers = {}
        if member not in room.watchers:
            room.watchers[member] = None
            for (user, client), known in (room.here or {}).items():
                self._tell_one(member, room, user, client, known)
            self.heard(room)

    def _take_back(self, member: Connection, space: int) -> None:
        """A connection says no more there; another one of the same device may, where that has come back already."""
        same = (m for m in self._hub.users.get(member.user_no, ()) if m is not member and m.client == member.client)
        left = (text for m in same if (text := self._said.get(m, {}).get(space)) is not None)
        self._put(member, space, next(left, NOBODY))

    def leave_room(self, member: Connection, room: LiveSpace) -> None:
        """A connection is no longer in a space."""
        if room.watchers is not None and room.watchers.pop(member, member) is None and not room.watchers:
            room.watchers = room.here = None
        if (said := self._said.get(member)) is not None and said.pop(room.space, None) is not None:
            self._take_back(member, room.space)

    def leave(self, member: Connection) -> None:
        """A connection is gone, and so is what it said."""
        for space in self._said.pop(member, ()):
            self._take_back(member, space)

    def heard(self, room: LiveSpace) -> None:
        """Something changed in a space."""
        if room.watchers:
            self._stale[room] = None
            if self._looking is None:
                self._looking = self._hub.spawn(self._look())

    async def round(self) -> None:
        """What is said is repeated, and what another process stopped repeating is found gone."""
        await asyncio.sleep(1.0)
        now = time.monotonic()
        if now - self._repeated > REPEAT_EVERY:
            self._repeated = now
            for member, said in self._said.items():
                for space, text in said.items():
                    self._put(member, space, text, quietly=True)
        if now - self._looked > LOOK_EVERY:
            self._looked = now
            for room in list(self._hub.rooms.values()):
                self.heard(room)

    # -- to the database --------------------------------------------------------------------------------

    def _put(self, member: Connection, space: int, text: str, *, quietly: bool = False) -> None:
        name = (space, member.user_no, member.client)
        if quietly and name in self._waiting:
            return
        room = self._hub.rooms.get(space)
        item = {"user": member.user_no, "space": space, "client": member.client, "state": msgspec.Raw(text.encode())}
        self._waiting[name] = {"item": item, "key": None if quietly or room is None else room.key}
        if self._flushing is None:
            self._flushing = self._hub.spawn(self._flush())

    async def _flush(self) -> None:
        await asyncio.sleep(TOGETHER_SECONDS)
        said, self._waiting = list(self._waiting.values()), {}
        self._flushing = None
        try:
            await self._hub.live.say([one["item"] for one in said])
        except (Busy, DatabaseUnavailable):
            return  # it is said again soon, and who is away that long is gone
        for space in {one["key"] for one in said if one["key"] is not None}:
            hint = Hint("p", space)
            self._hub.hear(hint)
            self._hub.bus.tell(hint)

    # -- to the devices ---------------------------------------------------------------------------------

    async def _look(self) -> None:
        try:
            while self._stale:
                room = next(iter(self._stale))
                del self._stale[room]
                await self._look_at(room)
        except (Busy, DatabaseUnavailable):
            self._stale.clear()
        finally:
            self._looking = None

    async def _look_at(self, room: LiveSpace) -> None:
        if not room.watchers:
            return
        reader = next(iter(room.watchers))
        found = await self._hub.live.here(reader.user_no, room.space, GONE_AFTER)
        if found is None:
            await self._hub.check(room)
            self.heard(room)
            return
        roster, there = found
        while room.roster < roster and room.watchers:
            # Somebody came or went: who is no member any more is not to hear what was said since.
            await self._hub.check(room)
        now = {(one.user, one.client): one.state for one in there}
        before, room.here = room.here or {}, now
        for name, state in now.items():
            if before.get(name) != state:
                self._tell(room, *name, state)
        for name in before.keys() - now.keys():
            self._tell(room, *name, NOBODY)
        for member in room.watchers or ():
            said = self._said.get(member, {}).get(room.space)
            if said is not None and (member.caller.user, member.client) not in now:
                # An older connection of the device ended, on another process, and took this with it.
                self._put(member, room.space, said)

    def _tell(self, room: LiveSpace, user: str, client: str, state: str) -> None:
        for member in list(room.watchers or ()):
            self._tell_one(member, room, user, client, state)

    def _tell_one(self, member: Connection, room: LiveSpace, user: str, client: str, state: str) -> None:
        own = member.client == client and member.caller.user == user
        if not own and member.sink.room:
            member.sink.frame(presence(room.id, user, client, state.encode()))
