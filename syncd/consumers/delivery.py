"""A message on its way to an address that somebody else chose: it reaches no private network, and waits for nobody.

The name is looked up once, each address that it has is judged, and the connection goes to one of these. So a name that
answers differently the next time is of no use to anybody.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx2

from syncd.core.unlogged import unlogged
from syncd.service.http_client import trusted

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
# Seconds for all of an attempt, and how much of an answer is read.
WITHIN, CONNECT_WITHIN, MOST_ANSWER = 15.0, 5.0, 16 * 1024
# Addresses of IPv4 that IPv6 has a form for, beside those that the library knows.
NAT64 = ipaddress.ip_network("64:ff9b::/96")


class UnusableAddress(Exception):
    """The address may not be sent to; the text says why."""


class Delivery(NamedTuple):
    """What came of an attempt. `taken`: answered with 2xx; `gone`: with 410, wants no more; `said`: for people."""

    taken: bool
    gone: bool
    said: str


def check_url(url: str, private: bool) -> None:
    """Raises UnusableAddress for a URL that is none to send to, whatever its name's addresses are."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UnusableAddress("it is no URL") from None
    if parts.scheme not in ("https", "http") or not parts.hostname or port == 0:
        raise UnusableAddress("it has to be an https:// address")
    if parts.scheme == "http" and not private:
        raise UnusableAddress("http:// is for private networks alone (--private): use https://")
    if parts.username is not None or parts.password is not None:
        raise UnusableAddress("it may not have a user or password in it")


def is_public(address: IpAddress) -> bool:
    """Whether an address is one of the internet, also where IPv6 wraps one of IPv4."""
    if isinstance(address, ipaddress.IPv6Address):
        inside = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inside is None and address in NAT64:
            inside = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inside is not None:
            return is_public(inside)
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


async def resolve(host: str, port: int, private: bool) -> str:
    """An address of a name. Raises UnusableAddress where one of its addresses is not public, OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    if not addresses:
        raise UnusableAddress("the name has no address")
    if not private and not all(map(is_public, addresses)):
        raise UnusableAddress("the name leads to a private network (--private allows that)")
    return str(addresses[0])


async def deliver(url: str, headers: dict[str, str], body: bytes, *, private: bool) -> Delivery:
    """Posts a body once. It never raises because of the receiver."""
    try:
        async with asyncio.timeout(WITHIN):
            with unlogged():
                return await _post(url, headers, body, private)
    except UnusableAddress as why:
        return Delivery(False, False, f"not sent: {why}")
    except (TimeoutError, httpx2.TimeoutException):
        return Delivery(False, False, f"no answer within {WITHIN:.0f} s")
    except (OSError, httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as why:
        return Delivery(False, False, f"no connection: {type(why).__name__}")


async def _post(url: str, headers: dict[str, str], body: bytes, private: bool) -> Delivery:
    check_url(url, private)
    parts = urlsplit(url)
    assert parts.hostname is not None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = await resolve(parts.hostname, port, private)
    target = httpx2.URL(url).copy_with(host=address)
    named = {**headers, "host": parts.netloc, "accept-encoding": "identity"}
    # The certificate is to be that of the name.
    extensions = {"sni_hostname": parts.hostname}
    # Neither a proxy nor a password of this machine's; a redirection is an answer like any other.
    timeout = httpx2.Timeout(WITHIN, connect=CONNECT_WITHIN)
    async with (
        httpx2.AsyncClient(verify=trusted(), trust_env=False, follow_redirects=False, timeout=timeout) as client,
        client.stream("POST", target, content=body, headers=named, extensions=extensions) as answer,
    ):
        size = 0
        async for part in answer.aiter_raw():
            size += len(part)
            if size > MOST_ANSWER:
                break
        return Delivery(answer.is_success, answer.status_code == 410, f"answered {answer.status_code}")
