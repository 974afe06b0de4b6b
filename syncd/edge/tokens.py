"""Bearer tokens: who the caller is. A token needs `sub` and `exp`; what it claims is checked before it is believed."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx
import jwt
import structlog

from syncd.core.errors import KeysUnavailable, MembershipsUnavailable, Unauthorized
from syncd.core.ids import fault_in_id

log = structlog.get_logger("syncd.tokens")

ASYMMETRIC = ["EdDSA", "ES256", "RS256"]
REMEMBERED = 60.0
MAX_REMEMBERED = 10_000
MAX_TOKEN = 16 * 1024
LEEWAY = 5
JWKS_PAUSE = 10.0
JWKS_RETRY = 2.0
JWKS_FRESH = 600.0
SERVICE_TIMEOUT = 5.0
# What PyJWT makes of JSON that is no key set.
NO_KEYS = (jwt.PyJWTError, AttributeError, KeyError, TypeError)
ROLES = ("owner", "writer", "reader")


class Identity(NamedTuple):
    """What a token says: the user, when it ends and was made (seconds), and its spaces where it has any."""

    user: str
    expires: float
    issued: float
    spaces: list[dict[str, str]] | None


class PublicKeys:
    """An identity provider's keys, by key id. An unknown id causes a fetch, but not one each."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str | None, Any] = {}
        self._tried = self._fetched = -math.inf
        self._lock = asyncio.Lock()

    async def key(self, kid: str | None) -> Any:
        """The key for an id. Raises Unauthorized for one the provider does not have, KeysUnavailable."""
        if self._due(kid):
            async with self._lock:
                if self._due(kid):
                    await self._fetch()
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        if kid not in self._keys:
            # While the provider is away nobody knows whether it has such a key.
            raise Unauthorized if self._fetched == self._tried else KeysUnavailable
        return self._keys[kid]

    def _due(self, kid: str | None) -> bool:
        now = time.monotonic()
        if self._fetched != self._tried:
            return now - self._tried > JWKS_RETRY
        return now - self._fetched > (JWKS_FRESH if kid in self._keys else JWKS_PAUSE)

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(SERVICE_TIMEOUT), httpx.AsyncClient(timeout=SERVICE_TIMEOUT) as client:
                answer = await client.get(self._url)
                answer.raise_for_status()
                keys = jwt.PyJWKSet.from_dict(answer.json()).keys
        except (httpx.HTTPError, TimeoutError, RecursionError, ValueError, *NO_KEYS) as why:
            log.warning("keys unavailable", error=type(why).__name__)
            self._tried = time.monotonic()
            return
        self._keys = {key.key_id: key for key in keys if key.algorithm_name in ASYMMETRIC}
        self._tried = self._fetched = time.monotonic()


class Tokens:
    """Verifies bearer tokens by secret, public key or JWKS; a verified one is remembered for a minute at most."""

    def __init__(
        self,
        *,
        secret: str | None = None,
        public_key: str | None = None,
        jwks_url: str | None = None,
        issuer: str | None = None,
        audience: str | None = None,
    ) -> None:
        self._secret, self._public_key = secret, public_key
        self._keys = PublicKeys(jwks_url) if jwks_url else None
        self._issuer, self._audience = issuer, audience
        self._known: dict[bytes, tuple[float, Identity]] = {}

    async def identity(self, authorization: bytes) -> Identity:
        """Who sends this `Authorization` header. Raises Unauthorized, KeysUnavailable."""
        digest = hashlib.blake2b(authorization, digest_size=16).digest()
        known = self._known.get(digest)
        if known is not None and known[0] > time.monotonic() and known[1].expires + LEEWAY > time.time():
            return known[1]
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not token or len(token) > MAX_TOKEN:
            raise Unauthorized
        identity = await self._verify(token.strip())
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        self._known[digest] = (time.monotonic() + REMEMBERED, identity)
        return identity

    async def _verify(self, token: bytes) -> Identity:
        try:
            header = jwt.get_unverified_header(token)
            key, algorithms = await self._key_for(header)
            claims = jwt.decode(
                token,
                key,
                algorithms=algorithms,
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY,
                options={"require": ["exp", "sub"], "verify_iat": True},
            )
            return _identity(claims)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError, OverflowError):
            raise Unauthorized from None

    async def _key_for(self, header: Mapping[str, Any]) -> tuple[Any, list[str]]:
        """The key and the algorithms it may be used with: a public key never serves as an HMAC secret."""
        algorithm = header.get("alg")
        if algorithm == "HS256" and self._secret:
            return self._secret, ["HS256"]
        if algorithm in ASYMMETRIC and self._public_key:
            return self._public_key, ASYMMETRIC
        if algorithm in ASYMMETRIC and self._keys:
            kid = header.get("kid")
            return await self._keys.key(kid if isinstance(kid, str) else None), ASYMMETRIC
        raise Unauthorized


def _identity(claims: Mapping[str, Any]) -> Identity:
    user = claims["sub"]
    if not isinstance(user, str) or fault_in_id(user):
        raise Unauthorized("The token's `sub` is no user id.")
    issued = claims.get("iat")
    if not isinstance(issued, int | float):
        issued = 0.0
    spaces = spaces_in(claims["spaces"]) if "spaces" in claims else None
    return Identity(user, float(claims["exp"]), float(issued), spaces)


def spaces_in(given: Any) -> list[dict[str, str]] | None:
    """A membership list, sorted by space, or None where it is none: [{"id", "role"}], a space once."""
    if not isinstance(given, list):
        return None
    found: dict[str, str] = {}
    for entry in given:
        if not isinstance(entry, dict):
            return None
        space, role = entry.get("id"), entry.get("role")
        if not isinstance(space, str) or fault_in_id(space) or role not in ROLES or space in found:
            return None
        found[space] = str(role)
    return [{"id": space, "role": found[space]} for space in sorted(found)]


class MembershipService:
    """Asks an HTTP service who is in which space, for every request: nothing is kept past a removal."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = httpx.AsyncClient(timeout=SERVICE_TIMEOUT)

    async def spaces(self, user: str) -> list[dict[str, str]]:
        """The user's spaces. Raises MembershipsUnavailable for anything that is not a list of them."""
        try:
            # For the whole answer: httpx's own limit is for each piece of it.
            async with asyncio.timeout(SERVICE_TIMEOUT):
                answer = await self._client.get(self._url, params={"userId": user})
            answer.raise_for_status()
            given = answer.json()
        except (httpx.HTTPError, TimeoutError, RecursionError, ValueError) as why:
            log.warning("memberships unavailable", error=type(why).__name__)
            raise MembershipsUnavailable from None
        spaces = spaces_in(given.get("spaces") if isinstance(given, dict) else given)
        if spaces is None:
            log.warning("memberships unavailable", error="not a list of spaces")
            raise MembershipsUnavailable
        return spaces

    async def close(self) -> None:
        await self._client.aclose()
