"""`python -m bench.attack`: the worst that one user may ask for, beside a neighbour who goes on as always.

`large_records --records 100` is 144 pushes that would make 100 records of 12 MiB, one that touches all, and a reader:
some five minutes of two processors.

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
from functools import partial, update_wrapper
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
import httpx
import psutil

from bench.stage import console
from tests.support.harness import Server

AT = "2026-01-01T10:00:00.000000Z"
APP = "/sync/bench"
PAUSE = 0.02
MEGABYTE = 1 << 20
TELL_EVERY = 30.0

Said = Counter[str]


class Attacker:
    """A user with an ordinary token. `legacy`: as a client of the first generation."""

    def __init__(self, server: Server, user: str, *, legacy: bool = False) -> None:
        self.headers = {"authorization": f"Bearer {server.token(user)}", "x-client-id": f"{user}-phone"}
        if not legacy:
            self.headers["x-sync-protocol"] = "1"
        self.http = httpx.AsyncClient(base_url=server.url, headers=self.headers, timeout=600)
        self.said: Said = Counter()
        self.results: Said = Counter()
        self.sent = self.got = 0
        self.pages: list[int] = []

    async def push(self, body: bytes) -> None:
        """Sends a body as gzip."""
        packed = await asyncio.to_thread(gzip.compress, body, 6)
        self.sent += len(packed)
        headers = {"content-encoding": "gzip", "content-type": "application/json"}
        answer = await self.http.post(APP, content=packed, headers=headers)
        self._note(answer)
        if answer.status_code == 200:
            self.results.update(result.get("code", result["status"]) for result in answer.json()["results"])

    async def pull_all(self) -> None:
        """All that there is, page by page."""
        since, more = "", True
        while more:
            answer = await self.http.get(f"{APP}/pull", params={"since": since})
            self._note(answer)
            if answer.status_code != 200:
                return
            self.pages.append(len(answer.content))
            page = await asyncio.to_thread(answer.json)
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
    """A user in a process of its own, whose calls no work of an attacker's can hold up on this side of the wire: pushes
    one change and pulls, again and again."""

    def __init__(self, server: Server, notes: Path) -> None:
        self._notes = notes
        arguments = (server.url, server.token("neighbour"), str(notes))
        self._process = get_context("spawn").Process(target=_neighbour, args=arguments, daemon=True)

    def __enter__(self) -> Neighbour:
        self._process.start()
        while not self._notes.exists():
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()

    def took(self, begin: float, end: float) -> tuple[list[float], int]:
        """How long the calls took that began in between, in seconds, and how many of them were refused."""
        lines = self._notes.read_text().split("\n")[:-1]
        calls = [(float(at), float(took), status) for at, took, status in map(str.split, lines)]
        between = [call for call in calls if begin <= call[0] < end]
        return [took for _, took, _ in between], sum(status != "200" for *_, status in between)


def _neighbour(url: str, token: str, notes: str) -> None:
    headers = {"authorization": f"Bearer {token}", "x-client-id": "neighbour-phone", "x-sync-protocol": "1"}
    since = ""
    with httpx.Client(base_url=url, headers=headers, timeout=600) as http, Path(notes).open("a", buffering=1) as file:

        def call(method: str, path: str, **more: Any) -> httpx.Response:
            began = time.monotonic()
            answer = http.request(method, path, **more)
            file.write(f"{began} {time.monotonic() - began} {answer.status_code}\n")
            return answer

        while True:
            content = body([change(str(uuid4()), "text")])
            call("POST", APP, content=content, headers={"content-type": "application/json"})
            pulled = call("GET", f"{APP}/pull", params={"since": since})
            if pulled.status_code == 200:
                since = pulled.json()["syncedUntil"]
            time.sleep(PAUSE)


async def watched(server: Server, seconds: float, work: Callable[[], Awaitable[None]]) -> dict[str, Any]:
    """Does `work` beside a neighbour, for whom it counts what went before, so many seconds, too."""
    memory = dict[str, float]()
    with tempfile.TemporaryDirectory() as folder, Neighbour(server, Path(folder) / "notes") as neighbour:
        await asyncio.sleep(1)  # connections and plans are made
        alone = time.monotonic()
        await asyncio.sleep(seconds)
        looking, began = asyncio.create_task(_look(server, memory)), time.monotonic()
        await work()
        end = time.monotonic()
        await asyncio.sleep(0.5)
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
        (before, _), (during, refused) = neighbour.took(alone, began), neighbour.took(began, end)
    return {"before": _quantiles(before), "during": _quantiles(during), "refused": refused,
            "seconds": round(end - began, 1), **{name: round(size) for name, size in memory.items()}}  # fmt: skip


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
    """Records of 12 MiB in a space that somebody was put into; one push touches them all; that somebody reads."""
    mallory, victim = Attacker(server, "mallory"), Attacker(server, "victim")
    space = (await mallory.http.post("/spaces", json={"name": "ours"})).json()["id"]
    await mallory.http.put(f"/spaces/{space}/members/victim", json={"role": "writer"})
    text = "a" * (MEGABYTE - 400)
    for field in range(12):
        for first in range(0, records, 9):
            names = range(first, min(first + 9, records))
            await mallory.push(body([change(f"large{n}", text, f"f{field}", space) for n in names]))
    await mallory.push(body([change(f"large{n}", 1, "touched", space) for n in range(records)]))
    await victim.pull_all()
    await victim.push(body([change("own", 1)]))
    mallory.got, mallory.said = victim.got, mallory.said + Counter({f"victim {k}": n for k, n in victim.said.items()})
    mallory.pages = victim.pages
    return mallory


async def one_record(server: Server, pushes: int = 10) -> Attacker:
    """1,000 changes of one record of 12 MiB, several such pushes at once."""
    mallory = Attacker(server, "mary")
    for field in range(12):
        await mallory.push(body([change("one", "a" * (MEGABYTE - 400), f"f{field}")]))
    many = [body([change("one", n, f"g{n}") for n in range(1000)]) for _ in range(pushes)]
    await asyncio.gather(*(mallory.push(one) for one in many))
    return mallory


async def small_pushes(server: Server, pushes: int = 60) -> Attacker:
    """A record of 12 MiB, and pushes of one small change of it, all at once."""
    mallory = Attacker(server, "moll")
    for field in range(12):
        await mallory.push(body([change("one", "a" * (MEGABYTE - 400), f"f{field}")]))
    await asyncio.gather(*(mallory.push(body([change("one", n, f"g{n}")])) for n in range(pushes)))
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
        "heads": heads, "ones": ones, "one_record": one_record, "small_pushes": small_pushes, "old_push": old_push,
        "large_records": update_wrapper(partial(large_records, records=records), large_records),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with Server(Path(folder) / "data", workers=workers) as server:
            for name in names or attacks:
                asyncio.run(_report(server, name, attacks[name], seconds))


async def _report(server: Server, name: str, attack: Callable[[Server], Awaitable[Attacker]], seconds: float) -> None:
    done: list[Attacker] = []

    async def work() -> None:
        attacking = asyncio.ensure_future(attack(server))
        while not (await asyncio.wait([attacking], timeout=TELL_EVERY))[0]:
            console.print(f"  {name} has gone on for {time.monotonic() - began:.0f} s", style="dim")
        done.append(attacking.result())

    began = time.monotonic()
    found = await watched(server, seconds, work)
    attacker = done[0]
    console.print(f"[bold]{name}[/]: {attack.__doc__ or ''}", soft_wrap=True)
    console.print(
        f"  sent {attacker.sent / 1e6:.2f} MB, got {attacker.got / 1e6:.1f} MB: {dict(attacker.said)}", soft_wrap=True
    )
    if attacker.results:
        console.print(f"  changes: {dict(attacker.results)}", soft_wrap=True)
    if attacker.pages:
        console.print(f"  {len(attacker.pages)} pages, the largest {max(attacker.pages) / MEGABYTE:.1f} MiB")
    console.print(f"  {found}", soft_wrap=True)


if __name__ == "__main__":
    main()
