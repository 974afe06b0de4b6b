"""One sync a file at a time, among threads and processes. The lock dies with the process that holds it."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from ..errors import SyncBusy
from .store import explain_failure

if sys.platform == "win32":
    import msvcrt

    def _seize(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _seize(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


GiveBack = Callable[[], None]


class Lender(Protocol):
    """A live sync that holds the lock, and steps aside for a sync of the same replica."""

    def lend(self, patience: float) -> GiveBack | None:
        """Waits up to `patience` seconds; None when it could not be had, or the live sync is over."""

    async def lend_async(self, patience: float) -> GiveBack | None:
        """The same, in the live sync's own loop."""


def destroy_files(path: str | Path) -> None:
    """Deletes a replica's file and those beside it, under its lock. Raises SyncBusy, StoreFailed."""
    if str(path) == ":memory:":
        return
    lease = Lease(path)
    if not lease.take():
        raise SyncBusy("another process or thread is syncing this file.")
    try:
        # The file itself last: without it nobody would look for the others.
        for name in ("-wal", "-shm", "-journal", ""):
            Path(f"{path}{name}").unlink(missing_ok=True)
    except OSError as error:
        raise explain_failure(error, path) from error
    finally:
        lease.release()
    with suppress(OSError):  # another process may have made it again
        os.unlink(f"{path}-sync")


class Lease:
    """A lock file beside the replica (`<path>-sync`), or a plain lock for a replica in memory."""

    def __init__(self, path: str | Path) -> None:
        self._path = None if str(path) == ":memory:" else f"{path}-sync"
        self._within = threading.Lock()
        self._descriptor: int | None = None
        self.lender: Lender | None = None

    def take(self) -> bool:
        """Takes the lock if nobody holds it. Never waits. Raises StoreFailed, and holds nothing then."""
        if not self._within.acquire(blocking=False):
            return False
        if self._path is None:
            return True
        try:
            self._descriptor = self._seize(self._path)
        finally:
            if self._descriptor is None:
                self._within.release()
        return self._descriptor is not None

    @staticmethod
    def _seize(path: str) -> int | None:
        """The locked file's descriptor, or None where another process has it."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise explain_failure(error, path) from error
        try:
            _seize(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EACCES, errno.EDEADLK):  # how Windows says that it is locked
                return None
            raise explain_failure(error, path) from error
        return descriptor

    def release(self) -> None:
        """Gives it back."""
        descriptor, self._descriptor = self._descriptor, None
        try:
            if descriptor is not None:
                os.close(descriptor)
        finally:
            self._within.release()
