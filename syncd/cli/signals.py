"""Signals for a process that looks after others: remembered, never raised."""

from __future__ import annotations

import select
import signal
import socket
from types import FrameType, TracebackType
from typing import Self

HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


class Signals:
    """SIGTERM and SIGINT, remembered, and a wake-up when one comes or a child ends.

    A handler that raised would be lost wherever an exception is swallowed (a destructor, a callback).
    """

    def __init__(self) -> None:
        self.stops = 0
        self._wakes, self._woken = socket.socketpair()

    def __enter__(self) -> Self:
        for end in (self._wakes, self._woken):
            end.setblocking(False)
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        for sign, handler in zip(HEARD, (self._stop, self._stop, self._child), strict=True):
            signal.signal(sign, handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Hears nothing any more: at the end, and in a child that was forked."""
        signal.set_wakeup_fd(-1)
        for sign in HEARD:
            signal.signal(sign, signal.SIG_DFL)
        self._wakes.close()
        self._woken.close()

    def wait(self, timeout: float, *others: int) -> None:
        """Sleep until a signal, a child's end, something to read on `others`, or `timeout` seconds."""
        ready, _, _ = select.select([self._wakes.fileno(), *others], [], [], timeout)
        if self._wakes.fileno() in ready:
            self._wakes.recv(4096)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stops += 1

    def _child(self, number: int, frame: FrameType | None) -> None:
        """Only to wake up."""


class Pause:
    """Before what ended is started again: none if it had lived a while, else a longer one each time."""

    WELL_AFTER, SHORTEST, LONGEST = 10.0, 0.1, 5.0

    def __init__(self) -> None:
        self._seconds = 0.0

    def after(self, lived: float) -> float:
        """Seconds to wait after one that lived so many."""
        longer = min(max(self._seconds * 2, self.SHORTEST), self.LONGEST)
        self._seconds = 0.0 if lived > self.WELL_AFTER else longer
        return self._seconds
