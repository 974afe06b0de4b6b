"""The signals by which a host's server is told to stop, heard before it acts on them: ASGI tells an application of its
end when all connections are closed already, and some servers wait for a stream until then."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Calls `stop` in the event loop with the first of them, then the handler that was there, which is put back by
    `forget`. Where nobody handles them, or this is no main thread, nothing is heard."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop, self._loop = stop, asyncio.get_running_loop()
        self._handlers: dict[int, tuple[Any, Any]] = {}
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._hear(number)

    def _hear(self, number: int) -> None:
        before = signal.getsignal(number)
        if not callable(before):
            return

        def heard(number: int, frame: FrameType | None) -> None:
            # One that another has wrapped since stays in its place when it is forgotten.
            if number in self._handlers and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._stop)
            before(number, frame)

        signal.signal(number, heard)
        self._handlers[number] = before, heard

    def forget(self) -> None:
        """Hears them no longer. One that the host has replaced since is left as it is."""
        for number, (before, heard) in self._handlers.items():
            if signal.getsignal(number) is heard:
                signal.signal(number, before)
        self._handlers.clear()
