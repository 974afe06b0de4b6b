"""The audit in the database: notes and counts in, what was noted out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import structlog

from syncd.core.errors import Busy, DatabaseUnavailable
from syncd.postgres.contexts import ActingUser
from syncd.postgres.statements import statement
from syncd.store.pool import Pool

log = structlog.get_logger("syncd.audit")


class Noted(NamedTuple):
    """What was done in a space: `actor` by whom (None: an operator or the server), `subject` to whom; `detail` is JSON
    text; `times`: how often, of what is counted by the hour."""

    audit_no: int
    at_us: int
    what: str
    actor: str | None
    subject: str | None
    detail: str
    times: int


class AuditEntry(NamedTuple):
    """The same as an operator sees it."""

    audit_no: int
    at_us: int
    what: str
    space: str | None
    actor: str | None
    subject: str | None
    detail: str
    times: int


class Audit:
    """Each call is one transaction. They raise Refusal (SY010), Busy, DatabaseUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def say(self, user: str, what: str, space: str | None, detail: Mapping[str, Any]) -> None:
        """Notes what this server did for a user. It was done: where it cannot be noted, the log says so."""
        try:
            await self._pool.fetch("audit_say", ActingUser(user), what, space, msgspec.json.encode(detail).decode())
        except (Busy, DatabaseUnavailable) as why:
            log.warning("not in the audit", what=what, code=why.code)

    async def count(self, counts: list[dict[str, Any]]) -> None:
        """Adds to what is counted in this hour: [{"what", "why", "space", "n"}]."""
        await self._pool.fetch("audit_count", msgspec.json.encode(counts).decode())

    async def of(self, user: str, space: str, after: int, most: int) -> list[Noted]:
        """What was done in a space after a number, for one of its owners."""
        return [Noted(*row) for row in await self._pool.fetch("audit_of", ActingUser(user), space, after, most)]


class AuditOperator:
    """Everybody's, for a connection that row security does not bind."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def note(self, what: str, space: str | None, user: str | None, detail: Mapping[str, Any]) -> None:
        """Notes what an operator did, in a space or to a user."""
        await self._connection.execute(statement("audit_note"), what, space, user, msgspec.json.encode(detail).decode())

    async def list(self, after: int, space: str | None, user: str | None, what: str | None) -> list[AuditEntry]:
        """The next that was noted after a number, at most 1,000."""
        return [
            AuditEntry(*row) for row in await self._connection.fetch(statement("audit_list"), after, space, user, what)
        ]
