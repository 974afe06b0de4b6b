"""The identity provider that a server may have to ask whose keys sign tokens.

A module of its own, for an HTTP client is a sixth of what a worker has to load before it serves.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection
from typing import Any

import httpx2
import jwt
import msgspec
import structlog

from syncd.core.errors import KeysUnavailable, Unauthorized
from syncd.core.issuers import is_private_or_tls
from syncd.core.unlogged import unlogged
from syncd.service.http_client import SERVICE_TIMEOUT, http_client, trusted

log = structlog.get_logger("syncd.tokens")

JWKS_PAUSE = 10.0
JWKS_RETRY = 2.0
JWKS_FRESH = 600.0
# Bytes of an answer: key sets have some thousands.
LARGEST = 512 * 1024
DISCOVERY = "/.well-known/openid-configuration"
# What PyJWT makes of JSON that is no key set.
NO_KEYS = (jwt.PyJWTError, AttributeError, KeyError, TypeError)


class PublicKeys:
    """An identity provider's keys for some algorithms, by key id. An unknown id causes a fetch, but not one each."""

    def __init__(self, url: str, algorithms: Collection[str]) -> None:
        self._url, self._algorithms = url, algorithms
        self._keys: dict[str | None, Any] = {}
        self._tried = self._fetched = -math.inf
        self._fetching: asyncio.Task[None] | None = None
        self._told = False

    async def key(self, kid: str | None) -> Any:
        """The key for an id. Raises Unauthorized for one the provider does not have, KeysUnavailable.

        A token with a known key does not wait for the provider, which may be away: the look whether it still
        counts goes on beside."""
        if self._due(kid):
            if self._fetching is None or self._fetching.done():
                self._fetching = asyncio.create_task(self._fetch())
            if kid not in self._keys:
                await asyncio.shield(self._fetching)
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        if kid not in self._keys:
            # While the provider is away nobody knows whether it has such a key.
            raise Unauthorized.because("unknown_key") if self._fetched == self._tried else KeysUnavailable
        return self._keys[kid]

    def _due(self, kid: str | None) -> bool:
        now = time.monotonic()
        if self._fetched != self._tried:
            return now - self._tried > JWKS_RETRY
        return now - self._fetched > (JWKS_FRESH if kid in self._keys else JWKS_PAUSE)

    async def _key_set(self, client: httpx2.AsyncClient) -> Any:
        return await answer_of(client, self._url)

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(SERVICE_TIMEOUT):
                await asyncio.to_thread(trusted)
                async with http_client() as client:
                    with unlogged():
                        given = await self._key_set(client)
                keys = self._read(given)
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, RecursionError, ValueError, *NO_KEYS) as why:
            log.warning("keys unavailable", of=self._url, error=type(why).__name__)
            self._tried = time.monotonic()
            return
        self._keys = {key.key_id: key for key in keys if key.algorithm_name in self._algorithms}
        self._tried = self._fetched = time.monotonic()

    def _read(self, given: Any) -> list[jwt.PyJWK]:
        """The keys of a set that can be used. Raises ValueError where none can, and those of `NO_KEYS`."""
        usable, passed_over = list[jwt.PyJWK](), 0
        for one in given["keys"]:
            try:
                key = jwt.PyJWK(one)
                if not isinstance(key.key_id, str | None):
                    raise TypeError
            except (ValueError, *NO_KEYS):
                passed_over += 1
            else:
                usable.append(key)
        if not usable:
            raise ValueError("it has no key that can be used")
        if passed_over and not self._told:
            self._told = True
            log.warning("keys are passed over", of=self._url, keys=passed_over, remedy="see what the key set has")
        return usable


class DiscoveredKeys(PublicKeys):
    """The keys of an issuer, which says itself where they are (OpenID Connect Discovery)."""

    async def _key_set(self, client: httpx2.AsyncClient) -> Any:
        return await answer_of(client, keys_address(await answer_of(client, discovery_of(self._url)), self._url))


def discovery_of(issuer: str) -> str:
    """Where an issuer says what it has."""
    return f"{issuer.removesuffix('/')}{DISCOVERY}"


def keys_address(said: Any, issuer: str) -> str:
    """Where an issuer's keys are, by what it says. Raises ValueError for what says that it is another issuer, or leads
    where anybody could answer."""
    if not isinstance(said, dict) or said.get("issuer") != issuer:
        raise ValueError("it says that it is another issuer")
    address = said.get("jwks_uri")
    if not isinstance(address, str) or not is_private_or_tls(address):
        raise ValueError("its jwks_uri is not https")
    return address


async def answer_of(client: httpx2.AsyncClient, url: str) -> Any:
    """The JSON of an address, of LARGEST bytes at most, packed by nobody. Follows no redirection. Raises
    httpx2.HTTPError, ValueError."""
    body = bytearray()
    wanted = {"accept": "application/json", "accept-encoding": "identity"}
    async with client.stream("GET", url, headers=wanted) as answer:
        answer.raise_for_status()
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise ValueError("the answer is packed")
        async for piece in answer.aiter_raw():
            body += piece
            if len(body) > LARGEST:
                raise ValueError(f"the answer has more than {LARGEST:,} bytes")
    return msgspec.json.decode(body)
