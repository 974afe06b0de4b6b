"""What processes and the machine use, read from /proc: CPU seconds, as the scheduler counts them."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Self

import psutil

TICK = 1 / os.sysconf("SC_CLK_TCK")
BUSY = 0.15  # cores that others use: a few hundredths are the kernel's and the terminal's


def on_processor(schedstat: str) -> float:
    """Seconds that a thread has run, from its schedstat: nanoseconds come first."""
    return int(schedstat.split()[0]) / 1e9


def of_the_dead(stat: str) -> float:
    """Seconds that children which have ended had used, from a process's stat. Its name may have spaces and brackets."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) * TICK


def at_work(stat: str) -> float:
    """Seconds that all processors have worked, from /proc/stat: neither idle nor waiting for a disk."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, stat.split("\n", 1)[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) * TICK


def own_memory(smaps_rollup: str) -> int:
    """Bytes of a process's anonymous memory, what is shared divided among those that share it, from smaps_rollup."""
    line = next(line for line in smaps_rollup.splitlines() if line.startswith("Pss_Anon:"))
    return int(line.split()[1]) * 1024


def is_busy(cores: float) -> bool:
    """Whether others used so much that figures are not to be believed."""
    return cores > BUSY


class Tree:
    """Processes with all that descend from them, those that have ended too."""

    def __init__(self, *pids: int) -> None:
        self._roots = pids

    def pids(self) -> list[int]:
        """Those that live."""
        found = dict.fromkeys(self._roots)
        for pid in self._roots:
            with contextlib.suppress(psutil.Error):
                found |= dict.fromkeys(child.pid for child in psutil.Process(pid).children(recursive=True))
        return list(found)

    def cpu(self) -> float:
        """CPU seconds that they have used so far."""
        return sum(map(_process_cpu, self.pids()))

    def memory(self) -> int:
        """Bytes of memory that are theirs: neither files nor PostgreSQL's shared buffers, which hold what is read."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                total += own_memory(Path(f"/proc/{pid}/smaps_rollup").read_text())
        return total


NOBODY = Tree()


def _process_cpu(pid: int) -> float:
    folder, total = Path(f"/proc/{pid}"), 0.0
    with contextlib.suppress(OSError):
        total = of_the_dead((folder / "stat").read_text())
        for task in (folder / "task").iterdir():
            with contextlib.suppress(OSError):
                total += on_processor((task / "schedstat").read_text())
    return total


class Watch:
    """`with Watch() as watch`: how many cores processes that are not of this run used meanwhile (`others`)."""

    others = 0.0

    def __enter__(self) -> Self:
        self._own = Tree(os.getpid())
        self._start = self._look()
        return self

    def __exit__(self, *ignored: object) -> None:
        seconds, machine, own = (b - a for a, b in zip(self._start, self._look(), strict=True))
        self.others = max(0.0, (machine - own) / seconds) if seconds else 0.0

    def _look(self) -> tuple[float, float, float]:
        return time.perf_counter(), at_work(Path("/proc/stat").read_text()), self._own.cpu()
