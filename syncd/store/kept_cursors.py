"""Cursors of users in many spaces: their positions are kept in a row, which the cursor names."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from syncd.postgres.contexts import ActingUser
from syncd.store.pool import Pool

# Names are drawn: so many that one which is drawn again is nothing to reckon with.
NAME_BITS = 62


class KeptPositions(NamedTuple):
    """Positions in feeds as three lists, as in a page; None where the row is not there."""

    spaces: list[int] | None
    seqs: list[int] | None
    bases: list[int] | None


class KeptCursors:
    """The rows. None of them ever changes; those that are not used go. Raises Busy, DatabaseUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def keep(self, user: str, row: int, positions: Sequence[tuple[int, int, int]]) -> int | None:
        """Keeps positions (space, seq, base), or with `row` what has moved since that one, and answers the new row's
        name; None where `row` is not there any more."""
        name = secrets.randbits(NAME_BITS) | 1
        places = [list(column) for column in zip(*positions, strict=True)]
        kept = (await self._pool.fetch("cursor_keep", ActingUser(user), name, row or None, *places))[0][0]
        return name if kept else None

    async def at(self, user: str, since: dict[str, Any]) -> list[tuple[int, int, int]] | None:
        """All positions of a kept cursor, given as a pull takes it; None where its row is not there any more."""
        found = KeptPositions(
            *(await self._pool.fetch("cursor_at", ActingUser(user), msgspec.json.encode(since).decode()))[0]
        )
        if found.spaces is None or found.seqs is None or found.bases is None:
            return None
        return list(zip(found.spaces, found.seqs, found.bases, strict=True))
