"""The audit: what was done, and how often something was refused, shown to a space's owners and to operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from syncd.core.clock import format_instant
from syncd.core.errors import NotFound
from syncd.store.audit import Audit, AuditEntry, Noted
from syncd.store.pool import Refusal


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
