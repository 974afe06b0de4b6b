"""One exchange with the server at a time: a live sync steps aside for a sync over HTTP of the same replica."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager

from ..store.lease import GiveBack

_LOOP_PATIENCE = 5.0  # seconds for a loop that is stopping to answer


class ExchangeLock:
    """Two locks of a live sync: `pushing`, from sending a push to its answer, and `applying`, around a frame.

    A holder of both has the file and the server to itself; they are taken in that order. It is the
    lender of a lease that a live sync holds. `returned` is called in the loop when it was lent.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, returned: Callable[[], None]) -> None:
        self.pushing, self.applying = asyncio.Lock(), asyncio.Lock()
        self._loop, self._returned = loop, returned
        self._over = False

    def lend(self, patience: float) -> GiveBack | None:
        """See Lender; for threads other than the loop's."""
        loan = _Loan()
        lent = loan.deliver(self.lend_async, patience)
        try:
            future = asyncio.run_coroutine_threadsafe(lent, self._loop)
        except RuntimeError:  # the loop is gone
            lent.close()
            return None
        try:
            future.result(patience + _LOOP_PATIENCE)
        except (TimeoutError, CancelledError):
            return loan.close()
        except BaseException:
            if (given := loan.close()) is not None:
                given()
            raise
        return loan.close()

    async def lend_async(self, patience: float) -> GiveBack | None:
        """See Lender."""
        try:
            async with asyncio.timeout(patience):
                await self._acquire()
        except TimeoutError:
            return None
        if self._over:
            self._release()
            return None
        return self._give_back

    def _give_back(self) -> None:
        def settle() -> None:
            self._release()
            self._returned()

        with contextlib.suppress(RuntimeError):  # the loop is gone, and the locks with it
            self._loop.call_soon_threadsafe(settle)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Both locks, for the live sync's own syncs over HTTP."""
        await self._acquire()
        try:
            yield
        finally:
            self._release()

    async def end(self, patience: float) -> None:
        """Lends no more, and waits up to `patience` seconds for what is lent."""
        self._over = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._acquire()
                self._release()

    async def _acquire(self) -> None:
        await self.pushing.acquire()
        try:
            await self.applying.acquire()
        except BaseException:
            self.pushing.release()
            raise

    def _release(self) -> None:
        self.applying.release()
        self.pushing.release()


class _Loan:
    """A loan from a loop to a thread. It is given back if the thread has gone when it comes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = True
        self._given: GiveBack | None = None

    async def deliver(self, lend: Callable[[float], Awaitable[GiveBack | None]], patience: float) -> None:
        """In the loop."""
        given = await lend(patience)
        with self._lock:
            if self._open:
                self._given = given
                return
        if given is not None:
            given()

    def close(self) -> GiveBack | None:
        """In the thread: what has come until now; whatever comes later is not wanted."""
        with self._lock:
            self._open = False
            return self._given
