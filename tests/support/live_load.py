"""A writer that goes on, and devices that follow it live, on sockets and a stream, and come back when cut off."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import psutil
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.support.device import Change, Device
from tests.support.harness import Server
from tests.support.processes import workers_of
from tests.support.socket_device import connections_of
from tests.support.stalls import Stalls
from tests.support.wire import unique

APP = "notes"
RECORDS = 4
# What a connection may come to when what serves it is killed or away.
CUT = (OSError, TimeoutError, ConnectionClosed, InvalidHandshake, EOFError)
EXCUSES = {"database_unavailable", "busy"}


async def until(condition: Callable[[], object], within: float = 60.0) -> None:
    """Waits until it holds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        await asyncio.sleep(0.02)


class Follower:
    """A device that keeps one feed: what came, by seq, and when; its cursor; and what came to its connections."""

    def __init__(self, server: Server, user: str, *, url: str = "") -> None:
        self.server, self.user = server, user
        self.url = (url or server.url).replace("http", "ws", 1) + "/ws"
        self.seqs: list[int] = []
        self.heard: dict[int, float] = {}
        self.state: dict[str, Any] = {}
        self.cursor = ""
        self.ends: Counter[str] = Counter()
        self.faults: list[str] = []
        self.connection: ClientConnection | None = None

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self._connected()
            except CUT as why:
                code = why.rcvd.code if isinstance(why, ConnectionClosed) and why.rcvd else type(why).__name__
                self.ends[str(code)] += 1
            finally:
                self.connection = None
            await asyncio.sleep(random.uniform(0.05, 0.3))

    async def _connected(self) -> None:
        options: dict[str, Any] = {"proxy": None, "compression": None, "max_size": None, "ping_interval": None}
        async with connect(self.url, open_timeout=10, close_timeout=1, **options) as connection:
            token = self.server.token(self.user)
            await connection.send(json.dumps({"type": "auth", "token": token, "clientId": "c", "protocol": 1}))
            await connection.send(json.dumps({"type": "subscribe", "appId": APP, "since": self.cursor}))
            async for text in connection:
                frame = json.loads(text)
                self.connection = connection
                if frame["type"] == "changes":
                    self.take(frame["changes"], frame["syncedUntil"])
                elif frame["type"] == "error" and frame["code"] not in EXCUSES:
                    self.faults.append(f"was told {frame}")

    def take(self, changes: list[Change], cursor: str) -> None:
        """A page or a frame: in order, without a gap, never half a push. What is known by its seq is known."""
        now = time.monotonic()
        if not self.cursor:
            # A new device gets the state, what was touched last first.
            changes = sorted(changes, key=lambda change: int(change["seq"]))
        for change in changes:
            if change["seq"] in self.heard:
                continue
            if self.seqs and change["seq"] != self.seqs[-1] + 1:
                self.faults.append(f"{change['seq']} came after {self.seqs[-1]}")
            self.seqs.append(change["seq"])
            self.heard[change["seq"]] = now
            self.state[change["id"]] = change["fields"]["value"]["value"]
        if len(self.seqs) % RECORDS:
            self.faults.append(f"half a push at {self.seqs[-RECORDS:]}")
        self.cursor = cursor

    @property
    def port(self) -> int:
        """Its own end's, by which a worker's connections are known; 0 while there is none."""
        return int(self.connection.local_address[1]) if self.connection is not None else 0


class Streamed(Follower):
    """The same over server-sent events, as a browser comes back: with the id of the last one."""

    async def _connected(self) -> None:
        headers = {"Authorization": f"Bearer {self.server.token(self.user)}", "X-Sync-Protocol": "1"}
        if self.cursor:
            headers["Last-Event-ID"] = self.cursor
        address = f"{self.server.url}/sync/{APP}/stream"
        async with httpx.AsyncClient(timeout=httpx.Timeout(10, read=30)) as http:
            try:
                async with http.stream("GET", address, headers=headers) as response:
                    if response.status_code == 200:
                        async for line in response.aiter_lines():
                            self._line(line)
            except httpx.HTTPError as why:
                raise EOFError from why

    def _line(self, line: str) -> None:
        if line.startswith('data: {"table"'):
            data = json.loads(line[6:])
            self.take(data["changes"], data["syncedUntil"])


