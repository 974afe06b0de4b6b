"""Secrets by name, which tasks may ask for: `run.secret("mail")`. Kept encrypted, and in no synced record.

TASKS_KEY is the key, as `python -m examples.tasks.keystore key` makes one. Of several, with a comma between, the first
encrypts and all are read by. A value's space and name are encrypted with it, so that no row stands for another.

    python -m examples.tasks.keystore set SPACE NAME < FILE    (SPACE "*": for the runs of all spaces)
    python -m examples.tasks.keystore list | remove SPACE NAME | rotate
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import asyncpg
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from examples.tasks.runs import NoSecret

LEAST = 8  # characters: what is shorter is found in texts that have nothing to do with it
TABLE = """
CREATE TABLE IF NOT EXISTS task_secrets (
    space text, name text, value bytea NOT NULL, since timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (space, name));
"""
SET = """
INSERT INTO task_secrets (space, name, value) VALUES ($1, $2, $3)
ON CONFLICT (space, name) DO UPDATE SET value = EXCLUDED.value, since = now()"""
GET = "SELECT space, value FROM task_secrets WHERE space IN ($1, '*') AND name = $2 ORDER BY space = '*' LIMIT 1"


class Unopened(Exception):
    """No key of TASKS_KEY opens it. It says the name alone. A worker whose key is older than the value passes by."""


def keys() -> MultiFernet:
    """The keys of the environment. Raises NoSecret without one."""
    try:
        return MultiFernet([Fernet(key.strip()) for key in os.environ["TASKS_KEY"].split(",")])
    except (KeyError, ValueError):
        raise NoSecret("TASKS_KEY is not set to a key") from None


def sealed(space: str, name: str, value: str) -> bytes:
    """A value as it is kept. Raises ValueError for one that is too short."""
    if len(value) < LEAST:
        raise ValueError(f"a secret has {LEAST} characters at least")
    return keys().encrypt(json.dumps([space, name, value]).encode())


async def secret(pool: Any, space: str, name: str) -> str:
    """The value that a run of this space may have. Raises NoSecret, Unopened."""
    row = await pool.fetchrow(GET, space, name)
    if row is None:
        raise NoSecret(name)
    try:
        *place, value = json.loads(keys().decrypt(row["value"]))
    except InvalidToken:
        raise Unopened(f"{name}: TASKS_KEY does not open it") from None
    if place != [row["space"], name]:
        raise NoSecret(f"{name}: the row is of another secret")
    return str(value)


async def rotate(connection: Any) -> int:
    """Encrypts all values with the newest key, in one transaction; their number. Raises Unopened with the names of
    those that no key opens: then none is changed."""
    known, new, unopened = keys(), [], []
    async with connection.transaction():
        rows = await connection.fetch("SELECT space, name, value FROM task_secrets ORDER BY space, name FOR UPDATE")
        for space, name, value in rows:
            try:
                new.append((space, name, known.rotate(value)))
            except InvalidToken:
                unopened.append(f"{space} {name}")
        if unopened:
            raise Unopened(f"nothing is rotated, as no key opens: {', '.join(unopened)}")
        await connection.executemany("UPDATE task_secrets SET value = $3 WHERE space = $1 AND name = $2", new)
    return len(rows)


async def _command(words: list[str]) -> None:
    connection = await asyncpg.connect(os.environ["TASKS_DATABASE"])
    try:
        await connection.execute(TABLE)
        match words:
            case ["set", space, name]:
                await connection.execute(SET, space, name, sealed(space, name, sys.stdin.read().removesuffix("\n")))
            case ["list"]:
                for space, name, since in await connection.fetch("SELECT space, name, since FROM task_secrets"):
                    print(space, name, since.isoformat())
            case ["remove", space, name]:
                await connection.execute("DELETE FROM task_secrets WHERE space = $1 AND name = $2", space, name)
            case ["rotate"]:
                try:
                    print(await rotate(connection))
                except Unopened as why:
                    sys.exit(str(why))
            case _:
                sys.exit(__doc__)
    finally:
        await connection.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["key"]:
        print(Fernet.generate_key().decode())
    else:
        asyncio.run(_command(sys.argv[1:]))
