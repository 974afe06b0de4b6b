"""What takes many slots of a consumer locks them in the order of an acknowledgement: neither waits for the other."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from syncd.store.consumers import ConsumerOperator
from tests.support.consuming import eventually
from tests.support.harness import Server
from tests.support.wire import unique

SLOT = (
    "SELECT s.slot FROM syncd.sync_consumer_slots s JOIN syncd.sync_consumers c USING (consumer_id)"
    " WHERE c.name = $1 AND s.slot = $2 FOR SHARE OF s NOWAIT"
)
MOVED = (
    "UPDATE syncd.sync_consumer_slots s SET lease = s.lease FROM syncd.sync_consumers c"
    " WHERE c.consumer_id = s.consumer_id AND c.name = $1 AND s.slot = $2"
)
AS_THEY_LIE = (
    "SELECT s.slot FROM syncd.sync_consumer_slots s JOIN syncd.sync_consumers c USING (consumer_id)"
    " WHERE c.name = $1 ORDER BY s.ctid"
)
WAITS = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1"


@pytest.mark.parametrize(
    "call",
    [
        "syncd.sync_consumer_reset($1, 'now')",
        "syncd.sync_consumer_rewind($1, now())",
        "syncd.sync_consume_leave($1, $2::uuid)",
    ],
)
async def test_slots_are_locked_in_their_order(server: Server, call: str) -> None:
    name, holder = unique("c"), uuid4()
    acking, other, looking = [await asyncpg.connect(server.owner_dsn) for _ in range(3)]
    await ConsumerOperator(looking).add(name, "syncd_owner", None, None, "beginning")
    await looking.execute("SELECT syncd.sync_consume_lease($1, $2, 60, false)", name, holder)
    low, high = await out_of_order(looking, name)
    given = (name, holder) if "$2" in call else (name,)
    await other.execute("SET enable_indexscan = off; SET enable_bitmapscan = off")
    async with acking.transaction():
        assert await acking.fetchval(SLOT, name, low) == low
        calling = asyncio.create_task(other.execute(f"SELECT {call}", *given))
        pid = other.get_server_pid()
        await eventually(lambda: looking.fetchval(WAITS, pid), bool)
        assert await acking.fetchval(SLOT, name, high) == high
    await calling
    for connection in (acking, other, looking):
        await connection.close()


async def out_of_order(connection: asyncpg.Connection, name: str) -> tuple[int, int]:
    """Two slots of which the higher one lies before the lower one: a scan comes to it first."""
    for slot in range(63, 43, -1):
        lying = [row[0] for row in await connection.fetch(AS_THEY_LIE, name)]
        for place, low in enumerate(lying):
            if place and max(lying[:place]) > low:
                return low, max(lying[:place])
        await connection.execute(MOVED, name, slot)
    raise AssertionError("the slots lie in order whatever is written")
