"""What the other side of a connection has not taken yet, and how long it may take for it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

# What the kernel holds for a slow reader; left to itself it takes 4 MB.
SEND_BUFFER = 64 * 1024
TRANSPORT = "syncd.transport"
# In the scope of a request that a host's server has taken: what ends it, and the scope as it came from the host.
LEAVE, HOST = "syncd.leave", "syncd.host"
LOOK_EVERY = 0.5


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


async def sent(sending: Awaitable[None], transport: Any, patience: Callable[[], float]) -> bool:
    """Awaits a `send`, however slowly the client takes it; False, and the connection ended, when it took nothing at all
    for `patience()` seconds."""
    task = asyncio.ensure_future(sending)
    left, since = math.inf, time.monotonic()
    try:
        while not (await asyncio.wait({task}, timeout=LOOK_EVERY))[0]:
            before, left = left, unsent(transport) if transport is not None else math.inf
            if left < before:
                since = time.monotonic()
            if time.monotonic() - since > patience():
                if transport is not None:
                    transport.abort()
                return False
        task.result()
    finally:
        task.cancel()
    return True


async def taken(transport: Any, left: int) -> None:
    """Returns when at most `left` bytes are not taken yet."""
    pause = 0.002
    while unsent(transport) > left:
        await asyncio.sleep(pause)
        pause = min(2 * pause, LOOK_EVERY / 2)


def bound(transport: Any) -> None:
    """Keeps the kernel from taking megabytes for somebody who does not read."""
    raw = transport.get_extra_info("socket")
    if raw is not None and raw.family != socket.AF_UNIX:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
