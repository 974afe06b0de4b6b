"""Pull: what a device asks for, and the page that it gets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from syncd.protocol.live_messages import STAYED, spaces_said

# Pages of 4 MiB took 8.1 µs a record, these 5.1: what is copied a few times on its way should fit the caches.
PAGE_BYTES = 2 * 1024 * 1024
PAGE_ROWS = 1000
MOST_PAGE_ROWS = 10_000
# So begins the first word of a page that has some (schema/functions/shared_pages.sql).
WORDS_BEGIN = b"\x04="


def space_ids(spaces: Iterable[str], user: str) -> list[str]:
    """Spaces that a device names by their ids, each once: a user's personal one has two names."""
    return sorted({space or f"_personal:{user}" for space in spaces})


class PullRequest(NamedTuple):
    """What a device asks for. `plain`: it is of the first generation, reads plain records too and cannot be told that
    its cursor is of no use; `bytes` a page.

    `priority`: the tables that a new device wants first. `own`: only what became of its own push is read, and it does
    not move. `pushed`: changes of its own that were acknowledged, and that its cursor may stand before. `words`: pages
    of the state may come in words.
    `roles`: up to where it was told of its user's spaces; None: it does not ask. `until`: it wants what was there at
    this instant, in microseconds of the database's clock; 0: at this pull; None: it reads until there is no more.
    `spaces`: those that it wants, by id, "" for the personal one; none: all. `known_tables`, `known_spaces`: of what
    its cursor is for it has these alone; none: all.
    """

    app: str
    since: str = ""
    tables: tuple[str, ...] = ()
    limit: int = PAGE_ROWS
    history: bool = False
    plain: bool = True
    bytes: int = PAGE_BYTES
    priority: tuple[str, ...] = ()
    own: bool = False
    pushed: tuple[str, ...] = ()
    words: bool = False
    roles: str | None = None
    until: int | None = None
    spaces: tuple[str, ...] = ()
    known_tables: tuple[str, ...] = ()
    known_spaces: tuple[str, ...] = ()

    @property
    def chooses(self) -> bool:
        """Whether it says which spaces it wants, or what it has of what it had."""
        return bool(self.spaces or self.known_tables or self.known_spaces)

    def reached(self, since: str) -> PullRequest:
        """The same from a later cursor, which tells by itself what its device has."""
        return self._replace(since=since, known_tables=(), known_spaces=())

    def how(self) -> dict[str, Any]:
        how: dict[str, Any] = {"limit": self.limit, "bytes": self.bytes}
        if self.tables:
            how["tables"] = self.tables
        if self.plain:
            how["legacy"] = True
        if self.history:
            how["history"] = True
        if self.words and not self.plain:
            how["words"] = True
        if self.until:
            how["until"] = self.until
        return how


class TellSpaces(NamedTuple):
    """Names and roles of a user's spaces as JSON text, comma-separated; up to where the device is told then, and
    whether there are others."""

    roles: bytes
    until: str
    more: bool


class PullPage(NamedTuple):
    """What a device missed: `changes` is JSON text, comma-separated, ready to be put between brackets; `unreadable`:
    number and id of each space of which something cannot be read. `roles`: names and roles of spaces as JSON text,
    comma-separated, and up to where the device is told then; empty where there is nothing to tell. `until`: with what
    to ask for the rest of what it wants; empty: it has that; None: it did not ask, or there is no more. `partial`: it
    is of what the device has chosen, and goes on from what it has."""

    changes: bytes
    synced_until: str
    more: bool
    joined: list[str]
    left: list[str]
    unreadable: tuple[tuple[int, str], ...] = ()
    roles: bytes = b""
    roles_until: str = ""
    until: str | None = None
    partial: bool = False

    @property
    def in_words(self) -> bool:
        """Whether words are to be put back before it is JSON."""
        return WORDS_BEGIN in self.changes

    @property
    def spaces(self) -> bytes:
        """What it says of spaces, as JSON text."""
        said = STAYED
        if self.joined or self.left or self.unreadable:
            said = spaces_said(self.joined, self.left, [space_id for _, space_id in self.unreadable])
        if self.partial:
            said = b'%b,"partial":true}' % said[:-1]
        if not self.roles_until:
            return said
        return b'%b,"roles":[%b],"rolesUntil":"%b"}' % (said[:-1], self.roles, self.roles_until.encode())

    def telling(self, told: TellSpaces) -> PullPage:
        """The same with what the device is told of its user's spaces."""
        until = None if told.more else self.until  # the rest of it is wanted, too
        return self._replace(roles=told.roles, roles_until=told.until, more=self.more or told.more, until=until)

    def body(self, *more: bytes) -> bytes:
        """An answer as JSON text: a page may be large, so it is copied once. `more`: further members of a push's."""
        head, tail = self.around(*more)
        return b"".join((head, self.changes, tail))

    def around(self, *more: bytes) -> tuple[bytes, bytes]:
        """What such an answer says before the changes, and after them."""
        head = b'{"syncedUntil":%s,"hasMore":%s,"spaces":%s,' % (
            msgspec.json.encode(self.synced_until), b"true" if self.more else b"false", self.spaces,
        )  # fmt: skip
        if self.until is not None:
            head += b'"until":"%s",' % self.until.encode()
        return b"".join((head, *more, b'"serverChanges":[')), b"]}"
