"""One sync a file at a time, among threads and processes. The lock dies with the process that holds it."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import TracebackType

if sys.platform == "win32":
    import msvcrt

    def _seize(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _seize(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Lease:
    """A lock file beside the replica (`<path>-sync`), or a plain lock for a replica in memory."""

    def __init__(self, path: str | Path) -> None:
        self._path = None if str(path) == ":memory:" else f"{path}-sync"
        self._within = threading.Lock()
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Takes the lock if nobody holds it. Never waits."""
        if not self._within.acquire(blocking=False):
            return False
        if self._path is None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _seize(descriptor)
        except OSError:
            os.close(descriptor)
            self._within.release()
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Gives it back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._within.release()

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
