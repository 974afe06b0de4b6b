"""Spaces and feeds that somebody on this process listens to. Pure."""

from __future__ import annotations

from syncd.bus.hints import key
from syncd.live.connection import Connection, Subscription


class LiveSpace:
    """A space: its members' connections, and its feeds by the key of their app.

    `version` is the membership version at which all of its connections were known to be of members. `available`: the
    connections that are told of news instead of being sent it. `written`: keys of apps that were written to, whose
    feeds nobody has found yet.
    """

    __slots__ = ("available", "feeds", "here", "id", "key", "members", "number", "version", "watchers", "written")

    def __init__(self, number: int, space_id: str, version: int) -> None:
        self.number, self.id, self.key, self.version = number, space_id, key(space_id), version
        self.members: dict[Connection, None] = {}
        self.available: dict[Connection, None] = {}
        self.feeds: dict[str, Feed] = {}
        self.written: frozenset[str] = frozenset()
        # Presence: who listens for it here, and what was last heard of whom; none in most spaces.
        self.watchers: dict[Connection, None] | None = None
        self.here: dict[tuple[str, str], str] | None = None


class Feed:
    """An app in a space. It is read once for all its listeners, from `head` on, when a hint says that there is more.

    `hinted`: how far it is said to have come; `reading`: whether it is being read; `hinted_at`: since when, by the
    runner's clock.
    """

    __slots__ = ("app", "head", "hinted", "hinted_at", "reading", "space", "subscribers")

    def __init__(self, space: LiveSpace, app: str, head: int) -> None:
        self.space, self.app, self.head, self.hinted = space, app, head, head
        self.subscribers: dict[Subscription, None] = {}
        self.reading = False
        self.hinted_at = 0.0

    @property
    def heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self.subscribers or self.space.available)
