"""A worker's process. It may be killed anywhere: what it did is in the database whole, or not at all.

Two workers never both have a run, since the database decides: a claim locks a row of `task_runs`, marks it and commits,
and others pass over a locked row. A worker that is not heard of for LEASE seconds loses its run to another. Each claim
has the next `attempt`, and whatever a worker keeps of a run first asks, under the row's lock, whether the attempt is
still its own. So one that was only slow, or stopped, keeps nothing. The clock is the database's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import asyncpg

import syncd
from examples.tasks import keystore
from examples.tasks.runs import Call, Outcome, Run, Task, replay
from syncd.core.errors import Malformed

APP, LEASE, IDLE = "tasks", float(os.environ.get("TASKS_LEASE", "15")), 0.2
OWNER = f"{os.uname().nodename}:{os.getpid()}"
TABLE = """
SELECT pg_advisory_xact_lock(7315);
CREATE TABLE IF NOT EXISTS task_runs (
    space text, id text, person text NOT NULL, task text NOT NULL, input jsonb NOT NULL, parent text,
    results jsonb NOT NULL DEFAULT '[]', state text NOT NULL DEFAULT 'queued', attempt integer NOT NULL DEFAULT 0,
    owner text, lease timestamptz, made timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (space, id));
CREATE INDEX IF NOT EXISTS task_runs_open ON task_runs (made) WHERE state IN ('queued', 'running');
"""
ADD = """
INSERT INTO task_runs (space, id, person, task, input, parent) VALUES ($1, $2, $3, $4, $5::text::jsonb, $6)
ON CONFLICT DO NOTHING"""
NEXT = """
SELECT space, id, person, task, input::text, results::text, parent, attempt + 1 AS attempt FROM task_runs
WHERE state = 'queued' OR state = 'running' AND lease < now() ORDER BY made LIMIT 1 FOR UPDATE SKIP LOCKED"""
LEND = """
UPDATE task_runs SET state = 'running', attempt = $3, lease = clock_timestamp() + $4 * interval '1 second', owner = $5
WHERE space = $1 AND id = $2 RETURNING lease"""
HOLD = "SELECT id FROM task_runs WHERE space = $1 AND id = $2 AND attempt = $3 AND state = 'running' FOR UPDATE"
MOVE = """
UPDATE task_runs SET state = $4 WHERE space = $1 AND id = $2 AND attempt = $3 AND state = 'running' RETURNING id"""
RESUME = "UPDATE task_runs SET state = 'queued', results = results || $3::text::jsonb WHERE space = $1 AND id = $2"


async def serve(database: str, tasks: dict[str, Task]) -> None:
    """Queues what the phones ask for, and works. What fails is tried again."""
    async with asyncpg.create_pool(database, min_size=1, max_size=4) as pool:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(TABLE + keystore.TABLE)
        await asyncio.gather(_steadily(lambda: _queue(pool, database)), _steadily(lambda: _work(pool, tasks)))


async def _steadily(does: Any) -> None:
    while True:
        try:
            await does()
        except Exception:
            logging.exception("begun again")
            await asyncio.sleep(IDLE)


async def _queue(pool: Any, database: str) -> None:
    """A row for each run that somebody made; the children's are there already."""
    async for batch in syncd.consume("tasks", database=database, app=APP, tables=["runs"], lease=LEASE):
        async with batch.transaction() as connection:
            for change in batch.changes:
                if change.op == "insert" and isinstance(change.values.get("task"), str):
                    task, given = change.values["task"], json.dumps(change.values.get("input"))
                    await connection.execute(ADD, change.space_id, change.id, change.user_id, task, given, None)


async def _work(pool: Any, tasks: dict[str, Task]) -> None:
    """One run after the other."""
    while True:
        if (run := await _claimed(pool)) is None:
            await asyncio.sleep(IDLE)
            continue
        run.ask = _asking(pool, run.space)
        beating = asyncio.create_task(_steadily(lambda: _beat(pool, run)))
        try:
            came = await asyncio.to_thread(replay, run, tasks)
        finally:  # a run that could not have its secret is begun again when it is not heard of any more
            beating.cancel()
            await asyncio.wait([beating])
        try:
            await _keep(pool, run, came)
        except (syncd.WriteRefused, Malformed, asyncpg.DataError) as why:  # it would be so each time
            run.writes.clear()
            await _keep(pool, run, {"error": repr(why)})


def _asking(pool: Any, space: str) -> Callable[[str], str]:
    """Asks for a secret from the thread in which a task runs."""
    loop = asyncio.get_running_loop()
    return lambda name: asyncio.run_coroutine_threadsafe(keystore.secret(pool, space, name), loop).result()


async def _claimed(pool: Any) -> Run | None:
    """A run that waits for a worker, or whose worker is not heard of any more. It is this worker's from now on."""
    async with pool.acquire() as connection, connection.transaction():
        if (row := await connection.fetchrow(NEXT)) is None:
            return None
        run = Run(**{**row, "input": json.loads(row["input"]), "results": json.loads(row["results"])})
        await _lend(connection, run)
        return run


async def _beat(pool: Any, run: Run) -> None:
    """Says after a while that this worker is there, and has the run still."""
    await asyncio.sleep(LEASE / 3)
    async with pool.acquire() as connection, connection.transaction():
        if await connection.fetchval(HOLD, run.space, run.id, run.attempt):
            await _lend(connection, run)


async def _lend(connection: Any, run: Run) -> None:
    lease = await connection.fetchval(LEND, run.space, run.id, run.attempt, LEASE, OWNER)
    shown = {"state": "running", "owner": OWNER, "lease": lease, "attempt": run.attempt}
    await _show(connection, run, [run.record("runs", run.id, shown)], on_refused="return")


async def _keep(pool: Any, run: Run, came: Call | Outcome) -> None:
    """What the task came to: its row and its record, and those of parent or child, and what it writes, in one
    transaction. Nothing, where another worker has the run by now."""
    state = "waiting" if isinstance(came, Call) else "failed" if "error" in came else "done"
    async with pool.acquire() as connection, connection.transaction():
        if not await connection.fetchval(MOVE, run.space, run.id, run.attempt, state):
            return
        changes = list(run.writes)
        if isinstance(came, Call):
            child, given = str(uuid4()), json.dumps(came.input)
            await connection.execute(ADD, run.space, child, run.person, came.task, given, run.id)
            asked = {"task": came.task, "input": came.input, "parent": run.id, "state": "queued"}
            changes, fields = [run.record("runs", child, asked)], {"child": child, "step": len(run.results) + 1}
        else:
            fields = came
            if run.parent:
                await connection.execute(RESUME, run.space, run.parent, json.dumps([came]))
                changes.append(run.record("runs", run.parent, {"state": "queued"}))
        changes.append(run.record("runs", run.id, {**fields, "state": state, "owner": None, "lease": None}))
        await _show(connection, run, changes, on_refused="return" if state == "failed" else "raise")


async def _show(connection: Any, run: Run, changes: list[dict[str, Any]], **how: Any) -> None:
    """Last in each transaction: devices that push to the same space wait from there to its commit."""
    await syncd.write(connection, user=run.person, app=APP, client="tasks", changes=changes, **how)
