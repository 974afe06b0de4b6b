"""For which address a client counts: behind a proxy that is trusted, for the one that the proxy says it has."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from functools import lru_cache

# A list is read from its right end, which the nearest proxy wrote; no more of it than so many proxies are in a row.
MOST_PROXIES = 16
REMEMBERED = 4096
# A holder of an IPv6 address has all of its network's.
NETWORK = 64

Headers = Iterable[tuple[bytes, bytes]]
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Addresses:
    """`proxies`: networks (CIDR) and addresses whose word on the address of a client is taken."""

    def __init__(self, proxies: Collection[str] = ()) -> None:
        self._proxies = [ipaddress.ip_network(proxy, strict=False) for proxy in proxies]
        self.is_proxy = lru_cache(REMEMBERED)(self._is_proxy)

    def _is_proxy(self, peer: str) -> bool:
        """Whether a connection from there is a proxy's."""
        found = _parsed(peer)
        return found is not None and any(found in network for network in self._proxies)

    def accepted(self, peer: str) -> str:
        """The address that a connection counts for before anything has come: none where it is a proxy's."""
        return "" if self._proxies and self.is_proxy(peer) else counted(peer)

    def of(self, peer: str, headers: Headers) -> str:
        """The address that a request counts for, which came from `peer`.

        A proxy may pass on what its client wrote into the header that the proxy itself does not use. So where both
        are there neither is believed, and the request counts for the proxy, as does one that has none.
        """
        if not self._proxies or not self.is_proxy(peer):
            return counted(peer)
        said: dict[bytes, list[str]] = {b"x-forwarded-for": [], b"forwarded": []}
        for name, value in headers:
            if name in said:
                said[name] += value.decode("latin-1").split(",")
        plain, named = said[b"x-forwarded-for"], said[b"forwarded"]
        hops = [] if plain and named else plain or named
        # What a client wrote itself stands further left, and is not read.
        nearest_first = map(_for if named else str, reversed(hops[-MOST_PROXIES:]))
        return counted(self._nearest(peer, nearest_first))

    def _nearest(self, peer: str, hops: Iterable[str]) -> str:
        """The first of these addresses that is no proxy's: each is told by the one before it."""
        for hop in hops:
            found = _host(hop)
            if _parsed(found) is None:
                return peer  # nobody knows who that was
            peer = found
            if not self.is_proxy(found):
                return found
        return peer


# Where no proxy is trusted.
DIRECT = Addresses()


@lru_cache(REMEMBERED)
def counted(address: str) -> str:
    """The name under which an address counts: of IPv6 its network."""
    found = _parsed(address)
    if not isinstance(found, ipaddress.IPv6Address):
        return address if found is None else str(found)
    return str(ipaddress.IPv6Network((int(found) >> 128 - NETWORK << 128 - NETWORK, NETWORK)))


def _parsed(address: str) -> _Address | None:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _for(element: str) -> str:
    """The address in an element of `Forwarded`; none where a quoted value was cut in parts, for a client may have
    written what looks like an address into one."""
    pairs = element.split(";")
    if "\\" in element or any(pair.count('"') % 2 for pair in pairs):
        return ""
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name.strip().lower() == "for":
            return value.strip().strip('"')
    return ""


def _host(hop: str) -> str:
    """An address without its port."""
    hop = hop.strip()
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
