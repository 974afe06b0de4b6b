"""A command that works on batches: it is given one as lines of JSON, and ends with 0 when it is done with it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import TypeVar

import structlog

from syncd.consumers.batch import ConsumerBatch
from syncd.store.consumers import BatchLost

T = TypeVar("T")
log = structlog.get_logger("syncd.consumers")
Perform = Callable[[ConsumerBatch], Awaitable[bool]]


def command(text: str, name: str) -> Perform:
    """Performs a batch by a shell's command. It has the consumer's name and the number of the attempt in its
    environment, and none of syncd's settings, of which some are keys; what it writes goes where ours goes."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SYNCD_")}

    async def perform(batch: ConsumerBatch) -> bool:
        environment = {**inherited, "CONSUMER_NAME": name, "CONSUMER_ATTEMPT": str(batch.attempt)}
        # In a session of its own, a group of processes: Ctrl-C ends this process when the command has ended.
        process = await asyncio.create_subprocess_shell(
            text, stdin=asyncio.subprocess.PIPE, env=environment, start_new_session=True
        )
        try:
            await process.communicate(batch.ndjson())
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a shell's children outlive it
            raise
        if process.returncode:
            log.warning("the command failed: the batch comes again", consumer=name, status=process.returncode,
                        attempt=batch.attempt)  # fmt: skip
        return process.returncode == 0

    return perform


async def run(batches: AsyncGenerator[ConsumerBatch, None], perform: Perform, stop: asyncio.Event) -> None:
    """Performs batches and acknowledges those that succeed, until there are no more or `stop` is set. What is being
    performed then is finished."""
    async with aclosing(batches):
        while not stop.is_set():
            batch = await _unless(anext(batches, None), stop)
            if batch is None:
                return
            if await perform(batch):
                try:
                    await batch.ack()
                except BatchLost:
                    log.warning("another process has these feeds by now: the batch comes again there")


async def _unless(coming: Awaitable[T], stop: asyncio.Event) -> T | None:
    """What comes; None where `stop` is set first."""
    task, stopped = asyncio.ensure_future(coming), asyncio.ensure_future(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return None
    return task.result()
