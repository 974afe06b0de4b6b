"""Digests of feeds: read in one snapshot, and kept up in small transactions before they are read."""

from __future__ import annotations

from typing import NamedTuple

from syncd.postgres.contexts import ActingCall
from syncd.store.pool import Pool


class DigestPage(NamedTuple):
    """What was found, JSON text in `body` and `gone`; see sync_digest_page in the schema."""

    body: str | None
    behind: list[str] | None
    unready: list[str] | None
    seq: int | None
    gone: str | None
    more: bool | None
    trouble: str | None


class Digests:
    """The calls; each is given as JSON text. They raise Refusal (SY010), Busy, DatabaseUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def ask(self, call: bytes) -> DigestPage:
        """Digests, or the differences of a bucket, as sync_digest takes it."""
        return DigestPage(*(await self._pool.fetch("digest", ActingCall(call)))[0])

    async def fold(self, call: bytes) -> bool:
        """Folds in what was touched, as sync_digest_fold takes it; true where there may be more."""
        return bool((await self._pool.fetch("digest_fold", ActingCall(call)))[0][0])
