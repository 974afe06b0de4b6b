"""The audit: what was refused is counted here and written by the hour; what was done is shown to a space's owners."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from syncd.core.clock import format_instant
from syncd.core.errors import NotFound
from syncd.store.audit import Audit, AuditEntry, Noted
from syncd.store.pool import Refusal

# What is counted between two writes; of more kinds than that nobody could read the list.
MOST_KINDS = 2000


class RefusalCounts:
    """How often something was refused since the last write, by what, why and space ("" for none)."""

    def __init__(self) -> None:
        self._counts = Counter[tuple[str, str, str]]()

    def add(self, what: str, why: str, space: str = "") -> None:
        """Once more."""
        if len(self._counts) >= MOST_KINDS:
            space = ""
        self._counts[what, why, space] += 1

    async def write(self, audit: Audit) -> None:
        """Writes what was counted; it goes on being counted where that fails. Raises Busy, DatabaseUnavailable."""
        if not self._counts:
            return
        counts, self._counts = self._counts, Counter()
        rows = [{"what": what, "why": why, "space": space or None, "n": n} for (what, why, space), n in counts.items()]
        try:
            await audit.count(rows)
        except Exception:
            self._counts.update(counts)
            raise


async def listed(audit: Audit, user: str, space: str, after: int, limit: int) -> bytes:
    """What was done in a space, for an owner of it, as JSON text. Raises SyncdError: space_not_found, forbidden."""
    try:
        rows = await audit.of(user, space, after, limit + 1)
    except Refusal as why:
        raise (NotFound(code="space_not_found") if why.message == "space_not_found" else why.as_code()) from None
    return msgspec.json.encode({"audit": [_shown(row) for row in rows[:limit]], "hasMore": len(rows) > limit})


def _shown(row: Noted | AuditEntry) -> dict[str, Any]:
    said = {
        "auditId": row.audit_no, "at": format_instant(row.at_us), "what": row.what, "actorId": row.actor,
        "userId": row.subject, "detail": Raw(row.detail.encode()), "count": row.times,
    }  # fmt: skip
    return {name: value for name, value in said.items() if value is not None}


def lines(rows: Sequence[AuditEntry]) -> list[bytes]:
    """For an operator: a line of JSON each; what was done in no space has no `spaceId`."""
    return [msgspec.json.encode(_shown(row) | ({} if row.space is None else {"spaceId": row.space})) for row in rows]
