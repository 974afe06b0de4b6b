"""The network between devices and the server: a proxy in a thread of its own, so that tests of any kind can cut it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self

from syncd.testing.proxy import Faults, Proxy

PATIENCE = 10.0


class Network:
    """A line that is cut, slowed, or made to lose answers, and made whole again: for all connections over it, at once.

    `url` is the address at its near end. What one method did, `mend` takes back.
    """

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="syncd-network", daemon=True)

    @property
    def url(self) -> str:
        """Where devices connect."""
        return self.proxy.url

    def cut(self) -> None:
        """Ends every connection and takes no new one: devices are offline."""
        self._set(Faults(refuse=True), self.proxy.reset)

    def silence(self) -> None:
        """Nothing arrives any more, either way, and no connection ends: what a tunnel is for a train."""
        self._set(Faults(blackhole={"up", "down"}))

    def drop_replies(self, after: int = 0) -> None:
        """Requests arrive, and of their answers the first `after` bytes; then the connection ends. What was pushed is
        written, and its device does not know it."""
        # A connection that is kept has had answers already.
        self._set(Faults(lose_reply_after=after), self.proxy.cut)

    def slow(self, *, bytes_per_second: float = 0.0, delay: float = 0.0) -> None:
        """Carries so many bytes a second each way (0: as many as there are), each `delay` seconds late."""
        self._set(Faults(bytes_per_second=bytes_per_second, delay=delay))

    def fail(self, **faults: Any) -> None:
        """What `Faults` has besides, by name: `fail(cut=0.05, halts=1.5)`."""
        self._set(Faults(**faults))

    def mend(self) -> None:
        """As it was in the beginning. Connections over which something was lost are ended."""
        lost = self.proxy.faults.blackhole or self.proxy.faults.lose_reply_after is not None
        self._set(Faults(), self.proxy.reset if lost else None)

    @contextlib.contextmanager
    def offline(self) -> Iterator[None]:
        """Cut for as long as the block lasts."""
        self.cut()
        try:
            yield
        finally:
            self.mend()

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self.proxy.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends every connection, and its thread."""
        if not self._thread.is_alive():
            return
        try:
            self._run(self.proxy.__aexit__(None, None, None))
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(PATIENCE)
            self._loop.close()

    def _set(self, faults: Faults, then: Callable[[], None] | None = None) -> None:
        """It is so when this returns."""

        async def change() -> None:
            self.proxy.faults = faults
            if then is not None:
                then()

        self._run(change())

    def _run(self, work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)
