"""Tokens of services: known to the database, which is asked whose one is, so that one which was revoked ends at once.

A token of a user says itself whose it is and when it ends. One of a service lives for as long as somebody wants, so it
is no more than a name and a secret, and the database says what it is good for.
"""

from __future__ import annotations

import hashlib
import math
import time
from typing import Protocol

import structlog

from syncd.core.errors import TooMany, Unauthorized
from syncd.edge.admission import TokenBucket
from syncd.edge.tokens import Identity

log = structlog.get_logger("syncd.tokens")

PREFIX = b"syncds_"
MAX_SERVICE_TOKEN = 512
# Seconds that an answer of the database counts, and after which a live connection's token is looked up again.
REMEMBERED = 2.0
MAX_REMEMBERED = 10_000
# So many a second, and for so many seconds at once, are looked up of tokens that were never good here.
UNKNOWN_A_SECOND, UNKNOWN_SECONDS = 20.0, 5.0


class GrantedService(Protocol):
    """What the database says of a token."""

    @property
    def service(self) -> str:
        """The service's name."""

    @property
    def user_id(self) -> str:
        """The user that it acts for."""

    @property
    def expires(self) -> float | None:
        """When that ends, in seconds since 1970; None: it does not."""


class TokenGrants(Protocol):
    """Where tokens are looked up, by their SHA-256."""

    async def grant(self, digest: bytes) -> GrantedService | None: ...


def is_service_token(authorization: bytes) -> bool:
    """Whether an `Authorization` header has a token of a service."""
    return authorization[:7].lower() == b"bearer " and authorization[7:].lstrip().startswith(PREFIX)


class ServiceIdentities:
    """Knows the tokens of services. What the database said counts for two seconds, a refusal too: who floods the server
    with tokens that are none does not flood the database, whether it is one of them or always another."""

    def __init__(self, grants: TokenGrants) -> None:
        self._grants = grants
        self._known: dict[bytes, tuple[float, Identity | None]] = {}
        self._good = set[bytes]()
        self._unknown = TokenBucket(UNKNOWN_A_SECOND, UNKNOWN_SECONDS)

    async def identity(self, authorization: bytes) -> Identity:
        """The user for whom a service acts. Raises Unauthorized, TooMany, Busy, DatabaseUnavailable."""
        token = authorization[7:].strip()
        if len(token) > MAX_SERVICE_TOKEN:
            raise Unauthorized
        digest = hashlib.sha256(token).digest()
        known = self._known.get(digest)
        if known is None or known[0] < time.monotonic():
            known = await self._look(digest)
        identity = known[1]
        if identity is None or identity.expires < time.time():
            log.info("token refused", reason="no service has it")
            raise Unauthorized("No service has this token: it was revoked, has expired, or was never made.")
        return identity

    async def _look(self, digest: bytes) -> tuple[float, Identity | None]:
        if digest not in self._good and not self._unknown.take():
            raise TooMany("Too many tokens that no service has: this one was not looked up.")
        asked = time.monotonic()
        found = await self._grants.grant(digest)
        identity = None
        if found is not None:
            expires = math.inf if found.expires is None else found.expires
            identity = Identity(found.user_id, expires, 0.0, None, found.service)
            self._good.add(digest)
        else:
            self._good.discard(digest)
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        known = self._known[digest] = asked + REMEMBERED, identity
        return known
