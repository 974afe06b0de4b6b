"""Erasures: asked for as an operator does, and a canary looked for in every table."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Callable
from typing import Any

import asyncpg

from tests.support.command_line import syncd
from tests.support.consuming import eventually
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.programs import REPOSITORY

TABLES = (
    """SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'syncd'::regnamespace AND c.relkind = 'r' ORDER BY 1"""
)
# A server that waits for the same lock is not meant.
WAITING = """SELECT count(*) FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND strpos(query, 'syncd.sync_erase_') > 0 AND pid <> pg_backend_pid()"""
FIND = "SELECT count(*) FROM syncd.{} x WHERE strpos(to_jsonb(x)::text, $1) > 0 OR strpos(to_jsonb(x)::text, $2) > 0"


def erase(server: Server, *arguments: str, ok: bool = True) -> str:
    """`syncd erase`: what it printed, or what it said where it refused."""
    done = syncd("erase", *arguments, "--database-url", server.owner_dsn)
    assert (done.returncode == 0) == ok, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.strip() if ok else done.stderr


def checked(server: Server, receipt: str) -> dict[str, Any]:
    """The facts of a receipt, which the server knows for its own."""
    facts: dict[str, Any] = json.loads(erase(server, "check", receipt))
    return facts


def tables_with(server: Server, text: str) -> list[str]:
    """The tables that have a text in any column, bytes included."""
    return asyncio.run(_tables_with(server.owner_dsn, text))


def ask(server: Server, statement: str) -> list[Any]:
    """What a statement of an operator's answers."""
    return asyncio.run(run(server.owner_dsn, statement))


def kill_while_it_waits(server: Server, lock: str, *arguments: str) -> None:
    """`syncd erase`, killed as soon as it waits for what a statement has locked."""
    asyncio.run(_kill_while_it_waits(server, lock, *arguments))


def killed_at_each_step(server: Server, how: str, *arguments: str) -> tuple[int, str]:
    """`syncd erase`, begun again until it ends: the first time it is killed at its first call to the database, then at
    its second, and so on, "after" each or "within" it. How often it was killed, and the receipt."""
    for nth in range(1, 100):
        command = [sys.executable, "-m", "tests.support.dying", how, str(nth), "erase", *arguments]
        done = subprocess.run(
            [*command, "--database-url", server.owner_dsn], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return nth - 1, done.stdout.strip()
        assert done.returncode == -signal.SIGKILL, done.stderr
    raise AssertionError("it never ended")


def while_it_waits(server: Server, lock: str, meanwhile: Callable[[], Any], *arguments: str) -> tuple[int, str, str]:
    """`syncd erase`, where something happens while it waits for what a statement locks: code, output, errors."""
    return asyncio.run(_while_it_waits(server, lock, meanwhile, *arguments))


async def _while_it_waits(
    server: Server, lock: str, meanwhile: Callable[[], Any], *arguments: str
) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "syncd", "erase", *arguments, "--database-url", server.owner_dsn]
    conn, watch = await asyncpg.connect(server.owner_dsn), await asyncpg.connect(server.owner_dsn)
    try:
        async with conn.transaction():
            await conn.execute(lock)
            running = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
            await eventually(lambda: watch.fetchval(WAITING), bool)
            await asyncio.to_thread(meanwhile)
        said, wrong = await running.communicate()
        return running.returncode or 0, said.decode(), wrong.decode()
    finally:
        await conn.close()
        await watch.close()


async def _kill_while_it_waits(server: Server, lock: str, *arguments: str) -> None:
    command = [sys.executable, "-m", "syncd", "erase", *arguments, "--database-url", server.owner_dsn]
    conn, watch = await asyncpg.connect(server.owner_dsn), await asyncpg.connect(server.owner_dsn)
    try:
        async with conn.transaction():
            await conn.execute(lock)
            running = await asyncio.create_subprocess_exec(*command)
            await eventually(lambda: watch.fetchval(WAITING), bool)
            running.kill()
            await running.wait()
    finally:
        await conn.close()
        await watch.close()


async def _tables_with(dsn: str, text: str) -> list[str]:
    conn = await asyncpg.connect(dsn)
    try:
        names = [row[0] for row in await conn.fetch(TABLES)]
        return [name for name in names if await conn.fetchval(FIND.format(name), text, text.encode().hex())]
    finally:
        await conn.close()


def outcomes(answer: Any) -> list[str]:
    """Of each change of a push its status, or the code of what was refused."""
    return [result.get("code", result["status"]) for result in answer["results"]]


def until(check: Callable[[], Any], seconds: float = 60) -> None:
    """Waits until something is so."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def dead(server: Server, text: str, **change: object) -> None:
    """A message of one change that a webhook never took, as the sender keeps it."""
    told = {"type": "syncd.changes", "data": {"webhook": "w", "changes": [{"values": {"text": text}, **change}]}}
    asyncio.run(_dead(server.owner_dsn, json.dumps(told, indent=1).encode()))


async def _dead(dsn: str, body: bytes) -> None:
    conn = await asyncpg.connect(dsn)
    try:
        await conn.execute(
            "INSERT INTO syncd.sync_consumers (name, role, begins) VALUES ('w', 'postgres', 'now') "
            "ON CONFLICT DO NOTHING"
        )
        await conn.execute(
            "INSERT INTO syncd.sync_webhooks (consumer_id, url, secret, buckets, said, state) "
            "SELECT consumer_id, 'https://example.com', sha256('x'), '{}', 'it said', 'paused' "
            "FROM syncd.sync_consumers "
            "WHERE name = 'w' ON CONFLICT DO NOTHING"
        )
        await conn.execute(
            "INSERT INTO syncd.sync_webhook_dead (consumer_id, message_id, body, attempts, reason) "
            "SELECT consumer_id, 'm', $1, 1, 'never' FROM syncd.sync_consumers WHERE name = 'w'",
            body,
        )
    finally:
        await conn.close()