class LiveLoad:
    """One space, a writer in it, and followers, on every worker. Times are those of this process's clock."""

    def __init__(self, server: Server, *, followers: int = 6, url: str = "", pause: float = 0.02) -> None:
        self.server, self.pause, self.space = server, pause, unique("space")
        self.owner = Device(server, f"{self.space}-owner", "writer", timeout=30)
        self.followers: list[Follower] = [Follower(server, f"{self.space}-{n}", url=url) for n in range(followers)]
        self.followers.append(Streamed(server, f"{self.space}-s"))
        self.acknowledged: dict[int, float] = {}
        self.failed: Counter[str] = Counter()
        self._turn = 0
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stalls = Stalls()

    async def start(self) -> None:
        """Everybody is there, on all workers, and the first pushes have come to all."""
        await self.owner.create_space(self.space, **{f.user: "reader" for f in self.followers})
        self._tasks = [asyncio.create_task(self._write()), *(asyncio.create_task(f.run()) for f in self.followers)]
        self._tasks.append(asyncio.create_task(self._stalls.watch()))
        await self.progress(3)
        async with asyncio.timeout(90):
            while not all(self.ports_of(worker) for worker in workers_of(self.server)):
                if (one := random.choice(self.followers)).connection is not None:
                    await one.connection.close()
                await asyncio.sleep(0.2)
        await self.progress(3)

    def ports_of(self, worker: psutil.Process) -> set[int]:
        """The followers' connections to a worker."""
        return connections_of(worker) & {follower.port for follower in self.followers}

    async def _write(self) -> None:
        while not self._stopping.is_set():
            self._turn += 1
            changes = [
                self.owner.change(f"{self._turn}-{n}", f"r{n}-{self._turn % 10}", self._turn, space=self.space)
                for n in range(RECORDS)
            ]
            done = False
            while not done:
                done = await self._pushed(changes)
                await asyncio.sleep(self.pause)

    async def _pushed(self, changes: list[Change]) -> bool:
        try:
            response = await self.owner.send(changes)
        except httpx.HTTPError as why:
            self.failed[type(why).__name__] += 1
            return False
        if response.status_code != 200:
            assert response.status_code == 503, response.text
            self.failed["503"] += 1
            return False
        now = time.monotonic()
        for result in response.json()["results"]:
            assert result["status"] in ("applied", "duplicate"), result
            self.acknowledged[result["seq"]] = now
        return True

    async def progress(self, pushes: int = 10, seconds: float = 60) -> None:
        """So many more pushes were acknowledged, and have come to all."""
        for task in self._tasks:
            if task.done():
                task.result()
        wanted = len(self.acknowledged) + pushes * RECORDS
        await until(lambda: len(self.acknowledged) >= wanted, seconds)
        await until(lambda: self.faults() or all(len(f.seqs) >= wanted for f in self.followers), seconds)
        assert self.faults() == []

    def faults(self) -> list[str]:
        return [f"{follower.user}: {fault}" for follower in self.followers for fault in follower.faults]

    async def settle(self, most: float) -> float:
        """Ends the writing. All have it all, as a fresh device does, and nobody got it later than `most` seconds after
        it was acknowledged, those in which the machine stood still not counted; how late it was."""
        self._stopping.set()
        await self._tasks[0]
        head = max(self.acknowledged)
        assert sorted(self.acknowledged) == list(range(1, head + 1))
        await until(lambda: self.faults() or all(len(follower.seqs) >= head for follower in self.followers))
        assert self.faults() == []
        async with Device(self.server, self.followers[0].user, "fresh") as fresh:
            state = {change["id"]: change["fields"]["value"]["value"] for change in (await fresh.drain())[0]}
        for follower in self.followers:
            assert follower.seqs == list(range(1, head + 1)), (follower.user, len(follower.seqs), head)
            assert follower.state == state
        late = max(
            f.heard[seq] - at - self._stalls.between(at, f.heard[seq])
            for f in self.followers
            for seq, at in self.acknowledged.items()
        )
        ends = sum((follower.ends for follower in self.followers), Counter[str]())
        print(f"{head // RECORDS} pushes, the latest came after {late:.2f} s; connections ended {dict(ends)}, "
              f"pushes failed {dict(self.failed)}")  # fmt: skip
        assert late < most
        return late

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.owner.close()

    async def __aenter__(self) -> LiveLoad:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
