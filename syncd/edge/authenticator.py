"""From a request to a caller: the token's user, and the memberships where they come from outside."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import structlog

from syncd.core.errors import MembershipsUnavailable, Unauthorized
from syncd.core.ids import SERVICES
from syncd.core.principal import External, Principal
from syncd.edge.answers import Scope
from syncd.edge.concurrency import ConcurrencyLimit, Place
from syncd.edge.rates import RateLimits, Rates
from syncd.edge.requests import Request
from syncd.edge.service_identity import REMEMBERED, ServiceIdentities, is_service_token
from syncd.edge.tokens import Identity
from syncd.store.turns import ACTING

if TYPE_CHECKING:
    from syncd.edge.memberships import MembershipService


log = structlog.get_logger("syncd.memberships")


class IdentitySource(Protocol):
    """Says whose a request or a socket is: the tokens, or the application that syncd is mounted in. `recheck`: after
    how many seconds a live connection is asked for again; 0: never, since what was said has an end of its own."""

    @property
    def recheck(self) -> float: ...

    async def identity(self, authorization: bytes, scope: Scope | None) -> Identity:
        """The user of an `Authorization` header, or of a scope. Raises SyncdError."""


class Authenticator:
    """Knows who says whose a request is and, depending on the settings, where memberships come from; `rates`: how fast
    each may ask; `most`: spaces in a list from outside; `limit`: of the requests in work; `on_refused`: is told the
    code for which a token is not taken; `services`: knows the tokens of services."""

    def __init__(
        self, identities: IdentitySource, *, claims: bool = False, service: MembershipService | None = None,
        rates: Rates | None = None, most: int = 10_000, limit: ConcurrencyLimit | None = None,
        on_refused: Callable[[str], None] = lambda why: None, services: ServiceIdentities | None = None,
    ) -> None:  # fmt: skip
        self._services = services
        self._identities, self._claims, self._service, self._most = identities, claims, service, most
        self.rates, self.limit, self._on_refused = rates or Rates(RateLimits()), limit or ConcurrencyLimit(), on_refused

    @property
    def managed_elsewhere(self) -> bool:
        """Whether memberships come from outside, so that the space endpoints change none."""
        return self._claims or self._service is not None

    async def caller(self, request: Request) -> Principal:
        """The user that sends a request, which is in work and whose user is acting from here on. Raises Unauthorized,
        KeysUnavailable, MembershipsUnavailable, TooMany, Overloaded."""
        caller = (await self.authenticate(request.headers.get(b"authorization", b""), request.scope))[0]
        ACTING.set(caller.user)
        request.begin(Place(self.limit, caller.user))
        return caller

    async def authenticate(self, authorization: bytes, scope: Scope | None = None) -> tuple[Principal, float]:
        """The user that an `Authorization` header or a scope names, and until when (seconds since 1970). It is a
        request of that user's. Raises what `caller` raises."""
        identity = await self._identity(authorization, scope)
        self.rates.request(identity.user)
        if self._service is not None:
            return Principal(identity.user, await self.ask(identity.user), identity.service), identity.expires
        return self._principal(identity), identity.expires

    def recheck(self, authorization: bytes) -> float:
        """After how many seconds the user of a live connection with this header is asked for again, 0: never."""
        return REMEMBERED if self._is_service(authorization) else self._identities.recheck

    def _is_service(self, authorization: bytes) -> bool:
        return self._services is not None and is_service_token(authorization)

    async def authenticate_again(self, authorization: bytes, scope: Scope | None) -> Principal:
        """The user of a live connection, as is said by now. `external` is None where a service is asked for it. Raises
        what `caller` raises."""
        identity = await self._identity(authorization, scope)
        if self._service is not None:
            return Principal(identity.user, service=identity.service)
        return self._principal(identity)

    async def _identity(self, authorization: bytes, scope: Scope | None) -> Identity:
        try:
            if self._services is not None and is_service_token(authorization):
                return await self._services.identity(authorization)
            return await self._identities.identity(authorization, scope)
        except Unauthorized as why:
            self._on_refused(why.code)
            raise

    def _principal(self, identity: Identity) -> Principal:
        if not self._claims or identity.service is not None:
            return Principal(identity.user, service=identity.service)
        if identity.spaces is None:
            raise Unauthorized("The token needs a claim `spaces`: [{id, role}].")
        return Principal(identity.user, External(self._bounded(identity.spaces), int(identity.issued * 1_000_000)))

    @property
    def asks(self) -> bool:
        """Whether memberships come from a service, which has to be asked again for as long as a user is connected."""
        return self._service is not None

    async def ask(self, user: str) -> External:
        """What the membership service says now. Raises MembershipsUnavailable."""
        assert self._service is not None
        asked = int(time.time() * 1_000_000)
        if user.startswith(SERVICES):  # whom nobody outside knows: what the table says of it counts
            return External([], asked)
        return External(self._bounded(await self._service.spaces(user)), asked)

    def _bounded(self, spaces: list[dict[str, str]]) -> list[dict[str, str]]:
        """A list that is too long is refused whole: cut, it would look as if the user had left spaces."""
        if len(spaces) > self._most:
            remedy = "raise SYNCD_MAX_SPACES_LISTED"
            log.warning("a list of too many spaces", spaces=len(spaces), most=self._most, remedy=remedy)
            raise MembershipsUnavailable(code="too_many_spaces")
        return spaces

    async def close(self) -> None:
        if self._service is not None:
            await self._service.close()
