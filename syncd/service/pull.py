"""Pull: what a device has missed since its cursor."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from syncd.core.errors import CursorLost
from syncd.protocol import cursor as cursors
from syncd.protocol.cursor import Cursor, Position
from syncd.service.caller import Caller
from syncd.store.log import Log, Page

PAGE_BYTES = 4 * 1024 * 1024
DEFAULT_LIMIT = 1000
MAX_LIMIT = 10_000


class Question(NamedTuple):
    """What a device asks for. `plain`: it reads inserts as plain records too (first generation)."""

    app: str
    since: str = ""
    tables: tuple[str, ...] = ()
    limit: int = DEFAULT_LIMIT
    history: bool = False
    plain: bool = True

    def how(self) -> dict[str, Any]:
        how: dict[str, Any] = {"limit": self.limit, "bytes": PAGE_BYTES}
        if self.tables:
            how["tables"] = self.tables
        if self.plain:
            how["legacy"] = True
        if self.history:
            how["history"] = True
        return how


class Delta(NamedTuple):
    """What a device missed: `changes` is JSON text, comma-separated, ready to be put between brackets."""

    changes: bytes
    synced_until: str
    more: bool
    joined: list[str]
    left: list[str]

    def members(self) -> bytes:
        """The members of an answer that pull and push share, as JSON text."""
        spaces = msgspec.json.encode({"joined": self.joined, "left": self.left})
        return b'"serverChanges":[%s],"syncedUntil":"%s","hasMore":%s,"spaces":%s' % (
            self.changes,
            self.synced_until.encode(),
            b"true" if self.more else b"false",
            spaces,
        )


class Reading:
    """One device's place: its cursor taken apart, and put together again when a page came."""

    def __init__(self, question: Question, caller: Caller, key: bytes) -> None:
        self.question, self._user, self._key = question, caller.user, key
        self._at = cursors.decode(question.since, key, caller.user, question.app, question.tables)

    @property
    def fresh(self) -> bool:
        return not isinstance(self._at, Cursor)

    def since(self) -> dict[str, Any]:
        """The position, as sync_pull takes it."""
        if self._at is None:
            return {}
        if isinstance(self._at, int):
            return {"at": self._at}
        spaces, seqs, bases = zip(*self._at.positions, strict=True) if self._at.positions else ((), (), ())
        return {"s": spaces, "q": seqs, "b": bases, "boot": self._at.boot}

    def delta(self, page: Page) -> Delta:
        """What the device gets of a page. Raises CursorLost."""
        if page.trouble:
            raise CursorLost
        positions = tuple(map(Position, page.spaces, page.seqs, page.bases))
        earlier = self._at if isinstance(self._at, int) else self._at.instant if self._at else 0
        cursor = Cursor(max(page.now, earlier), page.boot, self.question.tables, positions)
        text = cursors.encode(cursor, self._key, self._user, self.question.app)
        return Delta(page.body, text, page.more, page.joined, page.gone)


async def pull(log: Log, key: bytes, caller: Caller, question: Question) -> Delta:
    """Answers a pull. Raises BadCursor, CursorLost, Busy, DatabaseUnavailable.

    A device with a cursor mostly has missed nothing: that is found out in company of others, and only a
    device with news gets a call of its own.
    """
    reading = Reading(question, caller, key)
    call = {**caller.head(), "app": question.app, "since": reading.since(), "how": question.how()}
    if not reading.fresh:
        page = await log.peek(msgspec.json.encode({**call, "how": {**question.how(), "peek": True}}))
        if page.trouble or not page.news:
            return reading.delta(page)
    return reading.delta(await log.pull(msgspec.json.encode(call)))
