"""Functions of the application, called in a thread of their own, so that one which never returns stops nothing."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

log = logging.getLogger("syncd_client")


class NoAnswer(Exception):
    """The function has not returned in time."""


class Call:
    """One call of a function, begun at once. The thread ends with the process, if it does not end before."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._future: Future[Any] = Future()
        context = contextvars.copy_context()
        target = lambda: self._perform(context, function, args)  # noqa: E731
        threading.Thread(target=target, name="syncd-callback", daemon=True).start()

    def _perform(self, context: contextvars.Context, function: Callable[..., Any], args: Sequence[Any]) -> None:
        try:
            answer = context.run(function, *args)
        except BaseException as error:
            self._future.set_exception(error)
        else:
            self._future.set_result(answer)

    @property
    def over(self) -> bool:
        """Whether it has returned or raised."""
        return self._future.done()

    def result(self, patience: float) -> Any:
        """Its result. Raises what it raised, and NoAnswer after `patience` seconds."""
        done = threading.Event()
        self._future.add_done_callback(lambda future: done.set())
        if not done.wait(patience):
            raise NoAnswer
        return self._future.result()

    async def result_async(self) -> Any:
        """The same for a loop, for as long as the caller waits."""
        future = asyncio.wrap_future(self._future)
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # also where nobody waits any more
        return await asyncio.shield(future)


def deliver(function: Callable[[Any], object], events: Sequence[Any], patience: float) -> None:
    """Calls `function` with each of the events; one that fails is logged, one that hangs is not called again."""
    for event in events:
        try:
            Call(function, event).result(patience)
        except NoAnswer:
            log.error("a callback has not returned in %g s; it is not called with the rest", patience)
            return
        except Exception:
            log.exception("a callback failed")
