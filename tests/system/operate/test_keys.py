"""Tokens of an identity provider: rotated keys, unknown keys, and a provider that is away."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from syncd.core.errors import KeysUnavailable
from syncd.edge import providers
from syncd.edge.providers import PublicKeys
from syncd.edge.tokens import ASYMMETRIC
from tests.support.device import Device
from tests.support.harness import Server
from tests.support.provider import Provider
from tests.system.sync.test_revocation import started

pytestmark = pytest.mark.waits


class Key:
    """A signing key with an id."""

    def __init__(self, kid: str) -> None:
        self.kid, self._private = kid, Ed25519PrivateKey.generate()

    def public(self) -> dict[str, Any]:
        """As the provider publishes it."""
        made: dict[str, Any] = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(self._private.public_key()))
        return {**made, "kid": self.kid, "alg": "EdDSA", "use": "sig"}

    def token(self, user: str, **claims: Any) -> str:
        now = int(time.time())
        body = {"sub": user, "iat": now, "exp": now + 600, **claims}
        return jwt.encode(body, self._private, algorithm="EdDSA", headers={"kid": self.kid})


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with Provider({"keys": []}) as running:
        yield running


@pytest.fixture
async def trusting(folder: Path, provider: Provider) -> AsyncIterator[Server]:
    """A server that trusts the provider alone."""
    async with started(folder, jwt_secret="", jwks_url=provider.url) as server:
        yield server


async def status(server: Server, token: str) -> int:
    """What a pull with a token is answered."""
    async with Device(server, "whoever", token=token) as device:
        return (await device.ask()).status_code


async def test_a_rotated_key_is_fetched_and_the_retired_one_no_longer_counts(
    trusting: Server, provider: Provider
) -> None:
    old, new = Key("old"), Key("new")
    provider.body = {"keys": [old.public()]}
    assert await status(trusting, old.token("ann")) == 200
    assert await status(trusting, new.token("ann")) == 401
    provider.body = {"keys": [new.public()]}
    deadline = time.monotonic() + 60
    while await status(trusting, new.token("ann")) != 200:
        assert time.monotonic() < deadline, "the new key was never fetched"
        await asyncio.sleep(0.5)
    assert await status(trusting, old.token("bob")) == 401
    assert provider.asked <= 3


async def test_unknown_key_ids_do_not_cause_a_fetch_each(trusting: Server, provider: Provider) -> None:
    known = Key("known")
    provider.body = {"keys": [known.public()]}
    assert await status(trusting, known.token("ann")) == 200
    asked = provider.asked
    strangers = [Key(f"stranger-{n}").token("ann") for n in range(30)]
    assert await asyncio.gather(*(status(trusting, token) for token in strangers)) == [401] * 30
    assert await status(trusting, Key("known").token("ann")) == 401
    assert provider.asked - asked <= 2


async def test_a_provider_that_is_down_is_503_until_it_is_back_and_known_keys_go_on(
    trusting: Server, provider: Provider
) -> None:
    first, second = Key("first"), Key("second")
    await provider.down()
    assert await status(trusting, first.token("ann")) == 503
    provider.body = {"keys": [first.public()]}
    await provider.up()
    deadline = time.monotonic() + 60
    while await status(trusting, first.token("ann")) != 200:
        assert time.monotonic() < deadline, "it was never asked again"
        await asyncio.sleep(0.3)
    await provider.down()
    # Who is signed by a key that may be new cannot be told that the token is bad.
    deadline = time.monotonic() + 60
    while await status(trusting, second.token("ann")) != 503:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.5)
    assert await status(trusting, first.token("bob")) == 200


@pytest.mark.parametrize(
    "body", [b"<html>", {}, {"keys": "none"}, {"keys": [1]}, {"keys": [{"kty": "?"}]}, [], None, 1, b"[" * 100_000]
)
async def test_an_answer_without_keys_is_a_provider_that_is_away(provider: Provider, body: Any) -> None:
    provider.body = body
    with pytest.raises(KeysUnavailable):
        await PublicKeys(provider.url, ASYMMETRIC).key("any")


async def test_everybody_at_once_while_it_is_silent_waits_for_one_fetch_not_for_one_each(
    trusting: Server, provider: Provider
) -> None:
    provider.silent = True
    began = time.monotonic()
    tokens = [Key(f"key-{n}").token("ann") for n in range(8)]
    assert await asyncio.gather(*(status(trusting, token) for token in tokens)) == [503] * 8
    assert time.monotonic() - began < 25, "a fetch takes 5 s, and there are eight of them"
    assert provider.asked <= 2


async def test_who_has_a_known_key_does_not_wait_for_a_provider_that_is_silent(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Key("known")
    provider.body = {"keys": [known.public()]}
    keys = PublicKeys(provider.url, ASYMMETRIC)
    await keys.key("known")
    monkeypatch.setattr(providers, "JWKS_FRESH", 0.0)
    provider.silent, asked = True, provider.asked
    async with asyncio.timeout(4):  # a fetch takes 5 s
        for _ in range(3):
            await keys.key("known")
            await asyncio.sleep(0.05)
    assert provider.asked == asked + 1
