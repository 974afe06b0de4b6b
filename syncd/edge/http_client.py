"""HTTP clients for what a server asks others: key sets and memberships."""

from __future__ import annotations

import ssl
from functools import cache

import httpx

# Seconds for an answer.
SERVICE_TIMEOUT = 5.0


@cache
def trusted() -> ssl.SSLContext:
    """The authorities that are believed, read once: that takes 100 ms and more, so that who is in an event loop calls
    it in a thread first."""
    return httpx.create_ssl_context()


def http_client() -> httpx.AsyncClient:
    """A client that is the caller's to close."""
    return httpx.AsyncClient(verify=trusted(), timeout=SERVICE_TIMEOUT)
