"""Digests of feeds: read in one snapshot, and kept up in small transactions before they are read."""

from __future__ import annotations

from typing import NamedTuple

from syncd.postgres.contexts import ActingCall
from syncd.store.pool import Pool
from syncd.store.standbys import Standbys


class DigestPage(NamedTuple):
    """What was found, JSON text in `body` and `gone`; see sync_digest_page in the schema."""

    body: str | None
    behind: list[str] | None
    unready: list[str] | None
    seq: int | None
    gone: str | None
    more: bool | None
    trouble: str | None


class DigestThere(NamedTuple):
    """What a standby found; `members`: by which spaces of the user, as one value."""

    why: str | None
    replayed: int | None
    members: bytes | None
    digest: DigestPage | None


class Digests:
    """The calls; each is given as JSON text. They raise Refusal (SY010), Busy, DatabaseUnavailable. `standbys`: what
    was folded is asked of them first."""

    def __init__(self, pool: Pool, standbys: Standbys | None = None) -> None:
        self._pool, self._standbys = pool, standbys

    async def ask(self, call: bytes) -> DigestPage:
        """Digests, or the differences of a bucket, as sync_digest takes it."""
        found = await self._standbys.read("digest_there", call) if self._standbys else None
        if found is not None:
            return DigestPage(*found[0]["digest"])
        return DigestPage(*(await self._pool.fetch("digest", ActingCall(call)))[0])

    async def fold(self, call: bytes) -> bool:
        """Folds in what was touched, as sync_digest_fold takes it; true where there may be more."""
        return bool((await self._pool.fetch("digest_fold", ActingCall(call)))[0][0])
