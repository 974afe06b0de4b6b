"""What writers tried, what was acknowledged, and whether the server kept its word. For tests that break things."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import asyncpg
import httpx

from tests.support.device import Change, Device
from tests.support.harness import Server

RECORDS = 4
SPACE = "ledger"


class Ledger:
    """By change id: the push it was part of, and the place it got where that was acknowledged."""

    def __init__(self) -> None:
        self.attempted: dict[str, str] = {}
        self.acknowledged: dict[str, tuple[str, int]] = {}
        self.statuses: set[int] = set()


class Writer:
    """Writes the same value to four records in each push; sends again when there was no answer, or gives it up."""

    def __init__(self, server: Server, ledger: Ledger, number: int, seed: int) -> None:
        self.name = f"writer-{number}"
        self.device = Device(server, self.name, f"{self.name}-device", timeout=20)
        self.ledger, self.chance = ledger, random.Random(seed)
        self.stopping = asyncio.Event()
        self.pushes = 0

    async def run(self) -> None:
        """Until told to stop; the last push is either acknowledged or given up."""
        while not self.stopping.is_set():
            self.pushes += 1
            value = f"{self.name}:{self.pushes}"
            at = self.device.clock()
            changes = [
                self.device.change(f"{value}:{n}", f"{self.name}-{n}", value, space=SPACE, at=at)
                for n in range(RECORDS)
            ]
            for change in changes:
                self.ledger.attempted[change["changeId"]] = value
            tries = self.chance.choice((1, 3, 1000))
            while tries and not await self.acknowledged(changes) and not self.stopping.is_set():
                tries -= 1
                await asyncio.sleep(0.05)

    async def acknowledged(self, changes: list[Change]) -> bool:
        """Sends a push once; notes the places that the answer gives."""
        try:
            response = await self.device.send(changes)
        except httpx.HTTPError:
            return False
        self.ledger.statuses.add(response.status_code)
        if response.status_code != 200:
            return False
        for result in response.json()["results"]:
            assert result["status"] in ("applied", "duplicate", "superseded"), result
            self.ledger.acknowledged[result["changeId"]] = (result["eventId"], result["seq"])
        return True


class Reader:
    """Follows the log with pages of one size, whatever happens to the server."""

    def __init__(self, server: Server, limit: int) -> None:
        self.device = Device(server, "reader", f"pages-of-{limit}", timeout=20)
        self.limit, self.output = limit, server.output
        self.stream: list[Change] = []
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        """Until told to stop, and then to the end of the log."""
        since = ""
        while True:
            last = self.stopping.is_set()
            try:
                response = await self.device.ask(since, limit=self.limit, history=1)
            except httpx.HTTPError:
                await asyncio.sleep(0.05)
                continue
            if response.status_code != 200:
                # Above all never 410: what a reader has seen is never lost by a crash.
                assert response.status_code == 503, f"{response.text}\n{self.output()[-3000:]}"
                await asyncio.sleep(0.05)
                continue
            page = response.json()
            self.stream += page["serverChanges"]
            since = page["syncedUntil"]
            if last and not page["hasMore"]:
                return
            if not page["hasMore"]:
                await asyncio.sleep(0.01)


class Load:
    """Writers and readers of one shared space, all the time."""

    def __init__(self, server: Server, seed: int, *, writers: int = 6) -> None:
        self.server, self.ledger = server, Ledger()
        self.writers = [Writer(server, self.ledger, n, seed + n) for n in range(writers)]
        self.readers = [Reader(server, limit) for limit in (1, 7, 1000)]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Makes the space and sets everybody going."""
        members = {writer.name: "writer" for writer in self.writers}
        async with Device(self.server, "owner") as owner:
            await owner.create_space(SPACE, **members, reader="reader")
        self._tasks = [asyncio.create_task(one.run()) for one in (*self.writers, *self.readers)]

    async def progress(self, pushes: int = 10, seconds: float = 90) -> None:
        """Waits until so many more pushes were acknowledged: nothing having worked is a failure too."""
        wanted = len(self.ledger.acknowledged) + pushes * RECORDS
        async with asyncio.timeout(seconds):
            while len(self.ledger.acknowledged) < wanted:
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Ends writing, then reading; raises what went wrong in either."""
        for one in self.writers:
            one.stopping.set()
        await asyncio.gather(*self._tasks[: len(self.writers)])
        await self._still()
        for other in self.readers:
            other.stopping.set()
        # A reader of small pages may be far behind; it must get on, however long it takes.
        while unfinished := [task for task in self._tasks if not task.done()]:
            read = sum(len(reader.stream) for reader in self.readers)
            await asyncio.wait(unfinished, timeout=20)
            assert sum(len(reader.stream) for reader in self.readers) > read or all(t.done() for t in unfinished)
        await asyncio.gather(*self._tasks)

    async def _still(self) -> None:
        """What was given up may still be on its way to the log: until that has not grown for a second."""
        connection, sizes = await asyncpg.connect(self.server.owner_dsn), list[int]()
        async with asyncio.timeout(60):
            while len(sizes) < 10 or len({*sizes[-10:]}) > 1:
                sizes.append(await connection.fetchval("SELECT count(*) FROM syncd.sync_changes"))
                await asyncio.sleep(0.1)
        await connection.close()

    async def close(self) -> None:
        """Ends what is left of it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in (*self.writers, *self.readers):
            await one.device.close()


