"""Where a webhook may send, without a network."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from syncd.consumers.sending import UnusableAddress, resolve


@pytest.mark.parametrize("addresses", [["1.1.1.1", "10.0.0.1"], ["10.0.0.1", "1.1.1.1"], ["2606:4700::1", "::1"]])
async def test_every_address_is_judged(addresses: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a public address and a private one is refused, in whatever order."""

    async def known(host: str, port: int, **how: Any) -> list[Any]:
        return [(None, None, None, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", known)
    with pytest.raises(UnusableAddress, match="private network"):
        await resolve("both.example", 443, False)
    assert await resolve("both.example", 443, True) == addresses[0]
