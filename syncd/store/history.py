"""Looks into the past, and the way back: each is one call to the database, as its user."""

from __future__ import annotations

from typing import NamedTuple

from syncd.postgres.contexts import ActingCall
from syncd.store.pool import Pool


class PastPage(NamedTuple):
    """What a look found: JSON text; see sync_past_page in the schema. `start` (us): of which history."""

    body: str
    seq: int | None
    more: bool | None
    complete: bool | None
    last_table: str | None
    last_id: str | None
    start: int


class Restored(NamedTuple):
    """The changes that a restore wrote, in the order of their seqs; `repeated`: an earlier one had written them."""

    seqs: list[int]
    events: list[str]
    tables: list[str]
    ids: list[str]
    repeated: bool


class History:
    """The calls; each is given as JSON text. They raise Refusal (SY010), Busy, DatabaseUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def look(self, call: bytes) -> PastPage:
        """A record, its changes or a page of a space, as sync_past takes it."""
        return PastPage(*(await self._pool.fetch("past", ActingCall(call)))[0])

    async def restore(self, call: bytes) -> Restored:
        """Goes back, as sync_restore takes it."""
        return Restored(*(await self._pool.fetch("restore", ActingCall(call)))[0])
