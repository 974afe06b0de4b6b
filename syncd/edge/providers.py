"""The identity provider that a server may have to ask whose keys sign tokens.

A module of its own, for an HTTP client is a sixth of what a worker has to load before it serves.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection
from typing import Any

import httpx
import jwt
import structlog

from syncd.core.errors import KeysUnavailable, Unauthorized

log = structlog.get_logger("syncd.tokens")

JWKS_PAUSE = 10.0
JWKS_RETRY = 2.0
JWKS_FRESH = 600.0
SERVICE_TIMEOUT = 5.0
# What PyJWT makes of JSON that is no key set.
NO_KEYS = (jwt.PyJWTError, AttributeError, KeyError, TypeError)


class PublicKeys:
    """An identity provider's keys for some algorithms, by key id. An unknown id causes a fetch, but not one each."""

    def __init__(self, url: str, algorithms: Collection[str]) -> None:
        self._url, self._algorithms = url, algorithms
        self._keys: dict[str | None, Any] = {}
        self._tried = self._fetched = -math.inf
        self._fetching: asyncio.Task[None] | None = None

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
        self._keys = {key.key_id: key for key in keys if key.algorithm_name in self._algorithms}
        self._tried = self._fetched = time.monotonic()