async def check(load: Load) -> None:
    """Everything that must be true when all is well again."""
    ledger, streams = load.ledger, [reader.stream for reader in load.readers]
    delivered = {change["changeId"]: change for change in streams[0]}
    assert len(ledger.acknowledged) > 0
    assert ledger.statuses <= {200, 503}, f"{ledger.statuses}\n{load.server.output()[-3000:]}"
    log = await stored(load.server)
    assert [row["seq"] for row in log] == list(range(1, len(log) + 1))
    assert {row["change_id"] for row in log} <= set(ledger.attempted)
    for change_id, (event_id, seq) in ledger.acknowledged.items():
        row = log[seq - 1]
        assert (row["change_id"], str(row["event_id"])) == (change_id, event_id)
    assert [change["seq"] for change in streams[0]] == [row["seq"] for row in log if row["won"]]
    assert set(delivered) <= set(ledger.attempted)
    assert all(stream == streams[0] for stream in streams)
    whole_pushes(log, ledger)
    await same_state(load, streams[0])


async def none_is_open(connection: asyncpg.Connection, more: str = "") -> None:
    """No transaction is left open: those that are just under way end."""
    opened = f"SELECT pid FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' {more}"
    async with asyncio.timeout(60):
        open_ = set(await connection.fetch(opened))
        while open_:
            await asyncio.sleep(0.1)
            open_ &= set(await connection.fetch(opened))


async def stored(server: Server) -> list[Any]:
    """The log as it is in the database, by its superuser; and no transaction is left open there."""
    connection = await asyncpg.connect(server.owner_dsn)
    try:
        await none_is_open(connection)
        return list(
            await connection.fetch(
                "SELECT c.seq, c.change_id, c.event_id, c.push_end, c.fields IS NOT NULL AS won "
                "FROM syncd.sync_changes c JOIN syncd.sync_spaces s USING (space_no) WHERE s.space_id = $1 "
                "ORDER BY c.seq",
                SPACE,
            )
        )
    finally:
        await connection.close()


def whole_pushes(log: list[Any], ledger: Ledger) -> None:
    """Every push is there with all its changes, side by side, or not at all."""
    for at in range(0, len(log), RECORDS):
        pushes = {ledger.attempted[row["change_id"]] for row in log[at : at + RECORDS]}
        assert len(pushes) == 1, (at, pushes)
        assert {row["push_end"] for row in log[at : at + RECORDS]} == {at + RECORDS}


async def same_state(load: Load, stream: list[Change]) -> None:
    """A device that applied the log, and one that begins now, hold the same; four records of a writer one value."""
    applied = {change["id"]: change["fields"]["value"]["value"] for change in stream}
    async with Device(load.server, "reader", "fresh") as fresh:
        state, _ = await fresh.drain()
    assert {change["id"]: change["fields"]["value"]["value"] for change in state} == applied
    for writer in load.writers:
        values = {applied.get(f"{writer.name}-{n}") for n in range(RECORDS)}
        assert len(values) == 1, (writer.name, values)
