"""One user's work leaves connections for everybody else's."""

from __future__ import annotations

import asyncio

from syncd.postgres.embedded import EmbeddedPostgres
from syncd.store.pool import Pool
from syncd.store.turns import ACTING


async def test_heavy_calls_of_one_user_leave_connections_for_the_others(database: EmbeddedPostgres) -> None:
    """More calls of one user than there are connections; another one's is answered before any of them ends."""
    pool, hold, begun = Pool(database.runtime_dsn, size=4), asyncio.Event(), list[str]()

    async def heavy() -> None:
        ACTING.set("greedy")
        async with pool.connection() as connection:
            begun.append("greedy")
            await connection.fetchval("SELECT 1")
            await hold.wait()

    async def light(user: str) -> int:
        ACTING.set(user)
        return int(await pool.attempt(lambda connection: connection.fetchval("SELECT 1")))

    await pool.open()
    tasks = [asyncio.create_task(heavy()) for _ in range(10)]
    try:
        for user in ("ann", "bob", "ann"):
            assert await asyncio.wait_for(asyncio.create_task(light(user)), 30) == 1
        assert len(begun) == 2
        hold.set()
        await asyncio.gather(*tasks)
        assert len(begun) == 10
    finally:
        hold.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        await pool.close()
