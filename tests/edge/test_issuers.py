"""Sign-in by issuers: each signs for its own users, is asked now and then, and never for long."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from syncd.core.errors import KeysUnavailable, Unauthorized
from syncd.core.issuers import Issuer, issuers_of
from syncd.edge import providers
from syncd.edge.tokens import Identity, Tokens
from syncd.settings import Settings, SettingsError
from tests.support.provider import Provider
from tests.support.sign_in import Signer, publish

SECRET = "a secret of more than thirty-two bytes"


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with Provider({}) as running:
        yield running


def trusting(*issuers: str, **more: Any) -> Tokens:
    return Tokens(issuers=issuers_of(issuers), audience="syncd", **more)


async def who(tokens: Tokens, token: str) -> Identity:
    return await tokens.identity(b"Bearer " + token.encode())


async def refused(tokens: Tokens, token: str) -> str | None:
    with pytest.raises(Unauthorized) as told:
        await who(tokens, token)
    return told.value.reason


async def test_its_keys_are_found_and_asked_for_once(provider: Provider) -> None:
    key = Signer()
    issuer = publish(provider, key, "/realm")
    tokens = trusting(issuer)
    for n in range(20):
        assert (await who(tokens, key.token(issuer, sub=f"user{n}"))).user == f"user{n}"
    assert provider.asked == 2
    for _ in range(20):
        assert await refused(tokens, Signer("another").token(issuer)) == "unknown_key"
    assert provider.asked == 2


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"aud": "another"}, "wrong_audience"),
        ({"aud": None}, "wrong_audience"),
        ({"iss": "https://another.example"}, "wrong_issuer"),
        ({"iss": None}, "wrong_issuer"),
        ({"iss": ["a"]}, "wrong_issuer"),
        ({"exp": 1}, "expired"),
        ({"exp": None}, None),
        ({"sub": None}, None),
        ({"sub": 7}, None),
        ({"sub": ""}, None),
        ({"sub": "_service:x"}, None),
        ({"sub": "_erased:x"}, None),
        ({"sub": "a\u0000b"}, None),
    ],
)
async def test_what_is_not_said_as_it_has_to_be_is_refused(
    provider: Provider, claims: dict[str, Any], reason: str | None
) -> None:
    key = Signer()
    issuer = publish(provider, key)
    assert await refused(trusting(issuer), key.token(issuer, **claims)) == reason


async def test_an_issuer_never_signs_for_another_s_users(provider: Provider) -> None:
    """By its key under the other's name, by its own name for the other's users, and by a key id that both have."""
    ours, theirs = Signer("k1"), Signer("k1")
    a, b = publish(provider, ours, "/a"), publish(provider, theirs, "/b")
    tokens = trusting(a, f"staff={b}")
    assert (await who(tokens, ours.token(a))).user == "alice"
    assert (await who(tokens, theirs.token(b))).user == "staff:alice"
    assert await refused(tokens, ours.token(b)) == "bad_signature"
    assert await refused(tokens, theirs.token(a)) == "bad_signature"
    assert await refused(tokens, ours.token(a, sub="staff:alice")) is None
    assert (await who(tokens, theirs.token(b, sub="staff:alice"))).user == "staff:staff:alice"


async def test_beside_other_keys_an_issuer_has_its_own_users(provider: Provider) -> None:
    key, own = Signer(), Signer("own")
    issuer = publish(provider, key, "/a")
    provider.by_path["/own"] = {"keys": [own.public()]}
    tokens = trusting(f"staff={issuer}", jwks_url=f"http://127.0.0.1:{provider.port}/own", secret=SECRET)
    assert (await who(tokens, key.token(issuer))).user == "staff:alice"
    assert (await who(tokens, own.token("whoever"))).user == "alice"
    assert await refused(tokens, own.token("whoever", sub="staff:alice")) is None
    assert await refused(tokens, own.token(issuer)) == "unknown_key"


async def test_the_claim_that_names_the_user(provider: Provider) -> None:
    key = Signer()
    issuer = publish(provider, key)
    tokens = trusting(issuer, user_claim="preferred_username")
    assert (await who(tokens, key.token(issuer, preferred_username="al"))).user == "al"
    assert await refused(tokens, key.token(issuer)) is None
    mail = trusting(issuer, user_claim="email")
    assert (await who(mail, key.token(issuer, email="a@example.com", email_verified=True))).user == "a@example.com"
    assert await refused(mail, key.token(issuer, email="a@example.com")) is None
    assert await refused(mail, key.token(issuer, email="a@example.com", email_verified="true")) is None


def large(provider: Provider) -> None:
    provider.by_path["/keys"] = b'{"keys": [' + b" " * providers.LARGEST + b"]}"


def packed(provider: Provider) -> None:
    provider.headers = "Content-Encoding: gzip\r\n"
    for path, said in list(provider.by_path.items()):
        provider.by_path[path] = gzip.compress(json.dumps(said).encode())


def another(provider: Provider) -> None:
    provider.by_path["/.well-known/openid-configuration"]["issuer"] = "https://another.example"


def elsewhere(provider: Provider) -> None:
    provider.by_path["/.well-known/openid-configuration"]["jwks_uri"] = "http://keys.example/keys"


def moved(provider: Provider) -> None:
    provider.status, provider.headers = 302, "Location: /elsewhere\r\n"


def nothing(provider: Provider) -> None:
    provider.by_path["/.well-known/openid-configuration"] = []


def deep(provider: Provider) -> None:
    provider.by_path["/keys"] = b"[" * 100_000


def broken(provider: Provider) -> None:
    provider.by_path["/.well-known/openid-configuration"]["jwks_uri"] = "https://[::1"


@pytest.mark.parametrize("fault", [large, packed, another, elsewhere, moved, nothing, deep, broken])
async def test_an_issuer_that_answers_wrongly_signs_for_nobody(provider: Provider, fault: Any) -> None:
    key = Signer()
    issuer = publish(provider, key)
    fault(provider)
    tokens = trusting(issuer)
    with pytest.raises(KeysUnavailable):
        await who(tokens, key.token(issuer))
    asked = provider.asked
    assert asked <= 2
    # Not again for each token.
    for n in range(20):
        with pytest.raises(KeysUnavailable):
            await who(tokens, key.token(issuer, sub=f"u{n}"))
    assert provider.asked == asked


@pytest.mark.parametrize("how", ["silent", "dribble"])
async def test_an_issuer_that_does_not_answer_is_waited_for_no_longer(
    provider: Provider, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "SERVICE_TIMEOUT", 0.2)
    key = Signer()
    issuer = publish(provider, key)
    setattr(provider, how, True)
    tokens = trusting(issuer)
    async with asyncio.timeout(20):
        with pytest.raises(KeysUnavailable):
            await who(tokens, key.token(issuer))


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (["https://a.example"], [Issuer("https://a.example", "")]),
        (
            ["https://a.example/", "b=https://b.example/x"],
            [Issuer("https://a.example/", ""), Issuer("https://b.example/x", "b")],
        ),
        (["http://127.0.0.1:8080"], [Issuer("http://127.0.0.1:8080", "")]),
        (["http://localhost/realms/x"], [Issuer("http://localhost/realms/x", "")]),
    ],
)
def test_issuers_are_written_so(said: list[str], found: list[Issuer]) -> None:
    assert issuers_of(said) == found


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"oidc_issuer": ("https://a.example",)}, "SYNCD_JWT_AUDIENCE"),
        ({"oidc_issuer": ("a.example",), "jwt_audience": "x"}, "is no issuer"),
        ({"oidc_issuer": ("http://a.example",), "jwt_audience": "x"}, "is not https"),
        ({"oidc_issuer": ("Staff=https://a.example",), "jwt_audience": "x"}, "is no issuer"),
        ({"oidc_issuer": ("https://a.example", "https://b.example"), "jwt_audience": "x"}, "the same user"),
        ({"oidc_issuer": ("a=https://a.example", "a=https://b.example"), "jwt_audience": "x"}, "the same user"),
        ({"oidc_issuer": ("https://a.example", "b=https://a.example"), "jwt_audience": "x"}, "named twice"),
        ({"oidc_issuer": ("https://a.example",), "jwt_audience": "x", "jwks_url": "https://k"}, "the same user"),
        (
            {"oidc_issuer": ("https://a.example", "b=https://b.example"), "jwt_audience": "x", "memberships": "token"},
            "for one issuer",
        ),
    ],
)
def test_settings_by_which_one_could_sign_for_another_s_users_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Settings.load({}, **{name: ",".join(v) if isinstance(v, tuple) else v for name, v in given.items()})
