"""The stage: one real server, one process that makes the load, and the eyes on what each process uses."""

from __future__ import annotations

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

import httpx
import psutil
from rich.console import Console

from bench.workload import Device
from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.harness import Server
from tests.support.socket_device import workers_of

P = ParamSpec("P")
T = TypeVar("T")
SQL = Path(__file__).parent / "sql"
UNBOUNDED = {"quota_requests": 0, "quota_bytes_in": 0, "quota_bytes_out": 0}
console = Console(highlight=False)


def sql(name: str) -> str:
    """The text of bench/sql/NAME.sql."""
    return (SQL / f"{name}.sql").read_text()


class Stage:
    """`syncd serve` with one worker and its own database in a temporary folder. `quick`: fewer, smaller rounds."""

    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self._folder = Path(tempfile.mkdtemp(prefix="syncd-bench-"))
        self._folder.chmod(0o755)
        self._loader = concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def __enter__(self) -> Self:
        with console.status("starting a server of its own"):
            # As fast as it can: what a user may is not what is measured.
            self.server = Server(self._folder / "server", settings=UNBOUNDED)
            self.bindir = EmbeddedPostgres(self.server.data_dir).bindir
            self.worker = workers_of(self.server)[0]
            pid = (self.server.data_dir / "pgdata" / "postmaster.pid").read_text().split("\n")[0]
            self.postmaster = psutil.Process(int(pid))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loader.shutdown(cancel_futures=True)
        self.server.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def rounds(self, full: int) -> int:
        """How many rounds: at least three, so that there is a median."""
        return 3 if self.quick else full

    def load(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `work` in the process that makes the load."""
        return self._loader.submit(work, *args, **kwargs).result()

    def devices(self, name: str, count: int, *, shared: bool = False, edits: int = 4) -> list[Device]:
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
        return [Device(user, space, edits=edits) for user, space in zip(users, spaces, strict=True)]

    def _as(self, user: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.server.token(user)}"}

    def token(self, device: Device) -> str:
        return self.server.token(device.user)

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


def cpu(process: psutil.Process) -> float:
    """CPU seconds, user and system, that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def backends_cpu(postmaster: psutil.Process) -> float:
    """CPU seconds of the postmaster's children that live."""
    total = 0.0
    for child in postmaster.children():
        with contextlib.suppress(psutil.Error):
            total += cpu(child)
    return total


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
