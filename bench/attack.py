"""`python -m bench.attack`: the worst that one user may ask for, beside a neighbour who goes on as always.

Prints for each attack what it was answered, how long the neighbour's calls took before and meanwhile, and the
largest memory of a worker and of a database's process. Nothing here is a test: the figures are those of the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
import httpx
import psutil

from bench.stage import console
from tests.harness import Server

AT = "2026-01-01T10:00:00.000000Z"
APP = "/sync/bench"
PAUSE = 0.02
MEGABYTE = 1 << 20

Said = Counter[str]


class Attacker:
    """A user with an ordinary token. `legacy`: as a client of the first generation."""

    def __init__(self, server: Server, user: str, *, legacy: bool = False) -> None:
        self.headers = {"authorization": f"Bearer {server.token(user)}", "x-client-id": f"{user}-phone"}
        if not legacy:
            self.headers["x-sync-protocol"] = "1"
        self.http = httpx.AsyncClient(base_url=server.url, headers=self.headers, timeout=600)
        self.said: Said = Counter()
        self.sent = self.got = 0

    async def push(self, body: bytes, *, pull: bool = False) -> None:
        """Sends a body as gzip."""
        packed = gzip.compress(body, 6)
        self.sent += len(packed)
        headers = {"content-encoding": "gzip", "content-type": "application/json"}
        self._note(await self.http.post(APP, content=packed, headers=headers))

    async def pull_all(self) -> None:
        """All that there is, page by page."""
        since, more = "", True
        while more:
            answer = await self.http.get(f"{APP}/pull", params={"since": since})
            self._note(answer)
            if answer.status_code != 200:
                return
            page = answer.json()
            since, more = page["syncedUntil"], page["hasMore"]

    def _note(self, answer: httpx.Response) -> None:
        self.got += len(answer.content)
        code = "" if answer.status_code == 200 else f" {answer.json().get('code')}"
        self.said[f"{answer.status_code}{code}"] += 1


def change(record: str, value: Any, field: str = "x", space: str | None = None) -> dict[str, Any]:
    """A change of one field."""
    made = {
        "table": "t",
        "id": record,
        "op": "update",
        "changeId": str(uuid4()),
        "fields": {field: {"value": value, "at": AT}},
    }
    return made if space is None else {**made, "spaceId": space}


def body(changes: list[dict[str, Any]]) -> bytes:
    """A push that asks for nothing."""
    return json.dumps({"changes": changes, "pull": False}, separators=(",", ":")).encode()


class Neighbour:
    """Pushes one change and pulls, again and again."""

    def __init__(self, server: Server) -> None:
        self._user = Attacker(server, "neighbour")
        self.took: list[float] = []
        self.refused = 0

    async def live(self) -> None:
        """Until it is cancelled."""
        since = ""
        while True:
            began = time.perf_counter()
            content = body([change(str(uuid4()), "text")])
            pushed = await self._user.http.post(APP, content=content, headers={"content-type": "application/json"})
            self.took.append(time.perf_counter() - began)
            began = time.perf_counter()
            pulled = await self._user.http.get(f"{APP}/pull", params={"since": since})
            self.took.append(time.perf_counter() - began)
            if pulled.status_code == 200:
                since = pulled.json()["syncedUntil"]
            self.refused += (pushed.status_code != 200) + (pulled.status_code != 200)
            await asyncio.sleep(PAUSE)


async def watched(server: Server, seconds: float, work: Callable[[], Awaitable[None]]) -> dict[str, Any]:
    """Does `work` beside a neighbour, for whom it counts what went before, so many seconds, too."""
    neighbour, memory = Neighbour(server), dict[str, float]()
    living = asyncio.create_task(neighbour.live())
    await asyncio.sleep(seconds)
    before, neighbour.took = neighbour.took, []
    looking, began = asyncio.create_task(_look(server, memory)), time.perf_counter()
    await work()
    took = time.perf_counter() - began
    await asyncio.sleep(0.5)
    for task in (living, looking):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return {"before": _quantiles(before), "during": _quantiles(neighbour.took), "refused": neighbour.refused,
            "seconds": round(took, 1), **{name: round(size) for name, size in memory.items()}}  # fmt: skip


async def _look(server: Server, memory: dict[str, float]) -> None:
    """The largest memory of a process, in MB, without what processes share."""
    assert server.process is not None
    while True:
        for process in psutil.Process(server.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                kind = "database_mb" if process.name().startswith("postgres") else "worker_mb"
                found = process.memory_info()
                memory[kind] = max(memory.get(kind, 0), (found.rss - found.shared) / 1e6)
        await asyncio.sleep(0.1)


def _quantiles(took: list[float]) -> str:
    if len(took) < 2:
        return "none"
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    return f"{cuts[49] * 1e3:.0f}/{cuts[98] * 1e3:.0f} ms of {len(took)}"


async def large_records(server: Server, records: int) -> Attacker:
    """Records of 12 MiB, all of them touched by one push, and then read."""
    mallory = Attacker(server, "mallory")
    text = "a" * (MEGABYTE - 400)
    for field in range(12):
        for first in range(0, records, 9):
            names = range(first, min(first + 9, records))
            await mallory.push(body([change(f"large{n}", text, f"f{field}") for n in names]))
    await mallory.push(body([change(f"large{n}", 1, "touched") for n in range(records)]))
    await mallory.pull_all()
    return mallory


async def one_record(server: Server, pushes: int = 10) -> Attacker:
    """1,000 changes of one record of 12 MiB, several such pushes at once."""
    mallory = Attacker(server, "mary")
    for field in range(12):
        await mallory.push(body([change("one", "a" * (MEGABYTE - 400), f"f{field}")]))
    many = [body([change("one", n, f"g{n}") for n in range(1000)]) for _ in range(pushes)]
    await asyncio.gather(*(mallory.push(one) for one in many))
    return mallory


async def ones(server: Server, times: int = 20) -> Attacker:
    """10 KB of gzip that are 10 MB of `1,1,1`, and the worst that is still read."""
    mallory = Attacker(server, "max")
    push = b'{"changes":[{"table":"t","id":"r","op":"update","fields":{"x":{"at":"%s","value":[%s1]}}}]}'
    bodies = [push % (AT.encode(), b"1," * 5_200_000), push % (AT.encode(), b"1234567890123456789," * 510_000)]
    for _ in range(times // 4):
        await asyncio.gather(*(mallory.push(bodies[n % 2]) for n in range(4)))
    return mallory


async def old_push(server: Server) -> Attacker:
    """A push of the first generation of 150,000 changes, none of which says when or what."""
    mallory = Attacker(server, "old", legacy=True)
    one = b'{"table":"t","id":"r","op":"update","fields":{"x":{"value":1}}}'
    await mallory.push(b'{"changes":[%s]}' % b",".join([one] * 150_000))
    await mallory.push(b'{"changes":[%s]}' % b",".join([b"{}"] * 3_000_000))
    return mallory


async def heads(server: Server, connections: int = 10) -> Attacker:
    """45 MB of headers, several at once, before any token."""
    nobody = Attacker(server, "nobody")

    async def pour() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(45):
                writer.write((b"X-A: " + b"a" * 995 + b"\r\n") * 1000)
                nobody.sent += 1_002_000
                await writer.drain()
        try:
            nobody.said[(await reader.readline()).decode().strip() or "nothing"] += 1
        except ConnectionError:
            nobody.said["reset"] += 1
        writer.close()

    await asyncio.gather(*(pour() for _ in range(connections)))
    return nobody


@click.command()
@click.argument("names", nargs=-1)
@click.option("--records", default=40, help="How many records of 12 MiB.")
@click.option("--workers", default=1)
@click.option("--seconds", default=5.0, help="How long the neighbour is alone before each.")
def main(names: tuple[str, ...], records: int, workers: int, seconds: float) -> None:
    """Attacks a server that it starts, and says what its neighbour noticed."""
    attacks: dict[str, Callable[[Server], Awaitable[Attacker]]] = {
        "heads": heads, "ones": ones, "one_record": one_record, "old_push": old_push,
        "large_records": lambda server: large_records(server, records),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with Server(Path(folder) / "data", workers=workers) as server:
            for name in names or attacks:
                asyncio.run(_report(server, name, attacks[name], seconds))


async def _report(server: Server, name: str, attack: Callable[[Server], Awaitable[Attacker]], seconds: float) -> None:
    done: list[Attacker] = []

    async def work() -> None:
        done.append(await attack(server))

    found = await watched(server, seconds, work)
    attacker = done[0]
    console.print(f"[bold]{name}[/]: {attack.__doc__ or ''}", soft_wrap=True)
    console.print(
        f"  sent {attacker.sent / 1e6:.2f} MB, got {attacker.got / 1e6:.1f} MB: {dict(attacker.said)}", soft_wrap=True
    )
    console.print(f"  {found}", soft_wrap=True)


if __name__ == "__main__":
    main()
