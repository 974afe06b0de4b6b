"""The socket of a live connection: how it is opened, when it last showed life, and why it ended."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from ..sync.failures import describe
from ..sync.retry import parse_retry_after
from ..sync.transport import device_headers
from .endpoint import Endpoint
from .reconnect import Ending, closed, not_upgraded

FAILURES = (OSError, TimeoutError, EOFError, WebSocketException)
_quiet = logging.getLogger("syncd_client.socket")
_quiet.setLevel(logging.INFO)  # below that websockets logs every frame, the one with the token too


class LiveSocket(ClientConnection):
    """A connection that knows when it last heard a byte: a long frame on a slow line is a sign of life."""

    heard = 0.0

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self.heard = self.loop.time()
        super().data_received(data)


@asynccontextmanager
async def open_socket(endpoint: Endpoint, client: str) -> AsyncIterator[LiveSocket]:
    """A socket of the device `client`, closed at the end. Raises one of FAILURES."""
    options: dict[str, Any] = {
        "additional_headers": device_headers(client),
        "open_timeout": endpoint.policy.open_timeout,
        "ping_interval": None,  # the connection pings by itself, and counts every byte as a sign of life
        "create_connection": LiveSocket,
        "close_timeout": 1.0,
        "logger": _quiet,
        "max_size": None,
        **endpoint.socket,
    }
    async with connect(endpoint.socket_url, **options) as socket:
        assert isinstance(socket, LiveSocket)
        yield socket


def explain(error: Exception, opened: bool) -> Ending:
    """The reason why a socket ended or was not opened, from one of FAILURES.

    `opened`: the server had accepted the token.
    """
    match error:
        case ConnectionClosed() if error.rcvd is not None:
            return closed(error.rcvd.code, error.rcvd.reason, opened)
        case ConnectionClosed():
            return closed(None, "", opened)
        case InvalidStatus():
            headers = {name.lower(): value for name, value in error.response.headers.raw_items()}
            return not_upgraded(error.response.status_code, parse_retry_after(headers, time.time()))
        case _:
            return Ending("offline", "offline", f"No connection: {describe(error)}.", opened=opened)
