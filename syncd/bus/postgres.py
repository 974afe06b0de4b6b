"""The bus over PostgreSQL: LISTEN and NOTIFY on one connection of its own.

A NOTIFY takes a lock of the whole database at commit, so it is never part of a transaction that writes data.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from syncd.bus.hints import BusError
from syncd.bus.link import CONNECT_WITHIN, HeartbeatBus
from syncd.core.database_url import for_writing
from syncd.postgres.sessions import AT_START, connect, through_pooler

CHANNEL = "syncd_hints"
# On a server that has become read-only nobody who writes is heard: heartbeats end there, and a new link is made.
NOTIFY = (
    "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload "
    "WHERE NOT current_setting('transaction_read_only')::boolean"
)
POOLED = (
    "LISTEN does not work through a pooler, so changes of other workers are found by polling, seconds later: "
    "set SYNCD_LISTEN_URL to the database's direct URL, or SYNCD_BUS to the URL of a NATS server"
)


class NotifyBus(HeartbeatBus):
    """Hints by LISTEN and NOTIFY; `dsn` has to be a direct one, any role will do."""

    def __init__(self, dsn: str) -> None:
        super().__init__("postgres", lambda receive: _connect(dsn, receive))


class _PostgresLink:
    def __init__(self, connection: Any, notify: Any) -> None:
        self._connection, self._notify = connection, notify

    @property
    def closed(self) -> bool:
        return bool(self._connection.is_closed())

    async def send(self, payloads: list[str]) -> None:
        await self._notify.fetch(CHANNEL, payloads)

    async def close(self) -> None:
        # Not close(): that waits for an answer, and the server may be frozen.
        self._connection.terminate()
        await asyncio.sleep(0)


async def _connect(dsn: str, receive: Callable[[str], None]) -> _PostgresLink:
    # Prepared by hand and not before it is known that there is no pooler, which would mix up the names.
    settings = {**AT_START, "application_name": "syncd bus"}
    connection = await connect(for_writing(dsn), settings=settings, timeout=CONNECT_WITHIN, statement_cache_size=0)
    try:
        async with asyncio.timeout(CONNECT_WITHIN):
            await _refuse_pooler(connection)
            await connection.add_listener(CHANNEL, lambda _connection, _pid, _channel, payload: receive(payload))
            return _PostgresLink(connection, await connection.prepare(NOTIFY))
    except BaseException:
        connection.terminate()
        raise


async def _refuse_pooler(connection: Any) -> None:
    """Raises BusError. Heartbeats do not tell: as long as a pooler happens to give the same server, they are heard."""
    if await through_pooler(connection):
        raise BusError(POOLED)
