"""Requests at a steady rate over one connection each, and how late their answers are. Runs in the load's process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

LANES = 4


def paced(port: int, requests: Sequence[bytes], rate: float, stop: Path) -> float:
    """Sends `rate` requests a second until all are sent or the file `stop` is there: ms that 99 % took at most.

    An answer is late by what it kept others waiting, too: time counts from when a request was due.
    """
    return uvloop.run(_paced(port, requests, rate, stop))


async def _paced(port: int, requests: Sequence[bytes], rate: float, stop: Path) -> float:
    lanes = [await asyncio.open_connection("127.0.0.1", port) for _ in range(LANES)]
    begun, took = time.perf_counter(), list[float]()

    async def lane(n: int) -> None:
        reader, writer = lanes[n]
        for i in range(n, len(requests), LANES):
            due = begun + i / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if stop.exists():  # noqa: ASYNC240 (some microseconds, on a disk that is at hand)
                return
            writer.write(requests[i])
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"refused: {head[:80]!r}")
            at = head.lower().index(b"content-length:") + 15
            await reader.readexactly(int(head[at : head.index(b"\r", at)]))
            took.append(time.perf_counter() - due)

    await asyncio.gather(*map(lane, range(LANES)))
    for _, writer in lanes:
        writer.close()
    took.sort()
    return 1000 * took[int(len(took) * 0.99)]
