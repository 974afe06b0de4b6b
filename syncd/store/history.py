"""Looks into the past, and the way back: each is one call to the database, as its user."""

from __future__ import annotations

from typing import NamedTuple

from syncd.postgres.contexts import ActingCall
from syncd.store.pool import Pool
from syncd.store.standbys import Standbys


class PastPage(NamedTuple):
    """What a look found: JSON text; see sync_past_page in the schema. `start` (us): of which history."""

    body: str
    seq: int | None
    more: bool | None
    complete: bool | None
    last_table: str | None
    last_id: str | None
    start: int


class PastFound(NamedTuple):
    """The same without its history."""

    body: str
    seq: int | None
    more: bool | None
    complete: bool | None
    last_table: str | None
    last_id: str | None


class PastThere(NamedTuple):
    """What a look found on a standby; `members`: by which spaces of the user, as one value."""

    why: str | None
    replayed: int | None
    members: bytes | None
    past: PastFound | None


class Restored(NamedTuple):
    """The changes that a restore wrote, in the order of their seqs; `repeated`: an earlier one had written them."""

    seqs: list[int]
    events: list[str]
    tables: list[str]
    ids: list[str]
    repeated: bool


class History:
    """The calls; each is given as JSON text. They raise Refusal (SY010), Busy, DatabaseUnavailable. `standbys`: looks
    are asked of them first."""

    def __init__(self, pool: Pool, standbys: Standbys | None = None) -> None:
        self._pool, self._standbys = pool, standbys

    async def look(self, call: bytes) -> PastPage:
        """A record, its changes or a page of a space, as sync_past takes it."""
        found = await self._standbys.read("past_there", call) if self._standbys else None
        if found is not None:
            row, point = found
            return PastPage(*PastFound(*row["past"]), point.start_us)
        return PastPage(*(await self._pool.fetch("past", ActingCall(call)))[0])

    async def restore(self, call: bytes) -> Restored:
        """Goes back, as sync_restore takes it."""
        return Restored(*(await self._pool.fetch("restore", ActingCall(call)))[0])
