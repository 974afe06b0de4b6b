"""Tokens of services in the database: whose one is, and what an operator does with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from syncd.postgres.statements import statement
from syncd.store.pool import Pool


class ServiceGrant(NamedTuple):
    """Whose a token is: the service, the user who acts, and until when (seconds since 1970; None: for ever)."""

    service: str
    user_id: str
    expires: float | None


class ListedToken(NamedTuple):
    """A token as an operator sees it; times are seconds since 1970. `spaces`: "id:role", of the service's own user."""

    ordinal: int
    service: str
    user_id: str
    made: float
    expires: float | None
    revoked: float | None
    spaces: list[str]


class ServiceTokens:
    """Looks tokens up, as a server. Raises Busy, DatabaseUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def grant(self, digest: bytes) -> ServiceGrant | None:
        """Whose a token with this SHA-256 is."""
        rows = await self._pool.fetch("service_token", digest)
        return ServiceGrant(*rows[0]) if rows else None


class ServiceOperator:
    """Makes, lists and ends them, on an operator's connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def make(
        self, service: str, user: str | None, digest: bytes, spaces: Sequence[str], role: str, expires: float | None
    ) -> int:
        """A new token's number. Raises asyncpg's error with SQLSTATE SY010 where a space is not there."""
        arguments = (service, user, digest, list(spaces), role, expires)
        return int(await self._connection.fetchval(statement("service_make"), *arguments))

    async def list(self) -> list[ListedToken]:
        """All of them, the oldest first."""
        return [ListedToken(*row) for row in await self._connection.fetch(statement("service_list"))]

    async def revoke(self, ordinal: int) -> str | None:
        """Ends one; the name of its service, None where none of this number lives."""
        found: str | None = await self._connection.fetchval(statement("service_revoke"), ordinal)
        return found
