"""Requests at a steady rate over one connection each, and how late their answers are. Runs in the load's process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

# Seconds: one figure for each, so that a moment in which the machine was elsewhere is one of many.
WINDOW = 5.0
LANES = 4


def paced(port: int, requests: Sequence[bytes], rate: float, stop: Path) -> list[float]:
    """Sends `rate` requests a second until all are sent or the file `stop` is there: ms that 99 % took, by WINDOW.

    An answer is late by what it kept others waiting, too: time counts from when a request was due.
    """
    return uvloop.run(_paced(port, requests, rate, stop))


async def _paced(port: int, requests: Sequence[bytes], rate: float, stop: Path) -> list[float]:
    lanes = [await asyncio.open_connection("127.0.0.1", port) for _ in range(LANES)]
    begun, windows = time.perf_counter(), dict[int, list[float]]()

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
            windows.setdefault(int((due - begun) / WINDOW), []).append(time.perf_counter() - due)

    await asyncio.gather(*map(lane, range(LANES)))
    for _, writer in lanes:
        writer.close()
    # The last is not whole.
    whole = [sorted(windows[n]) for n in sorted(windows)][: max(1, len(windows) - 1)]
    return [1000 * took[int(len(took) * 0.99)] for took in whole]
