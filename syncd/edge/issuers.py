"""Whose keys sign which users' tokens, where identity providers are known by their issuers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jwt

from syncd.core.errors import Unauthorized
from syncd.core.issuers import Issuer

if TYPE_CHECKING:
    from syncd.edge.providers import PublicKeys


class Issuers:
    """The issuers that a server trusts, each for its own users. `claim`: what names a user in their tokens."""

    def __init__(self, issuers: Sequence[Issuer], claim: str, algorithms: Collection[str]) -> None:
        from syncd.edge.providers import DiscoveredKeys

        self.claim = claim
        self._known: dict[str, tuple[Issuer, PublicKeys]] = {
            one.url: (one, DiscoveredKeys(one.url, algorithms)) for one in issuers
        }
        self._names = tuple(f"{one.name}:" for one in issuers if one.name)

    def of(self, token: bytes) -> tuple[Issuer, PublicKeys] | None:
        """The issuer that a token says it is of, which is to be checked with its keys; None: none that is known."""
        said = jwt.decode(token, options={"verify_signature": False}).get("iss")
        return self._known.get(said) if isinstance(said, str) else None

    def user(self, issuer: Issuer, claims: Mapping[str, Any]) -> Any:
        """The id of the user that an issuer names in a token of its own. Raises Unauthorized."""
        user = claims.get(self.claim)
        if self.claim == "email" and claims.get("email_verified") is not True:
            raise Unauthorized("The token's `email` is not verified.")
        if not isinstance(user, str) or not user:
            raise Unauthorized(f"The token's `{self.claim}` is no user id.")
        return f"{issuer.name}:{user}" if issuer.name else self.plain(user)

    def plain(self, user: Any) -> Any:
        """A user id that no name of an issuer stands before. Raises Unauthorized for one that is another issuer's."""
        if isinstance(user, str) and user.startswith(self._names):
            raise Unauthorized("The token's user is another issuer's.")
        return user
