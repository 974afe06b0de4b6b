"""Threads for functions of the application, which may never end: such a one keeps neither its place nor the process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from syncd.store.turns import Turns

T = TypeVar("T")
# Seconds that a push waits for its turn.
PATIENCE = 10.0


class TooManyEndless(RuntimeError):
    """So many functions have not ended that no more are begun."""


class RuleThreads:
    """Runs functions in threads of their own, `at_once` at a time, of one user after the other. A function whose caller
    gave it up goes on without a place; beyond `most_left` of them nothing is begun any more."""

    def __init__(self, at_once: int, most_left: int) -> None:
        self._turns = Turns(at_once)
        self._most_left, self.left = most_left, 0

    @property
    def full(self) -> bool:
        """Whether nothing is begun any more."""
        return self.left >= self._most_left

    async def __call__(self, work: Callable[[], T], seconds: float | None = None) -> T:
        """What `work` returns. Raises what it raises, TimeoutError where it takes longer than so many seconds, Busy and
        TooMany where it was not begun, and TooManyEndless."""
        async with self._turns.place(PATIENCE):
            if self.full:
                raise TooManyEndless(f"{self.left} rules have not ended")
            loop, ended = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

            def run() -> None:
                try:
                    result, why = work(), None
                except BaseException as raised:
                    result, why = None, raised
                # The loop may be gone by now, and with it whoever waits.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(self._end, ended, result, why)

            # A daemon, for which the end of the process does not wait.
            threading.Thread(target=run, name="syncd rule", daemon=True).start()
            try:
                async with asyncio.timeout(seconds):
                    return await ended  # type: ignore[no-any-return]
            except (asyncio.CancelledError, TimeoutError):
                self.left += ended.cancelled()
                raise

    def _end(self, ended: asyncio.Future[object], result: object, why: BaseException | None) -> None:
        if ended.cancelled():
            self.left -= 1
        elif why is None:
            ended.set_result(result)
        else:
            # A future takes no StopIteration.
            ended.set_exception(RuntimeError("StopIteration") if isinstance(why, StopIteration) else why)
