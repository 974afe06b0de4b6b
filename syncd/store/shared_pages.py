"""Pages of first syncs that many devices ask for, kept by a worker, so that the database makes the text of each once.

Whether a page is still right is decided by the database, in the call that reads it, and so is who may read it: what a
worker keeps only saves making the text again (`schema/functions/shared_pages.sql`). All members of a space read the
same text of the same records.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from syncd.core.shared_text import SharedText

# Of all pages together, with what they were packed to, in a worker. A page has some 2 MiB at most, unless one push is
# larger.
MOST_BYTES = 24 * 1024 * 1024
# That a call names: each costs it some microseconds.
MOST_NAMED = 24
# Seconds after which a page that nobody asked for makes room, and after which any page is made again.
UNUSED_FOR, KEPT_FOR = 30.0, 600.0
# Pages that were asked for once, by name: one that nobody else asks for is not worth its room.
MOST_SEEN = 4096
KEPT, NEW = b"\x01", b"\x02"


class SharedPage(NamedTuple):
    """A page's text, and what it is kept as: the version of its feed, where it ends, and its bytes."""

    version: str
    cut: int
    size: int
    text: SharedText


class _Entry:
    __slots__ = ("made", "page", "used")

    def __init__(self, page: SharedPage, now: float) -> None:
        self.page, self.made, self.used = page, now, now


class SharedPages:
    """The pages of a worker. `now`: seconds of a clock that does not go back."""

    def __init__(self, most: int = MOST_BYTES, now: Callable[[], float] = time.monotonic) -> None:
        self._most, self._now = most, now
        self._entries = dict[tuple[str, str], _Entry]()
        self._seen = dict[tuple[str, str, str], None]()
        self.hits = 0

    @property
    def bytes(self) -> int:
        """What is kept, with what it was packed to."""
        return sum(entry.page.text.held for entry in self._entries.values())

    def offer(self, app: str) -> PagesOffer:
        """What a call for a page of a first sync says that there is, and what its answer is opened with."""
        self.expire()
        mine = [(key, entry.page) for (of, key), entry in reversed(self._entries.items()) if of == app]
        return PagesOffer(self, app, mine[:MOST_NAMED])

    def used(self, app: str, key: str) -> None:
        """Notes that a page was asked for once more."""
        self.hits += 1
        if entry := self._entries.pop((app, key), None):
            entry.used = self._now()
            self._entries[app, key] = entry

    def keep(self, app: str, key: str, page: SharedPage) -> None:
        """Keeps a page that was asked for before, or in place of its older version, where there is room, or others are
        not used any more. One that is asked for stays, so that the beginning of what is larger than all the room is
        kept, and not its end."""
        old = self._entries.pop((app, key), None)
        if old is None and not self._came_before((app, key, page.version)):
            return
        if self.bytes + page.size > self._most:
            self.expire(UNUSED_FOR)
        if self.bytes + page.size <= self._most:
            self._entries[app, key] = _Entry(page, self._now())

    def expire(self, unused: float = KEPT_FOR) -> None:
        """Lets go of pages that are too old, or were not used for so many seconds."""
        now = self._now()
        for key, entry in list(self._entries.items()):
            if now - entry.used > unused or now - entry.made > KEPT_FOR:
                del self._entries[key]

    def _came_before(self, name: tuple[str, str, str]) -> bool:
        if name in self._seen:
            del self._seen[name]
            return True
        if len(self._seen) >= MOST_SEEN:
            del self._seen[next(iter(self._seen))]
        self._seen[name] = None
        return False


class PagesOffer:
    """The pages that one call names. They stay as long as the call, whatever becomes of the others."""

    def __init__(self, pages: SharedPages, app: str, named: list[tuple[str, SharedPage]]) -> None:
        self._pages, self._app, self._named = pages, app, named

    def known(self) -> dict[str, Any]:
        """As sync_pull takes them: by key their version, their end, their bytes, and their number here."""
        return {key: [page.version, page.cut, page.size, n] for n, (key, page) in enumerate(self._named)}

    def opened(self, body: bytes) -> bytes:
        """The text of an answer, with the pages that it names; new ones are kept. Where it is all one page, the
        SharedText that others are sent too."""
        parts, at = list[bytes](), 0
        while (sign := _sign(body, at)) >= 0:
            parts.append(body[at:sign])
            end = body.index(body[sign : sign + 1], sign + 1)
            said, at = body[sign + 1 : end], end + 1
            if body[sign : sign + 1] == KEPT:
                key, page = self._named[int(said)]
                self._pages.used(self._app, key)
                parts.append(page.text)
                continue
            key, version, cut, size = msgspec.json.decode(said)
            text = SharedText(body[at : at + size])
            self._pages.keep(self._app, key, SharedPage(version, cut, size, text))
            parts.append(text)
            at += size
        parts = [part for part in (*parts, body[at:]) if part]
        return b"".join(parts) if len(parts) > 1 else parts[0] if parts else b""


def _sign(body: bytes, start: int) -> int:
    """Where the next page begins; -1: there is none."""
    found = [at for at in (body.find(KEPT, start), body.find(NEW, start)) if at >= 0]
    return min(found, default=-1)
