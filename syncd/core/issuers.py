"""Identity providers by their issuer, as a setting names them: `https://login.example.com`, `staff=https://…`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

NAMED = re.compile(r"(?:(?P<name>[a-z0-9][a-z0-9-]{0,31})=)?(?P<url>https?://.+)")


class Issuer(NamedTuple):
    """An identity provider. `url`: as its tokens say it in `iss`; `name`: what the ids of its users begin with, before
    a colon; "" where they are taken as they come."""

    url: str
    name: str


def issuers_of(texts: Iterable[str]) -> list[Issuer]:
    """The issuers of a setting. Raises ValueError, which says what is wrong with it."""
    found = []
    for text in texts:
        matched = NAMED.fullmatch(text)
        if matched is None:
            raise ValueError(
                f"{text!r} is no issuer: write https://login.example.com or staff=https://login.example.com"
            )
        if not is_private_or_tls(matched["url"]):
            raise ValueError(f"{text!r} is not https, and its keys could be anybody's")
        found.append(Issuer(matched["url"], matched["name"] or ""))
    if len({one.url for one in found}) < len(found):
        raise ValueError("an issuer is named twice")
    if len({one.name for one in found}) < len(found):
        raise ValueError(
            "two issuers could sign for the same user: give all but one a name that the ids of its users begin with, "
            "https://a.example,staff=https://b.example"
        )
    return found


def is_private_or_tls(url: str) -> bool:
    """Whether what comes from an address is its host's: over TLS, or from this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(host)
    try:
        return parts.scheme == "http" and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return False
