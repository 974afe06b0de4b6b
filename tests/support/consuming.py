"""Consumers for tests: all that there is, as one process sees it; and a process of its own, to be killed.

As a program: `python -m tests.support.consuming NAME DSN STEP NTH` notes each change in the table `effects`, together
with its acknowledgement, and ends itself by SIGKILL at a step of its n-th batch.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import asyncpg

from syncd.consumers import BatchLost, ConsumedChange, ConsumerBatch, consume
from syncd.store.pool import GONE
from tests.support.programs import REPOSITORY

T = TypeVar("T")
EFFECTS = "CREATE TABLE IF NOT EXISTS public.effects (consumer text, space text, seq bigint, n bigserial)"
NOTE = "INSERT INTO public.effects (consumer, space, seq) SELECT $1, * FROM unnest($2::text[], $3::bigint[])"
# What is written to synced data for each change, in an app of the consumer's name.
ECHOES = """
SELECT count(*), count(DISTINCT c.record_id) FROM syncd.sync_changes c JOIN syncd.sync_names a ON a.name_no = c.app_no
WHERE a.name = '{name}'"""
# The steps of a batch at which a process is killed.
STEPS = ("handed out", "begun", "written", "committed")


async def eventually(ask: Callable[[], Awaitable[T]], what: Callable[[T], Any], seconds: float = 60) -> T:
    """What is answered once it is as wanted, which has to be within a time."""
    for _ in range(int(seconds * 20)):
        if what(found := await ask()):
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"it never was: {found}")


async def all_of(name: str, dsn: str, **how: Any) -> list[ConsumedChange]:
    """What a consumer is handed until there is no more; it acknowledges all."""
    return [change for batch in await batches_of(name, dsn, **how) for change in batch.changes]


async def batches_of(name: str, dsn: str, **how: Any) -> list[ConsumerBatch]:
    """The same, as batches."""
    found = []
    async with aclosing(consume(name, database=dsn, wait=False, **how)) as batches:
        async for batch in batches:
            assert batch.changes or batch.reset
            found.append(batch)
            await batch.ack()
    return found


async def first_of(batches: AsyncGenerator[ConsumerBatch, None], seconds: float = 30) -> ConsumerBatch:
    """The next batch, which has to come within a time."""
    async with asyncio.timeout(seconds):
        return await anext(batches)


def started(name: str, dsn: str, step: str = "", nth: int = 0, **how: Any) -> subprocess.Popen[bytes]:
    """The program below; without a step it works until it is killed or there is no more."""
    options = [f"{key}={value}" for key, value in how.items()]
    command = [sys.executable, "-m", "tests.support.consuming", name, dsn, step, str(nth), *options]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE)


def ended(step: str, wanted: str, batch: int, nth: int) -> None:
    """Ends this process as nobody can notice, where it is to end."""
    if step == wanted and batch == nth:
        os.kill(os.getpid(), signal.SIGKILL)


async def stands_still(connection: Any, wanted: str, batch: int, nth: int) -> None:
    """Stops this process between the two messages of a statement, where the database does not call it idle."""
    if wanted == "prepared" and batch == nth:
        await connection.prepare("SELECT 1")
        os.kill(os.getpid(), signal.SIGSTOP)


async def echo(name: str, dsn: str, wanted: str, nth: int, **how: Any) -> None:
    """Writes a record for each change, with the acknowledgement."""
    count = 0
    async with aclosing(consume(name, database=dsn, app="app", start="beginning", **how)) as batches:
        async for batch in batches:
            count += 1
            ended("handed out", wanted, count, nth)
            heard = [{"table": "t", "id": f"{c.space_id}:{c.seq}", "fields": {"n": c.seq}} for c in batch.changes]
            batch.write(user="echo", app=name, changes=heard)
            ended("begun", wanted, count, nth)
            if wanted == "written" and count == nth:  # somewhere on the way
                asyncio.get_running_loop().call_later(0.003, ended, wanted, wanted, nth, nth)
            await batch.ack()
            ended("committed", wanted, count, nth)
            print(len(batch.changes), flush=True)


async def work(name: str, dsn: str, wanted: str, nth: int, **how: Any) -> None:
    """Notes each change, and says so on standard output."""
    setup = await asyncpg.connect(dsn)
    await setup.execute(EFFECTS)
    await setup.close()
    count = 0
    async with aclosing(consume(name, database=dsn, app="app", start="beginning", **how)) as batches:
        async for batch in batches:
            count += 1
            ended("handed out", wanted, count, nth)
            async with batch.transaction() as connection:
                ended("begun", wanted, count, nth)
                await stands_still(connection, wanted, count, nth)
                changes = batch.changes
                await connection.execute(NOTE, name, [c.space_id for c in changes], [c.seq for c in changes])
                ended("written", wanted, count, nth)
            ended("committed", wanted, count, nth)
            print(len(batch.changes), flush=True)


if __name__ == "__main__":
    given = dict(option.split("=") for option in sys.argv[5:])
    how: dict[str, Any] = {
        key: value == "True" if value in ("True", "False") else float(value) for key, value in given.items()
    }
    if "batch" in how:
        how["batch"] = int(how["batch"])
    # What is echoed is in another app.
    does = echo if how.pop("echo", False) else work
    while True:  # as what restarts a program would
        try:
            asyncio.run(does(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), **how))
        except (BatchLost, *GONE) as why:
            print(f"started again: {type(why).__name__}", file=sys.stderr, flush=True)
