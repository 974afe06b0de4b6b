"""What devices say about their users in a space, for as long as they say it. Pure.

It is kept in the database, unlogged, for a minute at most; every process tells its own connections what changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from syncd.bus.hints import Hint
from syncd.core.errors import Busy, DatabaseUnavailable, NotFound
from syncd.live import effects, frames
from syncd.live.connection import Connection
from syncd.live.effects import Effect, Steps
from syncd.live.live_space import LiveSpace
from syncd.store.live_rows import Here

# Typing and moving pointers make many states; a few a second are enough to see them.
TOGETHER_SECONDS = 0.05
NOBODY = "null"


class Presence:
    """What this process's connections say, and what they are told. `stale`: spaces where something was said; `reading`:
    whether they are being read."""

    def __init__(
        self, users: dict[int, dict[Connection, None]], spaces: dict[int, LiveSpace], todo: deque[Effect]
    ) -> None:
        self._users, self._spaces, self._effects = users, spaces, todo
        self._said: dict[Connection, dict[int, str]] = {}
        self._waiting: dict[tuple[int, int, str], tuple[dict[str, Any], str | None]] = {}
        self._writing = False
        self.stale: dict[LiveSpace, None] = {}
        self.reading = False

    def say(self, connection: Connection, space_id: str, state: bytes) -> None:
        """A device says something (any JSON text that the database can hold, "null": no longer here) and listens from
        now on. Raises NotFound."""
        number = next((number for number, known in connection.spaces.items() if known == space_id), None)
        if number is None:
            raise NotFound(code="space_not_found")
        space = self._spaces[number]
        text = msgspec.json.format(state, indent=-1).decode()
        self._put(connection, number, text)
        said = self._said.setdefault(connection, {})
        if text == NOBODY:
            said.pop(number, None)
        else:
            said[number] = text
        self._watch(connection, space)

    def _watch(self, connection: Connection, space: LiveSpace) -> None:
        if space.watchers is None:
            space.watchers = {}
        if connection not in space.watchers:
            space.watchers[connection] = None
            for (user, client), known in (space.here or {}).items():
                self._tell([connection], space, user, client, known)
            self.changed(space)

    def _take_back(self, connection: Connection, space: int) -> None:
        """A connection says no more there; another one of the same device may, where that has come back already."""
        same = (
            one
            for one in self._users.get(connection.user_no, ())
            if one is not connection and one.client == connection.client
        )
        left = (text for one in same if (text := self._said.get(one, {}).get(space)) is not None)
        self._put(connection, space, next(left, NOBODY))

    def left(self, connection: Connection, space: LiveSpace) -> None:
        """A connection is no longer in a space."""
        if space.watchers is not None and space.watchers.pop(connection, connection) is None and not space.watchers:
            space.watchers = space.here = None
        if (said := self._said.get(connection)) is not None and said.pop(space.number, None) is not None:
            self._take_back(connection, space.number)

    def gone(self, connection: Connection) -> None:
        """A connection is lost, and so is what it said."""
        for space in self._said.pop(connection, ()):
            self._take_back(connection, space)

    def changed(self, space: LiveSpace) -> None:
        """Something was said in a space, or may have been."""
        if space.watchers:
            self.stale[space] = None
            if not self.reading:
                self.reading = True
                self._effects.append(effects.StartReadingPresence())

    def poll(self) -> None:
        """What another process stopped repeating is to be found gone."""
        for space in self._spaces.values():
            self.changed(space)

    def repeat(self) -> None:
        """What is said is said again, so that it stays."""
        for connection, said in self._said.items():
            for space, text in said.items():
                self._put(connection, space, text, quietly=True)

    # -- to the database --------------------------------------------------------------------------------

    def _put(self, connection: Connection, number: int, text: str, *, quietly: bool = False) -> None:
        name = (number, connection.user_no, connection.client)
        if quietly and name in self._waiting:
            return
        space = self._spaces.get(number)
        item = {
            "user": connection.user_no, "space": number, "client": connection.client,
            "state": msgspec.Raw(text.encode()),
        }  # fmt: skip
        self._waiting[name] = item, None if quietly or space is None else space.key
        if not self._writing:
            self._writing = True
            self._effects.append(effects.StartWritingPresence())

    def write(self) -> Steps[None]:
        """Puts what was said, some of it together, and one call after the other: what was said last is to stay."""
        try:
            while self._waiting:
                yield from effects.Wait(TOGETHER_SECONDS)
                waiting, self._waiting = self._waiting, {}
                try:
                    yield from effects.WritePresence([item for item, _ in waiting.values()])
                except (Busy, DatabaseUnavailable):
                    continue  # it is said again soon, and whoever is away that long is gone
                self._written({number: space_key for (number, *_), (_, space_key) in waiting.items() if space_key})
        finally:
            self._writing = False

    def _written(self, keys: dict[int, str]) -> None:
        """Tells everybody in which spaces something was said: their numbers, and the keys of their ids."""
        for number, space_key in keys.items():
            if number in self._spaces:
                self.changed(self._spaces[number])
            self._effects.append(effects.Publish(Hint("p", space_key)))

    # -- to the devices ---------------------------------------------------------------------------------

    def read(self, space: LiveSpace, there: Sequence[Here]) -> None:
        """The devices that are in a space now; its watchers are told what changed."""
        now = {(one.user, one.client): one.state for one in there}
        before, space.here = space.here or {}, now
        watchers = list(space.watchers or ())
        for name, state in now.items():
            if before.get(name) != state:
                self._tell(watchers, space, *name, state)
        for name in [name for name in before if name not in now]:
            self._tell(watchers, space, *name, NOBODY)
        for connection in watchers:
            said = self._said.get(connection, {}).get(space.number)
            if said is not None and (connection.caller.user, connection.client) not in now:
                # An older connection of the device ended, on another process, and took this with it.
                self._put(connection, space.number, said)

    def _tell(self, connections: Sequence[Connection], space: LiveSpace, user: str, client: str, state: str) -> None:
        receivers = [one for one in connections if one.client != client or one.caller.user != user]
        if receivers:
            self._effects.append(effects.Send(receivers, frames.presence(space.id, user, client, state)))
