"""G26: kill -9 of a consumer's process, or of its connection, at every step loses nothing and doubles nothing that was
written with the acknowledgement."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest

from syncd.consumers import consume
from tests.support import consuming
from tests.support.consuming import STEPS, all_of, first_of, started
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.wire import Device, edit, unique

SPACES, PUSHES = 6, 20
# Each place of the log, and how often its effect is there.
PLACES = "SELECT space, seq, count(*) FROM public.effects WHERE consumer = '{name}' GROUP BY 1, 2"
IN_ORDER = """
SELECT count(*) FROM (SELECT seq, lag(seq) OVER (PARTITION BY space ORDER BY n) AS before
                      FROM public.effects WHERE consumer = '{name}') e WHERE seq <= before"""

pytestmark = pytest.mark.waits


@pytest.fixture(scope="module")
def filled(workspace: Path) -> Iterator[tuple[Server, set[tuple[str, int]], Callable[[], None]]]:
    """A server of its own with some feeds, their places, and what writes one change more to each."""
    with Server(workspace / "consumed") as server, httpx.Client(base_url=server.url, timeout=60) as http:
        ada = Device(http, server, "ada")
        spaces = [ada.create(unique("s")) for _ in range(SPACES)]
        places = set[tuple[str, int]]()
        asyncio.run(run(server.owner_dsn, consuming.EFFECTS))

        def write() -> None:
            for space in spaces:
                ada.write({**edit(f"r{len(places)}", len(places) + 1, x=1), "spaceId": space})
                places.add((space, 1 + max([seq for found, seq in places if found == space], default=0)))

        for _ in range(PUSHES):
            write()
        yield server, places, write


async def complete(server: Server, name: str, places: set[tuple[str, int]], seconds: float = 60) -> None:
    """Waits until every place has an effect, and then sees that none has two, and that they came in order."""
    deadline = time.monotonic() + seconds
    found = {}
    while time.monotonic() < deadline:
        found = {(space, seq): count for space, seq, count in await run(server.owner_dsn, PLACES.format(name=name))}
        if found.keys() >= places:
            break
        await asyncio.sleep(0.05)
    assert found.keys() == places
    assert set(found.values()) == {1}
    assert await run(server.owner_dsn, IN_ORDER.format(name=name)) == [(0,)]


@pytest.mark.parametrize("step", STEPS)
async def test_a_process_killed_at_a_step(
    filled: tuple[Server, set[tuple[str, int]], Callable[[], None]], step: str
) -> None:
    server, places, _ = filled
    name = unique("c")
    dying = started(name, server.owner_dsn, step, 2, batch=7, lease=1)
    await asyncio.to_thread(dying.communicate, None, 60)
    assert dying.returncode == -signal.SIGKILL
    heir = started(name, server.owner_dsn, batch=7, lease=1)
    try:
        await complete(server, name, places)
    finally:
        heir.kill()
        heir.communicate()


async def echoed(server: Server, name: str, count: int, seconds: float = 60) -> None:
    """Waits until so many records were written, and sees that the log has no change more than these."""
    deadline, found = time.monotonic() + seconds, [(0, 0)]
    while found[0][1] < count and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
        found = await run(server.owner_dsn, consuming.ECHOES.format(name=name))
    assert found == [(count, count)]


@pytest.mark.parametrize("step", STEPS)
async def test_what_it_writes_to_synced_data_is_written_once(
    filled: tuple[Server, set[tuple[str, int]], Callable[[], None]], step: str
) -> None:
    server, places, _ = filled
    name = unique("c")
    dying = started(name, server.owner_dsn, step, 2, batch=7, lease=1, echo=True)
    await asyncio.to_thread(dying.communicate, None, 60)
    assert dying.returncode == -signal.SIGKILL
    heir = started(name, server.owner_dsn, batch=7, lease=1, echo=True)
    try:
        await echoed(server, name, len(places))
    finally:
        heir.kill()
        heir.communicate()


async def test_processes_killed_at_random_under_load(
    filled: tuple[Server, set[tuple[str, int]], Callable[[], None]],
) -> None:
    server, places, write = filled
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    drawn, name, other = random.Random(seed), unique("c"), unique("c")
    workers = [started(name, server.owner_dsn, batch=3, lease=1) for _ in range(2)]
    echo = started(other, server.owner_dsn, batch=3, lease=1, echo=True)
    try:
        for _ in range(8):
            await asyncio.to_thread(write)
            await asyncio.sleep(drawn.uniform(0, 0.6))
            place = drawn.randrange(2)
            workers[place].kill()
            workers[place].communicate()
            workers[place] = started(name, server.owner_dsn, batch=3, lease=1)
            echo.kill()
            echo.communicate()
            echo = started(other, server.owner_dsn, batch=3, lease=1, echo=True)
        await complete(server, name, places)
        await echoed(server, other, len(places))
    finally:
        for worker in [*workers, echo]:
            worker.kill()
            worker.communicate()


async def test_backends_killed_at_random(filled: tuple[Server, set[tuple[str, int]], Callable[[], None]]) -> None:
    """Where the answer to the commit is lost, the consumer finds out what became of it."""
    server, places, write = filled
    name = unique("c")
    worker = started(name, server.owner_dsn, batch=3, lease=2)
    ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'syncd consume %'"
    try:
        for _ in range(10):
            await asyncio.to_thread(write)
            await run(server.owner_dsn, ends)
            await asyncio.sleep(0.02)
        # A transaction of the consumer's own that is cut fails in its program, which is then started again.
        heir = started(name, server.owner_dsn, batch=3, lease=1)
        try:
            await complete(server, name, places, 90)
        finally:
            heir.kill()
            heir.communicate()
    finally:
        worker.kill()
        worker.communicate()


async def test_an_acknowledgement_whose_answer_is_lost_counts_once(
    filled: tuple[Server, set[tuple[str, int]], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection ends after the commit and before its answer: it is not done again, and it is not lost either."""
    server, places, _ = filled
    name = unique("c")
    async with aclosing(consume(name, database=server.owner_dsn, app="app", start="beginning", batch=7)) as batches:
        batch = await first_of(batches)
        owner = batch._owner
        settle = owner._settle  # type: ignore[attr-defined]

        def lost(one: object) -> None:
            monkeypatch.setattr(owner, "_settle", settle)
            raise ConnectionResetError("the answer to the commit was lost")

        monkeypatch.setattr(owner, "_settle", lost)
        await batch.ack()
        assert batch.settled
        handed = [(change.space_id, change.seq) for change in batch.changes]
    rest = [(change.space_id, change.seq) for change in await all_of(name, server.owner_dsn)]
    assert sorted(handed + rest) == sorted(places)


