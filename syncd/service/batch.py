"""What one reading of a feed brought, in the forms that its listeners take; each form is made once."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import NamedTuple, TypeVar

from syncd.protocol.live import SEPARATOR, sync_available
from syncd.store.live import News

F = TypeVar("F")
# Where a change's own text has its event id: {"eventId":"…36 characters…
EVENT_ID = slice(12, 48)
CLIENT_ID = b'"clientId":'


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
        self.now, self.boot = news.now, news.boot
        self._news = news
        self._changes: dict[bool, list[Change]] = {}
        self._made: dict[object, object] = {}

    def changes(self, legacy: bool) -> list[Change]:
        """The changes one by one; `legacy`: with inserts as plain records too."""
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
        return [
            change
            for change in self.changes(legacy)
            if (not tables or change.table in tables)
            and (after is None or change.seq > after)
            and not (own and change.echoes(own))
        ]

    def form(self, name: object, make: Callable[[], F]) -> F:
        """What `make` makes, made once for each name."""
        found = self._made.get(name)
        if found is None:
            found = self._made[name] = make()
        return found  # type: ignore[return-value]

    def poke(self) -> bytes:
        """The frame for who did not subscribe."""
        return self.form("poke", lambda: sync_available(self.app, self._news.tables or ()))

    def own_only(self, own: Container[bytes]) -> bool:
        """Whether one device wrote all of it."""
        return all(change.echoes(own) for change in self.changes(False))
