"""What one reading of a feed brought, in the forms that its listeners take; each form is made once."""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from syncd.protocol.live_messages import SEPARATOR, sync_available
from syncd.store.live_rows import News

# Where a change's own text has its event id: {"eventId":"…36 characters…
EVENT_ID = slice(12, 48)
CLIENT_ID = b'"clientId":'
WHOLE = b',"whole":true,"fields":'


class Change(NamedTuple):
    """One change as JSON text."""

    seq: int
    table: str
    text: bytes

    def echoes(self, own: Container[bytes]) -> bool:
        """Whether a device that wrote the changes with the event ids `own` needs not hear of this one. A change to a
        deleted record brings registers of others with it, which its writer may never have seen."""
        return self.text[EVENT_ID] in own and self.text.count(CLIENT_ID) == 1


class Batch:
    """The changes of a feed after `after` up to `upto`, which is the end of a push. Instants are microseconds."""

    def __init__(self, app: str, after: int, news: News) -> None:
        assert news.upto is not None
        self.app, self.after, self.upto = app, after, news.upto
        self.now, self.boot = news.now_us, news.boot_us
        self._news = news
        # Whether a change has its device drop what it holds of the record.
        self.whole = WHOLE in (news.body or b"")
        self._changes: dict[bool, list[Change]] = {}
        # What listeners of one kind get, made by the first of them: the frame's start by (plain, tables).
        self.made: dict[tuple[bool, tuple[str, ...]], bytes] = {}
        self._available: bytes | None = None

    def changes(self, legacy: bool) -> list[Change]:
        """The changes one by one; `legacy`: as the first generation reads them, where one may be two."""
        if legacy not in self._changes:
            text = (self._news.legacy if legacy else self._news.body) or b""
            pieces = text.split(SEPARATOR) if text else []
            seqs, tables = self._news.seqs or (), self._news.tables or ()
            self._changes[legacy] = [Change(*parts) for parts in zip(seqs, tables, pieces, strict=True)]
        return self._changes[legacy]

    def selection(
        self, legacy: bool, tables: tuple[str, ...], *, after: int | None = None, own: Container[bytes] = ()
    ) -> list[Change]:
        """The changes that a listener takes: of some tables (none: all), after a seq, without its own."""
        # Whose they are is looked up in the plain form: the other one may say it twice.
        both = zip(self.changes(legacy), self.changes(False) if own else self.changes(legacy), strict=True)
        return [
            change
            for change, plain in both
            if change.text  # nothing, where the first generation is not told of it
            and (not tables or change.table in tables)
            and (after is None or change.seq > after)
            and not (own and plain.echoes(own))
        ]

    def available(self) -> bytes:
        """The frame for those who did not subscribe."""
        if self._available is None:
            self._available = sync_available(self.app, self._news.tables or ())
        return self._available

    def own_only(self, own: Container[bytes]) -> bool:
        """Whether one device wrote all of it."""
        return all(change.echoes(own) for change in self.changes(False))
