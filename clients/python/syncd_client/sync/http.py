"""HTTP as a replica needs it: a request, what answers it, and the way between, which may be the application's own."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import httpx2


class HttpRequest(NamedTuple):
    """`url`: whole, with its query. `connect_within`, `idle`: seconds for a connection, and how long the line may stand
    still after that; what takes longer is given up."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    connect_within: float
    idle: float


class HttpResponse(NamedTuple):
    """An answer, whole and unpacked. `headers`: names are found in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class SendFailed(Exception):
    """There was no whole answer. Its text says why, in a sentence's end without the full stop, and has nothing of the
    request: "the server cannot be reached"."""


SendRequest = Callable[[HttpRequest], HttpResponse]
"""Sends a request and returns what answered it, whatever its status; redirects are not followed. Threads share it.
Raises SendFailed or OSError where nothing did."""

SendRequestAsync = Callable[[HttpRequest], Awaitable[HttpResponse]]
"""The same as a coroutine."""

# The library's log has the address of each request, and so what is asked for.
_ours: ContextVar[bool] = ContextVar("syncd_client_request", default=False)
logging.getLogger("httpx2").addFilter(lambda _record: not _ours.get())


class HttpSender:
    """Sends over an httpx2.Client: one of its own, or the application's (a proxy, a certificate), which it does not
    close."""

    def __init__(self, client: httpx2.Client | None = None) -> None:
        self._client, self._own = client, client is None

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """See SendRequest."""
        if self._client is None:
            self._client = httpx2.Client()
        with _told():
            reply = self._client.request(
                request.method, request.url, content=request.body, headers=request.headers, timeout=_times(request)
            )
        return HttpResponse(reply.status_code, reply.headers, reply.content)

    def close(self) -> None:
        """Closes the connections, unless they are the application's."""
        if self._client is not None and self._own:
            self._client.close()


class AsyncHttpSender:
    """The same over an httpx2.AsyncClient."""

    def __init__(self, client: httpx2.AsyncClient | None = None) -> None:
        self._client, self._own = client, client is None

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        """See SendRequestAsync."""
        if self._client is None:
            self._client = httpx2.AsyncClient()
        with _told():
            reply = await self._client.request(
                request.method, request.url, content=request.body, headers=request.headers, timeout=_times(request)
            )
        return HttpResponse(reply.status_code, reply.headers, reply.content)

    async def close(self) -> None:
        """Closes the connections, unless they are the application's."""
        if self._client is not None and self._own:
            await self._client.aclose()


def _times(request: HttpRequest) -> httpx2.Timeout:
    return httpx2.Timeout(request.idle, connect=request.connect_within)


@contextmanager
def _told() -> Iterator[None]:
    """The library's errors in our words."""
    before = _ours.set(True)
    try:
        yield
    except (httpx2.RequestError, httpx2.InvalidURL) as error:
        raise SendFailed(_why(error)) from error
    finally:
        _ours.reset(before)


def _why(error: Exception) -> str:
    match error:
        case httpx2.ConnectTimeout() | httpx2.ConnectError() | httpx2.ProxyError():
            return "the server cannot be reached"
        case httpx2.TimeoutException():
            return "nothing came for too long"
        case httpx2.UnsupportedProtocol() | httpx2.InvalidURL():
            return "url= is no address of a server"
        case httpx2.DecodingError():
            return "the answer could not be unpacked"
        case httpx2.NetworkError() | httpx2.RemoteProtocolError():
            return "the connection was cut"
        case _:
            return f"the request failed ({type(error).__name__})"
