"""Identity providers as they are: where their keys are, and what their tokens say, served and signed here."""

from __future__ import annotations

import json
import time
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.support.provider import Provider
from tests.support.wire import Json

Private = Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class Signer:
    """A key of an issuer's, with its id."""

    def __init__(self, kid: str = "k1", algorithm: str = "EdDSA") -> None:
        self.kid, self.algorithm = kid, algorithm
        self.key: Private = {
            "EdDSA": Ed25519PrivateKey.generate,
            "RS256": lambda: rsa.generate_private_key(65537, 2048),
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        }[algorithm]()

    def public(self) -> Json:
        """As an issuer publishes it."""
        how = jwt.get_algorithm_by_name(self.algorithm)
        made: Json = json.loads(how.to_jwk(self.key.public_key()))
        return {**made, "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def token(self, issuer: str, **claims: Any) -> str:
        """A token of the next ten minutes."""
        now = int(time.time())
        body = {"iss": issuer, "iat": now, "exp": now + 600, "aud": "syncd", "sub": "alice", **claims}
        said = {name: value for name, value in body.items() if value is not None}
        # Not jwt.encode, which writes no claim that is of another type than it should be.
        text = json.dumps(said).encode()
        return jwt.PyJWS().encode(text, self.key, algorithm=self.algorithm, headers={"kid": self.kid, "typ": "JWT"})


def publish(provider: Provider, signer: Signer, path: str = "", keys: str = "/keys", **more: Any) -> str:
    """Has a provider answer as an issuer at a path does; its name."""
    issuer = f"http://127.0.0.1:{provider.port}{path}"
    base = path.removesuffix("/")
    address = f"http://127.0.0.1:{provider.port}{base}{keys}"
    provider.by_path[f"{base}/.well-known/openid-configuration"] = {"issuer": issuer, "jwks_uri": address, **more}
    provider.by_path[f"{base}{keys}"] = {"keys": [signer.public()]}
    return issuer


class Recorded(NamedTuple):
    """An identity provider: the path of its issuer, where below it its keys are, its algorithm, what its access tokens
    say, and who the user is by the recipe."""

    path: str
    keys: str
    algorithm: str
    claims: Json
    user: str


# Shaped by hand after what the providers document: no token of theirs was captured.
SHAPED = {
    "Keycloak": Recorded(
        "/realms/shop", "/protocol/openid-connect/certs", "RS256",
        {
            "sub": "f3c1a0f2-6b0c-4f5e-9d0e-1c2f8b1f5a11", "typ": "Bearer", "azp": "shop-web",
            "aud": ["syncd", "account"], "scope": "openid email profile", "email_verified": True,
            "preferred_username": "alice",
        },
        "f3c1a0f2-6b0c-4f5e-9d0e-1c2f8b1f5a11",
    ),
    "Auth0": Recorded(
        "/", ".well-known/jwks.json", "RS256",
        {
            "sub": "auth0|65f0c2a1b7e4d90012ab34cd", "azp": "q1w2e3r4t5y6", "scope": "openid profile email",
            "aud": ["https://sync.example.com", "https://shop.eu.auth0.com/userinfo"],
        },
        "auth0|65f0c2a1b7e4d90012ab34cd",
    ),
    "Clerk": Recorded(
        "", "/.well-known/jwks.json", "RS256",
        {
            "sub": "user_2f9XkQm3Yb7", "azp": "https://shop.example.com", "aud": "syncd", "sid": "sess_2f9Xk",
            "nbf": int(time.time()) - 10, "jti": "4b9c",
        },
        "user_2f9XkQm3Yb7",
    ),
    "Supabase": Recorded(
        "/auth/v1", "/.well-known/jwks.json", "ES256",
        {
            "sub": "0b5c2a53-9a3d-4d0b-8f6e-2a8f0f1c7d42", "aud": "authenticated", "role": "authenticated",
            "aal": "aal1",
            "email": "alice@example.com", "session_id": "c7b1", "is_anonymous": False,
            "app_metadata": {"provider": "email"},
        },
        "0b5c2a53-9a3d-4d0b-8f6e-2a8f0f1c7d42",
    ),
}  # fmt: skip
