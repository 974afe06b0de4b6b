"""From a request to a caller: the token's user, and the memberships where they come from outside."""

from __future__ import annotations

import time

from syncd.core.errors import Unauthorized
from syncd.edge.requests import Request
from syncd.edge.tokens import MembershipService, Tokens
from syncd.service.caller import Caller, External


class Callers:
    """Knows tokens and, depending on the settings, where memberships come from."""

    def __init__(self, tokens: Tokens, *, claims: bool = False, service: MembershipService | None = None) -> None:
        self._tokens, self._claims, self._service = tokens, claims, service

    @property
    def managed_elsewhere(self) -> bool:
        return self._claims or self._service is not None

    async def caller(self, request: Request) -> Caller:
        """Raises Unauthorized, MembershipsUnavailable."""
        identity = await self._tokens.identity(request.headers.get(b"authorization", b""))
        if self._service is not None:
            asked = int(time.time() * 1_000_000)
            return Caller(identity.user, External(await self._service.spaces(identity.user), asked))
        if not self._claims:
            return Caller(identity.user)
        if identity.spaces is None:
            raise Unauthorized("The token needs a claim `spaces`: [{id, role}].")
        return Caller(identity.user, External(identity.spaces, int(identity.issued * 1_000_000)))

    async def close(self) -> None:
        if self._service is not None:
            await self._service.close()
