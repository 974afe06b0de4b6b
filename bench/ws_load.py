"""Load over WebSockets that costs little itself: prebuilt frames, and of the answers no more is read than must be.

The counterpart of `http_load` for peers that speak over sockets. Runs in the process that makes the load.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import uvloop

from bench.http_load import Load
from bench.machine import NOBODY, Tree

TEXT, CLOSE, PING, PONG = 0x81, 0x88, 0x89, 0x8A


class Script(NamedTuple):
    """What a socket says: the path it asks for, how many frames come before anything is asked, frames to send, each
    answered by a frame that has `answer` in it, and what a refusal has in it."""

    path: str
    greetings: int
    frames: list[bytes]
    answer: bytes
    refusal: bytes


def frame(text: bytes, opcode: int = TEXT) -> bytes:
    """A client's frame. Its mask is zero, which is allowed, and saves the work of masking."""
    size = len(text)
    if size < 126:
        return bytes((opcode, 0x80 | size)) + b"\0\0\0\0" + text
    if size < 1 << 16:
        return bytes((opcode, 0x80 | 126)) + size.to_bytes(2) + b"\0\0\0\0" + text
    return bytes((opcode, 0x80 | 127)) + size.to_bytes(8) + b"\0\0\0\0" + text


def handshake(path: str) -> bytes:
    """The request that asks for a socket."""
    key = base64.b64encode(os.urandom(16))
    return (
        b"GET %s HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n" % (path.encode(), key)
    )


class Frames:
    """Cuts what comes into frames: `feed` calls back with opcode and text. No frame is in parts but very large ones,
    which are put together."""

    def __init__(self, on_frame: Callable[[int, bytes], None]) -> None:
        self._on_frame, self._buffer, self._need, self._parts = on_frame, bytearray(), 2, b""

    def feed(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= self._need:
            size, start = self._buffer[1], 2
            wide = {126: 2, 127: 8}.get(size, 0)
            if len(self._buffer) < 2 + wide:
                self._need = 2 + wide
                return
            if wide:
                size, start = int.from_bytes(self._buffer[2 : 2 + wide]), 2 + wide
            self._need = start + size
            if len(self._buffer) < self._need:
                return
            opcode, text = self._buffer[0], bytes(self._buffer[start : self._need])
            del self._buffer[: self._need]
            self._need = 2
            self._whole(opcode, text)

    def _whole(self, opcode: int, text: bytes) -> None:
        if opcode & 0x80 and opcode != 0x80:
            self._on_frame(opcode, text)
        else:
            self._parts += text
            if opcode == 0x80:
                text, self._parts = self._parts, b""
                self._on_frame(TEXT, text)


class SocketLane(asyncio.Protocol):
    """One socket that sends a frame, waits for its answer, and sends the next."""

    def __init__(self, script: Script) -> None:
        self._script, self._opened, self._frames = script, False, Frames(self._took)
        self._head, self.times, self.failed, self.size, self._greetings = b"", list[int](), 0, 0, script.greetings
        self.last = b""
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(handshake(self._script.path))

    def connection_lost(self, why: Exception | None) -> None:
        for one in (self.ready, self.done):
            if not one.done():
                one.set_exception(why or ConnectionError("the server closed the connection"))

    def start(self, frames: Sequence[bytes]) -> None:
        """Sends these, one after the other; what was measured before is forgotten."""
        self._left, self.times, self.failed, self.size = iter(frames), [], 0, 0
        self.done = asyncio.get_running_loop().create_future()
        self._next()

    def _next(self) -> None:
        said = next(self._left, None)
        if said is None:
            self.done.set_result(None)
            return
        self._asked = time.perf_counter_ns()
        self._transport.write(said)

    def data_received(self, data: bytes) -> None:
        if self._opened:
            self._frames.feed(data)
            return
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if end:
            if not head.startswith(b"HTTP/1.1 101"):
                raise ConnectionError(f"the handshake was refused: {head[:200]!r}")
            self._opened = True
            self._greet(0)
            self._frames.feed(rest)

    def _greet(self, count: int) -> None:
        self._greetings -= count
        if self._greetings <= 0 and not self.ready.done():
            self.ready.set_result(None)

    def _took(self, opcode: int, text: bytes) -> None:
        if opcode == PING:
            self._transport.write(frame(text, PONG))
        elif not self.ready.done():
            self._greet(1)
        elif self._script.answer in text or self._script.refusal in text[:200]:
            self.times.append(time.perf_counter_ns() - self._asked)
            self.failed += self._script.answer not in text
            self.size += len(text)
            self.last = text
            self._next()


def prebuilt(port: int, scripts: Sequence[Script], warm: int = 0, watched: Tree = NOBODY) -> Load:
    """Each script over a socket of its own. Neither the sockets nor the first `warm` frames of each are measured."""
    return uvloop.run(_run(port, scripts, warm, watched))[0]


def ask(port: int, script: Script) -> bytes:
    """The text that answers the script's last frame."""
    return uvloop.run(_run(port, [script], 0, NOBODY))[1]


async def _run(port: int, scripts: Sequence[Script], warm: int, watched: Tree) -> tuple[Load, bytes]:
    loop = asyncio.get_running_loop()
    lanes = [
        (await loop.create_connection(lambda script=script: SocketLane(script), "127.0.0.1", port))[1]  # type: ignore[misc]
        for script in scripts
    ]
    await asyncio.wait_for(asyncio.gather(*(lane.ready for lane in lanes)), 60)
    await _say(lanes, [script.frames[:warm] for script in scripts])
    used, start = watched.cpu(), time.perf_counter()
    await _say(lanes, [script.frames[warm:] for script in scripts])
    seconds, used = time.perf_counter() - start, watched.cpu() - used
    times = sorted(t for lane in lanes for t in lane.times)
    failed, size = sum(lane.failed for lane in lanes), sum(lane.size for lane in lanes)
    middle, late = times[len(times) // 2] / 1e6, times[int(len(times) * 0.99)] / 1e6
    return Load(seconds, len(times), failed, size, 0, middle, late, used), lanes[0].last


async def _say(lanes: Sequence[SocketLane], frames: Sequence[Sequence[bytes]]) -> None:
    for lane, some in zip(lanes, frames, strict=True):
        lane.start(some)
    await asyncio.wait_for(asyncio.gather(*(lane.done for lane in lanes)), 120)
