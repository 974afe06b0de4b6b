"""Tasks and threads of a live sync, each with an end that is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Runs `work` in a thread, so that the loop never waits for the disk.

    Cancelled, it ends after the work has: no write outlives the right to write.
    """
    future = asyncio.get_running_loop().run_in_executor(None, partial(work, *args, **named))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        if not future.cancelled():
            future.exception()
        raise


async def until_one_fails(*works: Coroutine[Any, Any, None]) -> None:
    """Runs all until one raises, which it raises again after the others have ended.

    Not a TaskGroup: there, a cancellation from outside that meets a failure inside is lost, and this has to
    end when it is told to.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