async def test_a_process_that_stands_still_within_a_statement_holds_nobody_up(
    filled: tuple[Server, set[tuple[str, int]], Callable[[], None]],
) -> None:
    """It has sent a statement's text and not its values: to the database it is active, not idle in a transaction."""
    server, places, _ = filled
    name = unique("c")
    still = started(name, server.owner_dsn, "prepared", 1, batch=3, lease=1)
    heir = None
    try:
        stopped = await asyncio.to_thread(os.waitid, os.P_PID, still.pid, os.WSTOPPED | os.WEXITED)
        assert stopped is not None
        assert stopped.si_code == os.CLD_STOPPED
        heir = started(name, server.owner_dsn, batch=3, lease=1)
        await complete(server, name, places)
    finally:
        for worker in [still, heir] if heir else [still]:
            worker.kill()
            worker.communicate()


async def test_a_process_that_stood_still_does_nothing_after(
    filled: tuple[Server, set[tuple[str, int]], Callable[[], None]],
) -> None:
    """SIGSTOP for longer than the lease: another takes over; when the first goes on, what it then does is refused."""
    server, places, write = filled
    name = unique("c")
    workers = [started(name, server.owner_dsn, batch=3, lease=1)]
    try:
        assert workers[0].stdout is not None
        await asyncio.to_thread(workers[0].stdout.readline)
        for _ in range(3):
            workers[0].send_signal(signal.SIGSTOP)
            workers.append(started(name, server.owner_dsn, batch=3, lease=1))
            await asyncio.to_thread(write)
            await complete(server, name, places)
            workers[0].send_signal(signal.SIGCONT)
            await asyncio.to_thread(write)
            workers.append(workers.pop(0))
        await complete(server, name, places)
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
