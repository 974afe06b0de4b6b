"""A round's world: two workers, lines that fail, devices of both clients and of the first generation, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.soak import faults
from tests.soak.history import History
from tests.soak.legacy import LegacyActor
from tests.soak.programs import Program, node, python
from tests.soak.schedule import Fault
from tests.soak.watcher import Watcher
from tests.support.device import Device
from tests.support.harness import Server
from tests.support.legacy_devices import DexieEngine, LocalStore
from tests.support.processes import workers_of
from tests.support.proxy import Proxy

APP = "notes"
# All write to the first and nobody leaves it; to the second come and go its members, and it is compacted.
SPACES = ("ledger", "comings")
CHURNED = ("bob", "cem")
MEMBERS = ("ann", "bob", "cem", "lena", "watcher")
# A foreign space, of which nobody may ever see anything.
VAULT, CANARY = "vault", "canary-of-the-vault"
DEADLINE = 120.0
# The same for its beginning, when all processes start at once beside the rest of the suite.
BEGINNING = 200.0
MEGABYTE = 1024 * 1024


class World:
    """Everything of one round, until it is judged."""

    def __init__(self, folder: Path, bundle: Path, seed: int) -> None:
        self.folder, self.bundle, self.seed = folder, bundle, seed
        self.spaces, self.churned = SPACES, CHURNED
        self.history, self.hand = History(), asyncio.Lock()
        self.server = Server(folder / "data", workers=2, start=False)
        self.lines: list[Proxy] = []
        self.processes: list[Program] = []
        self.watchers: list[Watcher] = []
        self.legacy: list[LegacyActor] = []
        self.violations: list[str] = []
        self._canaries = 0
        self._tasks: list[asyncio.Task[None]] = []

    @staticmethod
    def now() -> float:
        return time.time()

    # -- its beginning --------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.server.start)
        try:
            await self._begin()
        except BaseException:  # else its processes would go on beside all that comes after
            await self.close()
            await asyncio.to_thread(self.server.stop)
            raise
        return self

    async def _begin(self) -> None:
        self.before = self.measured()
        self.owner = Device(self.server, "olga", "owner", app=APP, timeout=20)
        for space in SPACES:
            await self.owner.create_space(space, **dict.fromkeys(MEMBERS, "writer"))
        async with Device(self.server, "eve", "eve", app=APP) as eve:
            await eve.create_space(VAULT)
            await eve.push([eve.change(f"v{n}", f"secret-{n}", CANARY, space=VAULT) for n in range(10)])
        for line in [Proxy(self.server.port, seed=self.seed + n) for n in range(6)]:
            self.lines.append(await line.__aenter__())
        self._make()
        for program in self.processes:
            await program.start()
        for actor in self.legacy:
            actor.start()
        self._tasks = [asyncio.create_task(watcher.run()) for watcher in self.watchers]
        await self.until(lambda: self._began() or self.over(), "everybody has written", BEGINNING)

    def _make(self) -> None:
        for n, user in enumerate(("ann", "bob")):
            self.processes.append(Program(python(self.job(user, n)), self.history, keeps=True))
        self.processes.append(Program(node(self.job("cem", 2), self.bundle), self.history, keeps=False))
        for n, limit in enumerate((3, 1000)):
            self.watchers.append(Watcher(self.server, "watcher", limit, self.lines[3 + n].url, self.history))
        for engine, name in ((DexieEngine, "dexie"), (LocalStore, "store")):
            self.legacy.append(LegacyActor(self.server, engine, name, self.lines[5].url, SPACES[0], self.history))

    def job(self, user: str, line: int) -> dict[str, Any]:
        """Two devices of a user over one line: one that is live, and one that syncs now and then."""
        devices = [
            {"name": f"{user}{kind}", "user": user, "url": self.lines[line].url, "token": self.server.token(user),
             "live": kind == "live"}
            for kind in ("live", "polls")
        ]  # fmt: skip
        return {"app": APP, "spaces": SPACES, "folder": str(self.folder), "seed": self.seed, "devices": devices}

    def _began(self) -> bool:
        return {name for program in self.processes for name in program.devices} <= self._acknowledged()

    def _acknowledged(self) -> set[str]:
        return {event["who"] for event in self.history.events if event["ev"] == "acked"}

    def over(self) -> bool:
        """Whether a process of devices ended by itself."""
        return any(program.over for program in self.processes)

    def measured(self) -> tuple[int, int]:
        """The most descriptors, and bytes of memory, of a worker."""
        workers = workers_of(self.server)
        return max(w.num_fds() for w in workers), max(w.memory_info().rss for w in workers)

    # -- what faults need -------------------------------------------------------------------------------------------

    async def insist(self, ask: Callable[[], Awaitable[httpx.Response]], *fine: int) -> None:
        """Asks until it is answered so: as an owner does who wants it done."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if (response := await ask()).status_code in fine:
                    return
                assert response.status_code in (429, 503), response.text
            await asyncio.sleep(0.1)
        raise AssertionError("an owner was never answered")

    async def put_member(self, user: str, role: str = "writer") -> None:
        path = f"/spaces/{SPACES[1]}/members/{user}"
        await self.insist(lambda: self.owner.http.put(path, json={"role": role}), 200)

    async def removed_for(self, user: str, seconds: float) -> None:
        """Removes a member, and writes what it may not see until it is back."""
        await self.insist(lambda: self.owner.http.delete(f"/spaces/{SPACES[1]}/members/{user}"), 204, 404)
        self._canaries += 1
        name = f"canary-{self._canaries}"
        gone = self.history.note(user, "removed", canary=name, until=None)
        end = self.now() + seconds
        for n in itertools.count():
            change = self.owner.change(f"{name}-{n}", name, n, space=SPACES[1])
            await self.insist(lambda: self.owner.send([change]), 200)  # noqa: B023
            await asyncio.sleep(0.2)
            if self.now() > end:
                break
        gone["until"] = self.now()
        await self.put_member(user)

    async def until(self, condition: Callable[[], object], what: str, patience: float = DEADLINE) -> None:
        """Waits until it holds. Nothing may wait for ever."""
        deadline = time.monotonic() + patience
        while not condition():
            if time.monotonic() > deadline:
                said = "\n".join(program.said for program in self.processes)
                raise AssertionError(
                    f"it never came to that: {what}\n{self._of_each()}\n{said}\n{self.server.output()[-3000:]}"
                )
            await asyncio.sleep(0.05)

    def _of_each(self) -> str:
        """What each device did so far, and how often: who is stuck stands out."""
        found = Counter((event["who"], event["ev"], event.get("code") or "") for event in self.history.events)
        return "\n".join(f"{who} {ev} {code}: {count}" for (who, ev, code), count in sorted(found.items()))

    async def play(self, schedule: Sequence[Fault]) -> None:
        """All faults at their times. Of those that have to wait for each other, what has not begun at twice the time
        of the last is left out: on a slow machine too a round has an end."""
        began = time.monotonic()
        last = began + 2 * max(fault.at for fault in schedule)
        async with asyncio.TaskGroup() as group:
            for fault in schedule:
                await asyncio.sleep(max(0, began + fault.at - time.monotonic()))
                group.create_task(faults.inject(self, fault, last))

    # -- its end ----------------------------------------------------------------------------------------------------

    async def heal(self) -> None:
        """All is well again, and everybody comes to rest."""
        for line in self.lines:
            line.heal()
        for user in CHURNED:
            await self.put_member(user)
        for program in self.processes:
            await program.order(do="rest")
        for actor in self.legacy:
            actor.resting.set()
        for program in self.processes:
            await self.until(
                lambda: program.idle >= {*program.devices} or program.over,  # noqa: B023
                f"{program.devices} have sent everything",
            )
            if program.over:
                self.violations.append(f"{program.devices} ended by themselves: {program.said}")
        for actor in self.legacy:
            await self.until(lambda: not actor.is_alive(), f"{actor.device_name} has sent everything")  # noqa: B023
            if actor.why is not None:
                self.violations.append(f"{actor.device_name} ended by itself: {actor.why!r}")
        for watcher in self.watchers:
            watcher.stopping.set()
        await self.until(lambda: all(task.done() for task in self._tasks), "the watchers have read everything")
        for task in self._tasks:
            task.result()

    async def close(self) -> None:
        """Ends what is left of it."""
        for actor in self.legacy:
            actor.resting.set()
            actor.device.pending.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for program in self.processes:
            await program.stop()
        for watcher in self.watchers:
            await watcher.device.close()
        for actor in self.legacy:
            if actor.ident is not None:
                await asyncio.to_thread(actor.join, 30)
            actor.http.close()
        for line in self.lines:
            await line.__aexit__(None, None, None)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
        await self.owner.close()
        await asyncio.to_thread(self.server.stop)
