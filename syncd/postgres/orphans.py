"""What a supervisor or a postmaster that was killed has left behind: processes that hold a data directory's lock.

A backend looks for its postmaster when it waits, and not while it computes: a report may go on for an hour. Known only
where there is /proc; elsewhere they are waited for.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PROCESSES = Path("/proc")
# Seconds until they are asked to go, until they are made to, and between two looks: most have gone before the first.
_ASKED, _MADE, _EVERY = 0.5, 2.5, 0.5


class Orphans:
    """Those that hold the lock of a descriptor, and the patience with them."""

    def __init__(self, lock: int) -> None:
        self._lock, self._began = lock, time.monotonic()
        self._next = self._began + _ASKED

    @property
    def waited(self) -> float:
        """For so many seconds."""
        return time.monotonic() - self._began

    def end(self, sure: Callable[[], bool] = lambda: True) -> None:
        """Ends them, when they have had their time. `sure`: looked at once they are known, whether they are orphans.

        Nothing is lost by that: what was committed is on the disk, and the next start recovers in any case.
        """
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _EVERY
        found = holders(self._lock)
        if found and sure():
            for pid in found:
                _send(self._lock, pid, signal.SIGQUIT if self.waited < _MADE else signal.SIGKILL)


def supervises(number: str, lock: int) -> bool:
    """Whether the process of this number is alive and holds the lock, as far as can be seen: it may be another's by
    now, or have ended without anybody who asked how."""
    try:
        os.kill(pid := int(number), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    with suppress(OSError, IndexError):
        # After the name, which may have brackets and blanks in it.
        if (PROCESSES / number / "stat").read_text().rpartition(")")[2].split()[0] in "ZX":
            return False
    return is_held_by(lock, pid, unseen=True)


def holders(lock: int) -> list[int]:
    """The processes of PostgreSQL that have the file of a descriptor open."""
    found = []
    for path in _listed():
        with suppress(OSError):
            # "postgres (deleted)" after an upgrade.
            if Path(os.readlink(path / "exe")).name.split(" ")[0] == "postgres" and is_held_by(lock, int(path.name)):
                found.append(int(path.name))
    return found


def is_held_by(lock: int, pid: int, *, unseen: bool = False) -> bool:
    """Whether a process has the file of a descriptor open; `unseen` where that cannot be seen."""
    mine = os.fstat(lock)
    try:
        descriptors = list((PROCESSES / str(pid) / "fd").iterdir())
    except OSError:
        return unseen
    for descriptor in descriptors:
        with suppress(OSError):
            found = descriptor.stat()
            if (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino):
                return True
    return False


def _listed() -> list[Path]:
    with suppress(OSError):
        return [path for path in PROCESSES.iterdir() if path.name.isdigit()]
    return []


def _send(lock: int, pid: int, sign: signal.Signals) -> None:
    with suppress(OSError):
        process = os.pidfd_open(pid)
        try:
            # The number may be another process's by now; what is behind the descriptor stays the same.
            if is_held_by(lock, pid):
                signal.pidfd_send_signal(process, sign)
        finally:
            os.close(process)
