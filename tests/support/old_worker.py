"""A worker of before the baseline: what it runs while its database is upgraded."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from functools import partial
from uuid import uuid4

import asyncpg

from syncd.postgres.embedded import EmbeddedPostgres

# What a worker of then ran, word for word.
OLD_PUSH = "SELECT seqs, marks, detail::text, page FROM syncd.sync_push($1::jsonb, $2::integer[], $3::json[], $4::text)"
OLD_PULL = "SELECT * FROM syncd.sync_pull($1::jsonb)"
OLD_LIVE = "SELECT * FROM syncd.sync_live($1::jsonb)"
OLD_MEMBERS = "SELECT * FROM syncd.sync_member_list($1)"


class OldWorker:
    """A worker of then: its own statements, prepared once, on a connection of the role that serves."""

    def __init__(self, conn: asyncpg.Connection, client: str) -> None:
        self.conn, self.client = conn, client
        self.seqs: list[int] = []

    @classmethod
    async def start(cls, database: EmbeddedPostgres, name: str, client: str) -> OldWorker:
        worker = cls(await asyncpg.connect(database.dsn("syncd_runtime", name)), client)
        worker.push_ = await worker.conn.prepare(OLD_PUSH)
        worker.pull_ = await worker.conn.prepare(OLD_PULL)
        worker.live_ = await worker.conn.prepare(OLD_LIVE)
        return worker

    async def push(self, *, plain: bool) -> None:
        """A change of a record of its own: alone, or as one of two."""
        changes = []
        count = 1 if plain else 2
        for place in range(1, count + 1):
            stamp = {"value": len(self.seqs), "at": f"2026-06-01T00:00:00.{len(self.seqs) + place:06d}Z"}
            micros = 1780272000000000 + len(self.seqs) + place
            changes.append({
                "i": place, "s": 1, "t": 1, "r": f"{self.client}-{place}", "o": 2, "c": uuid4().hex, "e": str(uuid4()),
                "f": {"x": stamp}, "g": {"x": {**stamp, "clientId": self.client}}, "lo": micros, "hi": micros,
            })  # fmt: skip
        head = {
            "user": "ann", "client": self.client, "app": "app", "n": count, "spaces": ["team"], "tables": ["t"],
            "ids": [change["c"] for change in changes], "hi": micros, "skew": 60000000, "largest": 1 << 20,
        }  # fmt: skip
        rows = await self.push_.fetch(json.dumps([head]), [1], [json.dumps(changes)], "5s")
        assert rows[0][1] == "a" * count
        self.seqs += rows[0][0]

    async def read(self) -> None:
        """A pull, a live reading and the members, by their places."""
        call = {"user": "ann", "app": "app", "since": {}, "how": {"limit": 100, "bytes": 1 << 20}}
        page = (await self.pull_.fetch(json.dumps([call])))[0]
        assert len(page) == 11
        assert b'"serverChanges"' not in page[0]
        assert b"eventId" in page[0]
        async with self.conn.transaction():
            user = await self.conn.fetchval("SELECT syncd.sync_act_as('ann')")
            space = await self.conn.fetchval("SELECT space_no FROM syncd.sync_spaces WHERE space_id = 'team'")
            assert len(await self.conn.fetch(OLD_MEMBERS, "team")) == 3
        reading = {"user": user, "space": space, "app": "app", "after": 0, "limit": 10, "bytes": 1 << 20}
        news = (await self.live_.fetch(json.dumps([reading])))[0]
        assert len(news) == 10
        assert news[0] >= news[1] > 0

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.once(partial(self.push, plain=True))
            await self.once(partial(self.push, plain=False))
            await self.once(self.read)

    async def once(self, work: Callable[[], Awaitable[None]]) -> None:
        """As its pool does: who waits for a migration that waits for it may be the one that begins again."""
        for _ in range(5):
            with contextlib.suppress(asyncpg.DeadlockDetectedError):
                return await work()
        return await work()
