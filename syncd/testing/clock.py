"""The clock of devices: it runs as the machine's does, and a test moves it."""

from __future__ import annotations

import datetime
import threading
import time

Moved = float | datetime.timedelta


class Clock:
    """Microseconds since 1970, each reading later than the one before: what `Replica(…, wall=)` takes.

    `ahead`: how far it is ahead of the machine's from the beginning, in seconds, or as a timedelta. Devices that share
    a clock write in the order of the test. Give a device one of its own to have it wrong.
    """

    def __init__(self, ahead: Moved = 0.0) -> None:
        self._lock = threading.Lock()
        self._offset, self._last = _micros(ahead), 0
        self._stopped: int | None = None

    def __call__(self) -> int:
        with self._lock:
            now = self._machine() + self._offset if self._stopped is None else self._stopped
            self._last = max(self._last + 1, now)
            return self._last

    def forward(self, by: Moved) -> None:
        """Moves it on by seconds, or a timedelta."""
        self._move(_micros(by))

    def back(self, by: Moved) -> None:
        """Moves it back by seconds, or a timedelta: from here on its readings are earlier than those before."""
        self._move(-_micros(by))

    def set(self, to: datetime.datetime) -> None:
        """Sets it to a moment, from which it runs on; where it is stopped, it stays there. `to` has a time zone."""
        if to.tzinfo is None:
            raise ValueError("say in which time zone: datetime(2027, 1, 1, tzinfo=UTC)")
        micros = (to - datetime.datetime.fromtimestamp(0, datetime.UTC)) // datetime.timedelta(microseconds=1)
        with self._lock:
            self._offset, self._last = micros - self._machine(), micros - 1
            self._stopped = None if self._stopped is None else micros

    def stop(self) -> None:
        """Stops it: each reading is a microsecond after the one before, until it is moved, or runs again."""
        now = self()
        with self._lock:
            self._stopped = now

    def run(self) -> None:
        """Lets it run again, from where it was stopped."""
        with self._lock:
            if self._stopped is not None:
                self._offset, self._stopped = max(self._stopped, self._last) - self._machine(), None

    def now(self) -> datetime.datetime:
        """A reading, as a datetime in UTC."""
        return datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(microseconds=self())

    def _move(self, by: int) -> None:
        with self._lock:
            self._offset += by
            if self._stopped is not None:
                self._stopped = max(self._stopped, self._last) + by
            # Moved on, it stays ahead of its last reading; moved back, it leaves that behind.
            self._last = min(self._last, self._last + by)

    @staticmethod
    def _machine() -> int:
        return time.time_ns() // 1000


def _micros(by: Moved) -> int:
    return round((by.total_seconds() if isinstance(by, datetime.timedelta) else by) * 1_000_000)
