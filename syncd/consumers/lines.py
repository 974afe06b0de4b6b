"""A consumer's connections: one to read and to say that it is there, one to acknowledge, one to write."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import structlog

from syncd.core.database_url import for_writing
from syncd.postgres.sessions import AT_START, connect, through_pooler
from syncd.store.consumers import ConsumerSession
from syncd.store.pool import GONE

T = TypeVar("T")
log = structlog.get_logger("syncd.consumers")

FIRST_PAUSE, LAST_PAUSE = 0.05, 5.0
# More than a consumer has.
STATEMENTS = 100


def pause(attempt: int, first: float = FIRST_PAUSE, last: float = LAST_PAUSE) -> float:
    """Seconds to wait before the n-th attempt after the first: twice as long each time, and never the same."""
    return float(min(last, first * 2 ** min(attempt, 30)) * random.uniform(0.5, 1))


@dataclass
class StatementsKept:
    """How many statements the connections of a consumer keep prepared. None until the first of them has asked whether a
    pooler stands between, which would mix up their names."""

    most: int | None = None


class ConsumerLine:
    """A connection that is made when it is needed, and again when it was lost. One call at a time. `lease`: seconds
    after which the database ends a transaction in which its process stands still, as that keeps its slots to itself.
    Where it stands still within a statement another process ends it, which knows its connections by the holder.
    `kept`: one that no statement is kept on is for a handler's own, whose tables may be altered meanwhile."""

    def __init__(self, dsn: str, name: str, holder: UUID, lease: float, kept: StatementsKept) -> None:
        self._dsn, self._name, self._holder = for_writing(dsn), name, holder
        self._settings = {
            **AT_START,
            "application_name": f"syncd consume {holder}",
            "idle_in_transaction_session_timeout": f"{int(lease * 1000)}ms",
        }
        self._connection: Any = None
        self._kept = kept
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[ConsumerSession]:
        """The connection, for as long as the block takes. One that fails in it is not used again."""
        async with self._turn:
            if self._connection is None or self._connection.is_closed():
                self._connection = await self._connected()
            try:
                yield ConsumerSession(self._connection, self._name, self._holder)
            except (*GONE, asyncio.CancelledError):
                self._connection.terminate()
                self._connection = None
                raise

    async def _connected(self) -> Any:
        """A connection that keeps its statements prepared, so that a call is one message and its answer."""
        if self._kept.most is None:
            first = await self._connect(0)
            try:
                pooled = await through_pooler(first)
            except BaseException:
                first.terminate()
                raise
            if pooled:
                self._kept.most = 0
                return first
            self._kept.most = STATEMENTS
            first.terminate()
        return await self._connect(self._kept.most)

    async def _connect(self, kept: int) -> Any:
        return await connect(self._dsn, settings=self._settings, timeout=10, statement_cache_size=kept)

    async def steadily(self, work: Callable[[ConsumerSession], Awaitable[T]]) -> T:
        """What `work` returns. While the database is away it is tried again."""
        attempt = 0
        while True:
            try:
                async with self.session() as session:
                    return await work(session)
            except GONE as why:
                if not attempt:
                    log.warning("the database is away: trying again", consumer=self._name, error=type(why).__name__)
                await asyncio.sleep(pause(attempt))
                attempt += 1

    async def close(self) -> None:
        if self._connection is not None:
            with suppress(*GONE):
                await self._connection.close(timeout=2)
