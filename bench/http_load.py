"""HTTP load that costs little itself: prebuilt requests over raw connections, answers read only so far as needed.

Runs in a process of its own. It looks at the status, the length and, in pushes, how many changes were applied.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import uvloop

from bench.machine import NOBODY, Tree

# Given the body of the last answer (None at first): the next request, or None when there is no more to ask.
Feed = Callable[[bytes | None], bytes | None]


class Load(NamedTuple):
    """What came of it: wall time in seconds, requests and those not answered with 200 or 201, bytes of body, changes
    applied, the median and the 99th percentile of the time to an answer in milliseconds, and CPU seconds that the
    watched processes used meanwhile."""

    seconds: float
    requests: int
    failed: int
    size: int
    applied: int
    p50: float
    p99: float
    cpu: float


class Lane(asyncio.Protocol):
    """One keep-alive connection that asks, waits for the whole answer, and asks again."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._start, self._end, self._asked = 0, -1, 0
        self.times: list[int] = []
        self.failed = self.size = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, why: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(why or ConnectionError("the server closed the connection"))

    def start(self, feed: Feed) -> None:
        """Asks what `feed` has to ask; what was measured before is forgotten."""
        self._feed = feed
        self.times.clear()
        self.failed = self.size = 0
        self.done = asyncio.get_running_loop().create_future()
        self._ask(None)

    def _ask(self, body: bytes | None) -> None:
        request = self._feed(body)
        if request is None:
            self.done.set_result(None)
            return
        self._asked = time.perf_counter_ns()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._end < 0:
            self._read_head()
        if 0 <= self._end <= len(self._buffer):
            self.times.append(time.perf_counter_ns() - self._asked)
            body = bytes(self._buffer[self._start : self._end])
            self.failed += not self._buffer.startswith(b"HTTP/1.1 20")
            self.size += len(body)
            self._buffer, self._end = bytearray(), -1
            self._ask(body)

    def _read_head(self) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if end >= 0:
            at = self._buffer.lower().find(b"content-length:", 0, end) if end < 4096 else -1
            self._start = end + 4
            self._end = self._start + int(self._buffer[at + 15 : self._buffer.find(b"\r", at)])


class _Prebuilt:
    """Feeds requests that are there, and counts the changes that were applied."""

    def __init__(self, requests: Sequence[bytes]) -> None:
        self._requests, self.applied = iter(requests), 0

    def __call__(self, body: bytes | None) -> bytes | None:
        if body is not None:
            self.applied += body.count(b'"status":"applied"')
        return next(self._requests, None)


class _Pages:
    """Feeds one pull after another, each from the cursor of the last."""

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before, self._after, self.applied = before, after, 0

    def __call__(self, body: bytes | None) -> bytes | None:
        if body is None:
            return self._before + self._after
        if body.rfind(b'"hasMore":true') < 0:
            return None
        at = body.rindex(b'"syncedUntil":"') + 15
        return self._before + body[at : body.index(b'"', at)] + self._after


def prebuilt(port: int, lanes: Sequence[Sequence[bytes]], warm: int = 0, watched: Tree = NOBODY) -> Load:
    """Sends each lane's requests over its own connection. Neither the connections nor the first `warm` of each are
    measured."""
    feeds = [(_Prebuilt(requests[:warm]), _Prebuilt(requests[warm:])) for requests in lanes]
    return uvloop.run(_run(port, feeds, watched))


def pages(port: int, before: bytes, after: bytes, watched: Tree = NOBODY) -> Load:
    """Pulls page after page over one connection, until there is no more; a request is before + cursor + after."""
    return uvloop.run(_run(port, [(_Prebuilt([]), _Pages(before, after))], watched))


async def _run(port: int, feeds: Sequence[tuple[_Prebuilt, _Prebuilt | _Pages]], watched: Tree) -> Load:
    loop = asyncio.get_running_loop()
    lanes = [(await loop.create_connection(Lane, "127.0.0.1", port))[1] for _ in feeds]
    await _ask(lanes, [warm for warm, _ in feeds])
    used, start = watched.cpu(), time.perf_counter()
    await _ask(lanes, [feed for _, feed in feeds])
    seconds, used = time.perf_counter() - start, watched.cpu() - used
    times = sorted(t for lane in lanes for t in lane.times)
    return Load(
        seconds, len(times), sum(lane.failed for lane in lanes), sum(lane.size for lane in lanes),
        sum(warm.applied + feed.applied for warm, feed in feeds),
        times[len(times) // 2] / 1e6, times[int(len(times) * 0.99)] / 1e6, used,
    )  # fmt: skip


async def _ask(lanes: Sequence[Lane], feeds: Sequence[Feed]) -> None:
    for lane, feed in zip(lanes, feeds, strict=True):
        lane.start(feed)
    await asyncio.gather(*(lane.done for lane in lanes))
