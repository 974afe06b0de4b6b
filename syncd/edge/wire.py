"""Uvicorn's HTTP protocol, that lets a stream reach its connection: what waits for a slow reader is bounded there."""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# What the kernel holds for a slow reader; left to itself it takes 4 MB.
SEND_BUFFER = 64 * 1024
TRANSPORT = "syncd.transport"


class HttpWire(HttpToolsProtocol):
    """Puts the transport into the scope, under TRANSPORT."""

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        cast(dict[str, Any], self.scope)[TRANSPORT] = self.transport


def unsent(transport: Any) -> int:
    """What the other side has not taken yet, here and in the kernel, whose buffer alone holds a slow one's minute."""
    left = int(transport.get_write_buffer_size())
    raw = transport.get_extra_info("socket")
    if raw is not None and sys.platform == "linux":
        import fcntl
        import termios

        with contextlib.suppress(OSError, ValueError):
            left += int.from_bytes(fcntl.ioctl(raw.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    return left


def bound(transport: Any) -> None:
    """Keeps the kernel from taking megabytes for somebody who does not read."""
    raw = transport.get_extra_info("socket")
    if raw is not None and raw.family != socket.AF_UNIX:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
