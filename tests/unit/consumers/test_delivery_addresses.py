"""Where a webhook may send, without a network."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

import pytest

from syncd.consumers.delivery import UnusableAddress, is_public, resolve


@pytest.mark.parametrize("addresses", [["1.1.1.1", "10.0.0.1"], ["10.0.0.1", "1.1.1.1"], ["2606:4700::1", "::1"]])
async def test_every_address_is_judged(addresses: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a public address and a private one is refused, in whatever order."""

    async def known(host: str, port: int, **how: Any) -> list[Any]:
        return [(None, None, None, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", known)
    with pytest.raises(UnusableAddress, match="private network"):
        await resolve("both.example", 443, False)
    assert await resolve("both.example", 443, True) == addresses[0]


def test_a_wrapped_address_is_judged_by_what_it_wraps() -> None:
    private = ["::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:80ff:fffe"]
    assert [text for text in private if is_public(ipaddress.ip_address(text))] == []
    public = ["::ffff:1.1.1.1", "64:ff9b::101:101", "2606:4700:4700::1111", "1.1.1.1"]
    assert [text for text in public if not is_public(ipaddress.ip_address(text))] == []


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fd00:ec2::254", "fec0::1", "::ffff:127.0.0.1",
        "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "2002:a9fe:a9fe::", "ff02::1", "localhost",
        "2130706433", "0x7f.1", "0177.0.0.1",
    ],
)  # fmt: skip
async def test_a_private_address_is_refused(host: str) -> None:
    """Also wrapped, and as the resolver reads it."""
    with pytest.raises((UnusableAddress, OSError)):
        await resolve(host, 443, False)


@pytest.mark.parametrize("host", ["1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
async def test_a_public_address_is_not(host: str) -> None:
    assert await resolve(host, 443, False)
