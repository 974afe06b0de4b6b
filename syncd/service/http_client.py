"""HTTP clients for what a server asks others: key sets and memberships; and whom it believes there, webhooks too."""

from __future__ import annotations

import ssl
from functools import cache

import httpx2

# Seconds for an answer.
SERVICE_TIMEOUT = 5.0


@cache
def trusted() -> ssl.SSLContext:
    """The authorities that the system believes, read once: that takes 100 ms and more, so that who is in an event loop
    calls it in a thread first. The library's own context would read them for each connection."""
    return ssl.create_default_context()


def http_client() -> httpx2.AsyncClient:
    """A client that is the caller's to close."""
    return httpx2.AsyncClient(verify=trusted(), timeout=SERVICE_TIMEOUT)
