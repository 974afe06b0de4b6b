"""A TCP proxy that fails as it is told: between a client and the server, or the server and its database."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
import socket
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

CHUNK = 16 * 1024
# Pieces that are under way at most, and how often a second a slow line moves.
UNDER_WAY, MOVES = 8, 50
MAKES_GOOD = 0.1
# What a reader and the kernel hold: a line holds little besides what is under way.
LIMIT, KERNEL = 4 * 1024, 16 * 1024
CUT_WITHIN = 200_000


@dataclass
class Faults:
    """What goes wrong from now on. "up" is towards the target, "down" back from it; numbers are bytes and seconds.

    `stall`: what goes that way waits, and comes through in order once it may. `halts`: so for that many seconds out of
    every ten what goes down does. `blackhole`: what goes that way is lost; a connection that has lost something ends as
    soon as it would carry what comes after it.
    `delay`: of everything, each way; what is under way meanwhile does not add up. `bytes_per_second`: each way.
    `cut`: that share of new connections is cut, each after some bytes that come by chance (up to `CUT_WITHIN`).
    `lose_reply_after`: that many bytes of the answers come through, then the connection is cut.
    `truncate_after`: that many bytes of the request come through, then the connection is cut.
    `duplicate`: a new connection is made twice, and the target gets everything on both.
    """

    refuse: bool = False
    blackhole: set[str] = field(default_factory=set)
    stall: set[str] = field(default_factory=set)
    halts: float = 0.0
    delay: float = 0.0
    bytes_per_second: float = 0.0
    lose_reply_after: int | None = None
    truncate_after: int | None = None
    duplicate: bool = False
    cut: float = 0.0

    def holds(self, way: str) -> bool:
        """Whether what goes that way waits just now."""
        return way in self.stall or (way == "down" and time.monotonic() % 10 < self.halts)


class ProxiedConnection:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter) -> None:
        self.proxy, self.client = proxy, client
        self.targets: list[asyncio.StreamWriter] = []
        self.passed = {"up": 0, "down": 0}
        self.lost: set[str] = set()
        # When a slow line may carry the next piece.
        self.free = {"up": 0.0, "down": 0.0}
        chance = proxy.chance
        self.cut_after = chance.randrange(CUT_WITHIN) if chance.random() < proxy.faults.cut else None

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Carries bytes both ways until one side ends or a fault ends it."""
        faults = self.proxy.faults
        ends = [await self.proxy.dial() for _ in range(2 if faults.duplicate else 1)]
        self.targets = [writer for _, writer in ends]
        ways = [asyncio.create_task(self.carry(reader, self.targets, "up"))]
        ways.append(asyncio.create_task(self.carry(ends[0][0], [self.client], "down")))
        spare = [asyncio.create_task(self.swallow(source)) for source, _ in ends[1:]]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        if spare:
            # The second copy of what was sent must have its chance, though nobody hears the answer.
            await asyncio.wait(spare, timeout=0.5)
        for task in (*ways, *spare):
            task.cancel()
        await asyncio.gather(*ways, *spare, return_exceptions=True)

    async def carry(self, source: asyncio.StreamReader, sinks: list[asyncio.StreamWriter], way: str) -> None:
        """One direction. Ends when the source does, or when a fault cuts it."""
        under_way = asyncio.Queue[tuple[float, bytes]](maxsize=UNDER_WAY if self.proxy.faults.delay else 1)
        reading = asyncio.create_task(self.take(source, under_way))
        with contextlib.suppress(OSError):
            try:
                while True:
                    due, data = await under_way.get()
                    await asyncio.sleep(max(0, due - time.monotonic()))
                    if not data or not await self.forward(data, sinks, way):
                        return
            finally:
                reading.cancel()

    async def take(self, source: asyncio.StreamReader, under_way: asyncio.Queue[tuple[float, bytes]]) -> None:
        """Reads what is sent, and notes when it is due at the other end; nothing at all is the end."""
        data = b"-"
        while data:
            try:
                data = await source.read(LIMIT if self.proxy.faults.bytes_per_second else CHUNK)
            except OSError:
                data = b""
            await under_way.put((time.monotonic() + self.proxy.faults.delay, data))

    async def forward(self, data: bytes, sinks: list[asyncio.StreamWriter], way: str) -> bool:
        """Passes a piece on as the faults allow; false when the connection is over."""
        faults = self.proxy.faults
        while self.proxy.faults.holds(way):  # noqa: ASYNC110 (faults are plain values that tests replace)
            await asyncio.sleep(0.01)
        if way in faults.blackhole:
            self.lost.add(way)
            return True
        if way in self.lost:
            # TCP has no gaps: who got what comes now would take it for what was lost.
            return False
        limit = faults.truncate_after if way == "up" else faults.lose_reply_after
        piece = data if limit is None else data[: max(0, limit - self.passed[way])]
        at = 0
        while at < len(piece):
            rate = self.proxy.faults.bytes_per_second
            part = piece[at : at + max(1, int(rate / MOVES))] if rate else piece[at:]
            at += len(part)
            for sink in sinks:
                sink.write(part)
                await sink.drain()
            if rate:
                # On a busy machine each sleep is too long: the line makes good for it.
                now = time.monotonic()
                self.free[way] = max(self.free[way], now - MAKES_GOOD) + len(part) / rate
                await asyncio.sleep(self.free[way] - now)
        self.passed[way] += len(piece)
        if self.cut_after is not None and sum(self.passed.values()) > self.cut_after:
            return False
        return len(piece) == len(data)

    async def swallow(self, source: asyncio.StreamReader) -> None:
        """Reads what nobody is to hear."""
        with contextlib.suppress(OSError):
            while await source.read(CHUNK):
                pass

    def close(self, *, hard: bool = False) -> None:
        """Ends it on both sides; hard is a reset instead of an end."""
        for writer in (self.client, *self.targets):
            if hard:
                handle: socket.socket = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Proxy:
    """Listens on a free port of the loopback, or on a socket at `listen`, in front of a port or a socket."""

    # Below which path its target serves, where it does so.
    path: ClassVar[str] = ""

    def __init__(self, target: int | Path, *, listen: Path | None = None, seed: int = 0) -> None:
        self.target, self.listen = target, listen
        self.chance = random.Random(seed)
        self.usual, self.faults = Faults(), Faults()
        self.port = 0
        self.links: set[ProxiedConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where HTTP clients connect."""
        return f"http://127.0.0.1:{self.port}{self.path}"

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the target."""
        if isinstance(self.target, int):
            handle = socket.socket()
            # The kernel would take in a megabyte for a slow reader, which no line holds.
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL)
            handle.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(handle, ("127.0.0.1", self.target))
                return await asyncio.open_connection(sock=handle, limit=LIMIT)
            except BaseException:
                handle.close()
                raise
        return await asyncio.open_unix_connection(str(self.target), limit=LIMIT)

    def heal(self) -> None:
        """Nothing goes wrong any more but what usually does, on connections that still exist too."""
        self.faults = copy.deepcopy(self.usual)

    def cut(self) -> None:
        """Ends every connection."""
        for link in list(self.links):
            link.close()

    def reset(self) -> None:
        """Resets every connection."""
        for link in list(self.links):
            link.close(hard=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        link = ProxiedConnection(self, writer)
        self.links.add(link)
        try:
            if not self.faults.refuse:
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await link.run(reader)
        finally:
            link.close()
            self.links.discard(link)
            self._tasks.discard(task)

    async def __aenter__(self) -> Self:
        if self.listen is not None:
            self._server = await asyncio.start_unix_server(self._accept, str(self.listen), limit=LIMIT)
        else:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=LIMIT)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
