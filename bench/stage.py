"""The stage: one real server, one process that makes the load, and the eyes on what each process uses."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import multiprocessing
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

import asyncpg
import httpx
import psutil
from rich.console import Console

from bench.machine import Tree
from bench.workload import Device
from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.harness import Server
from tests.support.processes import workers_of

P = ParamSpec("P")
T = TypeVar("T")
SQL = Path(__file__).parent / "sql"
UNBOUNDED = {
    "quota_requests": 0, "quota_bytes_in": 0, "quota_bytes_out": 0, "spaces_per_hour": 1_000_000,
    "members_per_hour": 1_000_000, "max_spaces_owned": 1_000_000, "max_spaces_added": 1_000_000, "idle_timeout": 3600,
}  # fmt: skip
console = Console(highlight=False)


def sql(name: str) -> str:
    """The text of bench/sql/NAME.sql."""
    return (SQL / f"{name}.sql").read_text()


class Stage:
    """`syncd serve` with its own database in a temporary folder. `quick`: fewer, smaller rounds."""

    def __init__(self, quick: bool, workers: int = 1) -> None:
        self.quick, self._workers = quick, workers
        self.folder = Path(tempfile.mkdtemp(prefix="syncd-bench-"))
        self.folder.chmod(0o755)
        self._tokens: dict[str, str] = {}
        self._loader = concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def __enter__(self) -> Self:
        with console.status("starting a server of its own"):
            # As fast as it can: what a user may is not what is measured.
            self.server = Server(self.folder / "server", settings=UNBOUNDED, workers=self._workers)
            self.bindir = EmbeddedPostgres(self.server.data_dir).bindir
            self.worker = workers_of(self.server)[0]
            pid = (self.server.data_dir / "pgdata" / "postmaster.pid").read_text().split("\n")[0]
            self.postmaster = psutil.Process(int(pid))
            assert self.server.process is not None
            # Everything that serves: supervisor, workers and PostgreSQL; and PostgreSQL alone.
            self.tree, self.database = Tree(self.server.process.pid), Tree(self.postmaster.pid)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loader.shutdown(cancel_futures=True)
        self.server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def rounds(self, full: int) -> int:
        """How many rounds: at least three, so that there is a median."""
        return 3 if self.quick else full

    def load(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `work` in the process that makes the load."""
        return self._loader.submit(work, *args, **kwargs).result()

    def devices(
        self, name: str, count: int, *, shared: bool = False, edits: int = 4, whole: bool = False
    ) -> list[Device]:
        """Devices of as many users, each with a space of its own, or all in one."""
        users = [f"{name}-{n}" for n in range(count)]
        spaces = [f"space-{name}" if shared else f"space-{user}" for user in users]
        with httpx.Client(base_url=self.server.url) as client:
            for user, space in list(zip(users, spaces, strict=True))[: 1 if shared else None]:
                client.post("/spaces", json={"id": space, "name": space}, headers=self._as(user)).raise_for_status()
            for user in users[1:] if shared else []:
                member = client.put(
                    f"/spaces/{spaces[0]}/members/{user}", json={"role": "writer"}, headers=self._as(users[0])
                )
                member.raise_for_status()
        return [Device(user, space, edits=edits, whole=whole) for user, space in zip(users, spaces, strict=True)]

    def _as(self, user: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.server.token(user)}"}

    def token(self, device: Device) -> str:
        """The device's token: one for the whole run, as a device keeps its own."""
        if device.user not in self._tokens:
            self._tokens[device.user] = self.server.token(device.user, ttl=24 * 3600)
        return self._tokens[device.user]

    def fetch(self, query: str, *arguments: Any) -> Any:
        """What the database says to a superuser: the first value of the first row."""

        async def ask() -> Any:
            connection = await asyncpg.connect(self.server.owner_dsn)
            try:
                return await connection.fetchval(query, *arguments)
            finally:
                await connection.close()

        return asyncio.run(ask())

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[str], Any]]:
        """A line that says how far `what` is; call the result with a word about each finished round."""
        done = 0

        def step(word: str) -> None:
            nonlocal done
            done += 1
            status.update(f"{what}: {done} of {total}  {word}")

        with console.status(f"{what}: 0 of {total}") as status:
            if not console.is_terminal:
                console.print(f"  {what} …", style="dim")
            yield step


class Memory:
    """Watches the resident memory of a process every few milliseconds. Bytes: `start`, and the `peaks` of each half."""

    def __init__(self, process: psutil.Process) -> None:
        self._process, self._stop = process, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.samples: list[tuple[float, int]] = []

    def __enter__(self) -> Self:
        self.start = int(self._process.memory_info().rss)
        self._thread.start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.004):
            self.samples.append((time.perf_counter(), int(self._process.memory_info().rss)))

    @property
    def growth(self) -> int:
        """The most it had above what it had at the start."""
        return max((rss for _, rss in self.samples), default=self.start) - self.start


def spread(items: Sequence[T], lanes: int) -> list[list[T]]:
    """Deals items out to lanes in turn."""
    return [list(items[n::lanes]) for n in range(lanes)]
