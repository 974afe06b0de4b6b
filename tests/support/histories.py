"""Workers on databases that were restored, cloned or copied."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from syncd.core.errors import CursorLost
from syncd.core.principal import Principal
from syncd.protocol.messages import PushBody
from syncd.protocol.normalize import Limits
from syncd.protocol.page_token import read_bookmark
from syncd.protocol.pull_messages import PullRequest
from syncd.service import history as past
from syncd.service.event_ids import EventIds
from syncd.service.history import Moment, RecordPlace
from syncd.service.pull import pull
from syncd.service.push import PushRequest, PushService
from syncd.store.history import History
from syncd.store.log import Log, cursor_key
from syncd.store.pool import Pool

LIMITS = Limits(1000, 1 << 20, 64, None)


class Worker:
    """What a worker does in one database, for a device of ann's."""

    def __init__(self, pool: Pool, key: bytes) -> None:
        self._log, self._key, self._turn, self._past = Log(pool), key, 0, History(pool)

    async def write(self, count: int, record: str | None = None) -> None:
        """New records, or changes of one, one push each."""
        for _ in range(count):
            self._turn += 1
            name = os.urandom(8).hex()
            register = {"value": self._turn, "at": f"2026-01-01T00:00:00.{self._turn:03}Z"}
            change = {"table": "t", "id": record or name, "op": "update", "changeId": name, "fields": {"x": register}}
            text = msgspec.json.encode({"changes": [change], "pull": False})
            body, now = msgspec.json.decode(text, type=PushBody), time.time_ns() // 1000
            wanted = PullRequest("app", plain=False)
            answer = await PushService(self._log, self._key, LIMITS, 30_000_000).push(
                PushRequest(Principal("ann"), "phone", wanted, text, body, now, EventIds(now))
            )
            assert [result.status for result in answer.results] == ["applied"]

    async def cursor(self, since: str = "") -> str:
        """Where a device is that has everything."""
        return (await pull(self._log, self._key, Principal("ann"), PullRequest("app", since, plain=False))).synced_until

    async def lost(self, since: str) -> bool:
        """Whether a pull says that the cursor is lost, as one for the history does."""
        said = set()
        for history in (False, True):
            try:
                await pull(
                    self._log, self._key, Principal("ann"), PullRequest("app", since, plain=False, history=history)
                )
                said.add(False)
            except CursorLost:
                said.add(True)
        assert len(said) == 1
        return said.pop()

    async def changes(self, after: str | None = None) -> tuple[list[int], str]:
        """A page of the record r's changes: what they wrote, and where the next page begins."""
        place, bookmark = RecordPlace("app", "_personal:ann", "t", "r"), after and read_bookmark(after)
        page = msgspec.json.decode(await past.changes(self._past, Principal("ann"), place, 2, None, bookmark or None))
        return [change["fields"]["x"]["value"] for change in page["changes"]], page["next"]

    async def space(self, after: str | None = None) -> tuple[int, str]:
        """A page of the space as it is, or on from another: how many records, and where the next page begins."""
        place, bookmark = RecordPlace("app", "_personal:ann"), after and read_bookmark(after)
        page = msgspec.json.decode(await past.space(self._past, Principal("ann"), place, Moment(), 2, bookmark or None))
        return len(page["records"]), page["next"]


@asynccontextmanager
async def worker(dsn: str) -> AsyncIterator[Worker]:
    """One that is connected."""
    pool = Pool(dsn, size=2)
    await pool.open()
    try:
        yield Worker(pool, await cursor_key(pool))
    finally:
        await pool.close()


async def two_lines(here: str, there: str, shared: str, ours: str, theirs: str) -> None:
    """`there` was made from `here`. shared: a cursor from before that; ours and theirs: from after it, of either."""
    async with worker(here) as old, worker(there) as new:
        for turn in range(2):
            assert [await new.lost(since) for since in (shared, ours, theirs)] == [False, True, False]
            if old is not new:
                assert [await old.lost(since) for since in (shared, ours, theirs)] == [False, False, True]
            if turn == 0:
                await new.write(9)
                await old.write(9)


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)
