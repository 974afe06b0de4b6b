"""Runs mutants by forks of one process that has collected the tests: no interpreter, import or collection per mutant.

A plugin for pytest. Every test runs once without a mutant, which shows what functions it reaches and what it costs.
Then a fork for each mutant runs the tests that reach its function, and ends at the first that fails.
"""

from __future__ import annotations

import functools
import gc
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from tools.mutation import Module, Mutant

SURVIVED, FAILED = 0, 1
PATIENCE = 10  # times what the tests took without a mutant


class Cost(NamedTuple):
    """Seconds of a test: of a processor, and by the clock."""

    processor: float
    clock: float


class Forks:
    """The loop of pytest, with `processes` forks at once until `end`.

    `seconds`: how much of a processor the tests of a mutant may take together without it. Of those that reach it others
    are left out.
    """

    def __init__(
        self, tree: Path, todo: Sequence[tuple[Module, Mutant]], end: float, processes: int, seconds: float
    ) -> None:
        self._tree, self._todo, self._end = tree, todo, end
        self._processes, self._seconds = processes, seconds
        self._red: set[str] = set()
        self._reached: dict[str, list[pytest.Item]] = {}
        self._cost: dict[pytest.Item, Cost] = {}
        self._breadth: dict[pytest.Item, int] = {}  # how many functions it reaches
        self._running: dict[int, tuple[Module, Mutant, Path]] = {}
        self._caches: list[Any] = []
        self._folder: Path  # a fork's own
        self._kills = Counter[tuple[str, str]]()  # (module or function, test)
        self._is_fork = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        """Ends a fork at the first failure, before anything is written about it."""
        wrong = call.excinfo.value if call.excinfo else None
        if (
            self._is_fork
            and wrong is not None
            and not isinstance(wrong, pytest.skip.Exception | pytest.xfail.Exception)
        ):
            (self._folder / "killer").write_text(item.nodeid, encoding="utf-8")
            os._exit(FAILED)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notes what fails without any mutant."""
        if report.failed:
            self._red.add(report.nodeid)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """All tests once, and then the mutants."""
        import syncd_client

        import syncd

        for package in (syncd, syncd_client):
            assert str(package.__file__).startswith(str(self._tree)), f"{package.__file__} is not what is mutated"
        self._reach(session.items)
        print(f"\n{len(self._todo)} mutants, {len(session.items)} tests; left out, for they fail: {sorted(self._red)}")
        self._caches = [
            one for one in gc.get_objects()
            if isinstance(one, functools._lru_cache_wrapper) and str(one.__module__).startswith("syncd")
        ]  # fmt: skip
        gc.collect()
        gc.freeze()
        for n, (module, mutant) in enumerate(self._todo, 1):
            if time.monotonic() > self._end:
                break
            self._try(session, module, mutant)
            if n % 100 == 0:
                print(f"{n} of {len(self._todo)} mutants: {module.name}", flush=True)
                module.keep()
        while self._running:
            self._wait()
        for module in {module.path: module for module, _ in self._todo}.values():
            module.keep()
        return True

    def _reach(self, items: Sequence[pytest.Item]) -> None:
        from mutmut.mutation import trampoline

        hits: set[str] = set()
        vars(trampoline)["record_trampoline_hit"] = lambda name, caller=None: hits.add(name)
        for item, following in _in_turn(items):
            hits.clear()
            before = Cost(time.process_time(), time.monotonic())
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            self._cost[item] = Cost(time.process_time() - before.processor, time.monotonic() - before.clock)
            self._breadth[item] = len(hits)
            for name in hits if item.nodeid not in self._red else ():
                self._reached.setdefault(name, []).append(item)

    def _tests(self, module: Module, mutant: Mutant) -> list[pytest.Item]:
        """Those that reach a mutant's function: what killed others there, then in its file, then what reaches least."""
        function, chosen, together = f"{module.name}.{mutant.function}", list[pytest.Item](), 0.0

        def place(item: pytest.Item) -> tuple[int, int, int, Cost]:
            kills = self._kills[function, item.nodeid], self._kills[module.name, item.nodeid]
            return -kills[0], -kills[1], self._breadth[item], self._cost[item]

        for item in sorted(self._reached.get(function, ()), key=place):
            together += self._cost[item].processor
            if chosen and together > self._seconds:
                break
            chosen.append(item)
        return chosen

    def _try(self, session: pytest.Session, module: Module, mutant: Mutant) -> None:
        items = self._tests(module, mutant)
        if not items:
            module.states[mutant.name] = "no test"
            return
        while len(self._running) >= self._processes:
            self._wait()
        folder = Path(tempfile.mkdtemp(prefix="syncd-mutation-"))
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            self._run(session, f"{module.name}.{mutant.name}", items, folder)
        self._running[pid] = module, mutant, folder

    def _wait(self) -> None:
        pid, status = os.wait()
        module, mutant, folder = self._running.pop(pid)
        if (killer := folder / "killer").exists():
            test = killer.read_text(encoding="utf-8")
            self._kills.update([(module.name, test), (f"{module.name}.{mutant.function}", test)])
        shutil.rmtree(folder, ignore_errors=True)
        code = os.waitstatus_to_exitcode(status)
        module.states[mutant.name] = "survived" if code == SURVIVED else "killed" if code == FAILED else "timed out"

    def _run(self, session: pytest.Session, name: str, items: Sequence[pytest.Item], folder: Path) -> None:
        """In a fork: the tests with a mutant."""
        try:
            self._is_fork, self._folder = True, folder
            nothing = os.open(os.devnull, os.O_WRONLY)
            for stream in (1, 2):
                os.dup2(nothing, stream)
            os.environ["MUTANT_UNDER_TEST"] = name
            vars(session.config)["_tmp_path_factory"]._basetemp = folder
            for cache in self._caches:  # what a mutant answers must be asked for
                cache.cache_clear()
            cost = [self._cost[item] for item in items]
            longest = int(10 + PATIENCE * sum(one.processor for one in cost))
            resource.setrlimit(resource.RLIMIT_CPU, (longest, longest))
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(int(20 + PATIENCE * sum(one.clock for one in cost)))
            for item, following in _in_turn(items):
                item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            os._exit(SURVIVED)
        except BaseException:
            os._exit(FAILED)


def _in_turn(items: Sequence[pytest.Item]) -> Iterator[tuple[pytest.Item, pytest.Item | None]]:
    """Each with the one that follows. After the last nothing of the session is left: each fork makes its own."""
    following = [*items[1:], None]
    return zip(items, following, strict=True)
