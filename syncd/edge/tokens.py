"""Bearer tokens: who the caller is. A token needs `sub` and `exp`; what it claims is checked before it is believed."""

from __future__ import annotations

import binascii
import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jwt
import structlog

from syncd.core.errors import Unauthorized
from syncd.core.ids import SERVICES, fault_in_id, fault_in_user
from syncd.core.issuers import Issuer

if TYPE_CHECKING:
    from syncd.edge.issuers import Issuers
    from syncd.edge.providers import PublicKeys

log = structlog.get_logger("syncd.tokens")

ASYMMETRIC = ["EdDSA", "ES256", "RS256"]
REMEMBERED = 60.0
MAX_REMEMBERED = 10_000
MAX_TOKEN = 16 * 1024
LEEWAY = 5
_STANDARD = bytes.maketrans(b"-_", b"+/")
ROLES = ("owner", "writer", "reader")


class Identity(NamedTuple):
    """What a token says: the user, when it ends and was made (seconds), its spaces where it has any, and of a service's
    which one."""

    user: str
    expires: float
    issued: float
    spaces: list[dict[str, str]] | None
    service: str | None = None


class Tokens:
    """Verifies bearer tokens by secret, public key or JWKS; a verified one is remembered for a minute at most."""

    # They say themselves when they end.
    recheck = 0.0

    def __init__(
        self,
        *,
        secret: str | None = None,
        public_key: str | None = None,
        jwks_url: str | None = None,
        issuer: str | None = None,
        audience: str | None = None,
        issuers: Sequence[Issuer] = (),
        user_claim: str = "sub",
    ) -> None:
        self._secret, self._public_key = secret, public_key
        self._keys = _public_keys(jwks_url) if jwks_url else None
        self._issuer, self._audience = issuer, audience
        self._issuers = _issuers(issuers, user_claim) if issuers else None
        self._known: dict[bytes, tuple[float, Identity]] = {}

    async def identity(self, authorization: bytes, scope: Any = None) -> Identity:
        """The user of this `Authorization` header; `scope` says nothing more. Raises Unauthorized, KeysUnavailable."""
        digest = hashlib.blake2b(_spelled(authorization), digest_size=16).digest()
        known = self._known.get(digest)
        if known is not None and known[0] > time.monotonic() and known[1].expires + LEEWAY > time.time():
            return known[1]
        try:
            identity = await self._identity(authorization)
        except Unauthorized as why:
            log.info("token refused", reason=why.reason or why.code)
            raise
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        self._known[digest] = (time.monotonic() + REMEMBERED, identity)
        return identity

    async def _identity(self, authorization: bytes) -> Identity:
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not token:
            raise Unauthorized
        if len(token) > MAX_TOKEN:
            raise _too_large(token)
        return await self._verify(token.strip())

    async def _verify(self, token: bytes) -> Identity:
        try:
            header = jwt.get_unverified_header(token)
            if self._issuers is not None and header.get("alg") in ASYMMETRIC and (found := self._issuers.of(token)):
                issuer, keys = found
                claims = self._claims(token, await keys.key(_key_id(header)), ASYMMETRIC, issuer.url, ["exp"])
                return _identity(claims, self._issuers.user(issuer, claims))
            key, algorithms = await self._key_for(header)
            claims = self._claims(token, key, algorithms, self._issuer, ["exp", "sub"])
            user = claims["sub"]
            if self._issuers is not None and algorithms is ASYMMETRIC:  # the secret is this server's own
                user = self._issuers.plain(user)
            return _identity(claims, user)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError, OverflowError) as why:
            reason = _reason(why)
            raise Unauthorized.because(reason) if reason else Unauthorized from None

    def _claims(
        self, token: bytes, key: Any, algorithms: list[str], issuer: str | None, required: list[str]
    ) -> dict[str, Any]:
        """What a token says, whose signature, times, audience and issuer are right. Raises jwt.PyJWTError."""
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=algorithms,
            issuer=issuer,
            audience=self._audience,
            leeway=LEEWAY,
            options={"require": required, "verify_iat": True, "verify_aud": self._audience is not None},
        )
        return claims

    async def _key_for(self, header: Mapping[str, Any]) -> tuple[Any, list[str]]:
        """The key and the algorithms it may be used with: a public key never serves as an HMAC secret."""
        algorithm = header.get("alg")
        if algorithm == "HS256" and self._secret:
            return self._secret, ["HS256"]
        if algorithm in ASYMMETRIC and self._public_key:
            return self._public_key, ASYMMETRIC
        if algorithm in ASYMMETRIC and self._keys:
            return await self._keys.key(_key_id(header)), ASYMMETRIC
        raise Unauthorized.because("wrong_issuer" if self._issuers and algorithm in ASYMMETRIC else "unknown_key")


def _key_id(header: Mapping[str, Any]) -> str | None:
    kid = header.get("kid")
    return kid if isinstance(kid, str) else None


def _spelled(authorization: bytes) -> bytes:
    """The same for each way to write one token: who has one must not fill up what is remembered. A signature may be
    written with what its decoder passes over."""
    scheme, _, token = authorization.partition(b" ")
    signed, _, signature = token.strip().rpartition(b".")
    try:
        signature = binascii.a2b_base64(signature.translate(_STANDARD) + b"==")
    except ValueError:
        return authorization
    return b"%b %d %b%b" % (scheme.lower(), len(signature), signature, signed)


def _reason(why: Exception) -> str | None:
    """Out of UNBELIEVED; None where it is hardly a token. Claims are looked at when the signature was found good."""
    match why:
        case jwt.ExpiredSignatureError():
            return "expired"
        case jwt.ImmatureSignatureError():
            return "not_yet"
        case jwt.InvalidAudienceError():
            return "wrong_audience"
        case jwt.InvalidIssuerError():
            return "wrong_issuer"
        case jwt.MissingRequiredClaimError():
            return {"aud": "wrong_audience", "iss": "wrong_issuer"}.get(why.claim)
        case jwt.InvalidSignatureError():
            return "bad_signature"
    return None


def _too_large(token: bytes) -> Unauthorized:
    """Said without reading it: it may be anything, and is only called a token where it has a token's three parts."""
    if token.count(b".") != 2:
        return Unauthorized()
    return Unauthorized(
        f"The token has {len(token)} bytes, at most {MAX_TOKEN} are taken. A membership service can list more spaces.",
        code="token_too_large",
    )


def _identity(claims: Mapping[str, Any], user: Any) -> Identity:
    if not isinstance(user, str) or fault_in_user(user) or user.startswith(SERVICES):
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


def _public_keys(url: str) -> PublicKeys:
    from syncd.edge.providers import PublicKeys

    return PublicKeys(url, ASYMMETRIC)


def _issuers(issuers: Sequence[Issuer], claim: str) -> Issuers:
    from syncd.edge.issuers import Issuers

    return Issuers(issuers, claim, ASYMMETRIC)
