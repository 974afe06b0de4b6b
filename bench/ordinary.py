"""Ordinary clients by the hundred: half push a change each time, half ask whether there is news. A process of its own.

Closed: so many ask again as soon as they are answered. Open: so many requests a second begin, whatever becomes of those
before. Each user has one connection, kept; what finds none that is free is counted, and not sent.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

from bench.workload import Device, pull_request

TICK = 0.002
# Seconds of a closed round before it counts.
WARM = 0.5


class Heard(NamedTuple):
    """What came of the requests of some seconds: times of those that were answered 200 and of the others, in seconds,
    answers by status, and how many found no connection."""

    seconds: float
    took: list[float]
    refused: list[float]
    statuses: dict[int, int]
    not_sent: int

    @property
    def rate(self) -> float:
        """Answered 200, a second."""
        return len(self.took) / self.seconds

    @property
    def p50(self) -> float:
        """Of those answered 200, in ms."""
        return quantile(self.took, 0.5)

    @property
    def p99(self) -> float:
        """Of those answered 200, in ms."""
        return quantile(self.took, 0.99)


def quantile(took: Sequence[float], share: float) -> float:
    """In ms; 0 where there is none."""
    return 1000 * sorted(took)[int(len(took) * share)] if took else 0.0


class Line(asyncio.Protocol):
    """A user's connection: one request at a time."""

    def __init__(self, request: Callable[[], bytes], answered: Callable[[Line, int, float], None]) -> None:
        self._request, self._answered = request, answered
        self._buffer, self._end, self._begun = bytearray(), -1, 0.0
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, why: Exception | None) -> None:
        if self._begun:
            self._answered(self, 0, time.perf_counter() - self._begun)

    def ask(self) -> None:
        """Sends this user's next request."""
        self._begun = time.perf_counter()
        self._transport.write(self._request())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._end < 0 and (head := self._buffer.find(b"\r\n\r\n")) >= 0:
            at = self._buffer.lower().index(b"content-length:", 0, head) + 15
            self._start = head + 4
            self._end = self._start + int(self._buffer[at : self._buffer.index(b"\r", at)])
        if 0 <= self._end <= len(self._buffer):
            status, took = int(self._buffer[9:12]), time.perf_counter() - self._begun
            self.body = bytes(self._buffer[self._start : self._end])
            self._buffer, self._end, self._begun = bytearray(), -1, 0.0
            self._answered(self, status, took)

    def close(self) -> None:
        self._begun = 0.0
        self._transport.close()


class Clients:
    """All of them. `late`: by how many seconds this process itself was late, at most."""

    def __init__(self) -> None:
        self._free: tuple[deque[Line], deque[Line]] = (deque(), deque())
        self._kinds: dict[Line, int] = {}
        self._turn = 0
        self._again: Callable[[Line], None] | None = None
        self._took, self._refused = list[float](), list[float]()
        self._statuses: Counter[int] = Counter()
        self.late = 0.0

    async def connect(self, port: int, tokens: Sequence[tuple[str, str]]) -> None:
        """One for each (user, token). Those that only ask have a record, and have seen it."""
        loop = asyncio.get_running_loop()
        for n, (user, token) in enumerate(tokens):
            device = Device(user, f"_personal:{user}")

            def push(device: Device = device, token: str = token) -> bytes:
                return device.request(token, device.push(1))

            _, line = await loop.create_connection(
                lambda push=push: Line(push, self._heard), "127.0.0.1", port, local_addr=(f"127.0.1.{1 + n % 250}", 0)
            )
            self._kinds[line] = n % 2
            await self._settle(line, token)
            self._free[n % 2].append(line)

    async def _settle(self, line: Line, token: str) -> None:
        answered = asyncio.Event()
        self._again = lambda line: answered.set()
        line.ask()
        await answered.wait()
        if self._kinds[line]:
            line._request = lambda: pull_request(token, "")
            answered.clear()
            line.ask()
            await answered.wait()
            at = line.body.index(b'"syncedUntil":"') + 15
            request = pull_request(token, line.body[at : line.body.index(b'"', at)].decode())
            line._request = lambda: request
        self._again = None

    def _heard(self, line: Line, status: int, took: float) -> None:
        self._statuses[status] += 1
        (self._took if status == 200 else self._refused).append(took)
        if self._again is not None:
            self._again(line)
        elif status:
            self._free[self._kinds[line]].append(line)

    async def closed(self, lanes: int, seconds: float) -> Heard:
        """So many at once, each again as soon as it is answered."""
        chosen = [self._free[n % 2].popleft() for n in range(lanes)]
        self._again = Line.ask
        for line in chosen:
            line.ask()
        await asyncio.sleep(WARM)
        self.taken()
        begun = time.perf_counter()
        await asyncio.sleep(seconds)
        heard = self.taken(time.perf_counter() - begun)
        self._again = None
        while sum(map(len, self._free)) < len(self._kinds):  # noqa: ASYNC110 (an event would cost each answer)
            await asyncio.sleep(0.01)
        self.taken()
        return heard

    async def open(self, rate: float, seconds: float, window: float, tell: Callable[[Heard], None]) -> None:
        """`rate` requests a second begin; `tell` is told of each window of so many seconds."""
        begun = told = time.perf_counter()
        sent = not_sent = 0
        while (now := time.perf_counter()) < begun + seconds:
            for _ in range(int((now - begun) * rate) - sent):
                sent += 1
                not_sent += not self._send()
            if now - told >= window:
                tell(self.taken(now - told, not_sent))
                told, not_sent = now, 0
            await asyncio.sleep(TICK)
            self.late = max(self.late, time.perf_counter() - now - TICK)

    def _send(self) -> bool:
        self._turn ^= 1
        free = self._free[self._turn]
        if not free:
            return False
        free.popleft().ask()
        return True

    def taken(self, seconds: float = 1.0, not_sent: int = 0) -> Heard:
        """What came since the last time."""
        heard = Heard(seconds, self._took, self._refused, dict(self._statuses), not_sent)
        self._took, self._refused, self._statuses = [], [], Counter()
        return heard

    def close(self) -> None:
        for line in self._kinds:
            line.close()


def together(all_: Sequence[Heard]) -> Heard:
    """Several windows as one."""
    statuses: Counter[int] = Counter()
    for heard in all_:
        statuses.update(heard.statuses)
    return Heard(
        sum(heard.seconds for heard in all_), [t for heard in all_ for t in heard.took],
        [t for heard in all_ for t in heard.refused], dict(statuses), sum(heard.not_sent for heard in all_),
    )  # fmt: skip


def median(values: Sequence[float]) -> float:
    """0 where there is none."""
    return statistics.median(values) if values else 0.0
