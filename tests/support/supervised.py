"""An embedded database that another process supervises, until that is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psutil

from syncd.postgres.embedded import EmbeddedPostgres

SUPERVISE = """
import sys, time
from pathlib import Path
from syncd.postgres.embedded import EmbeddedPostgres
database = EmbeddedPostgres(Path(sys.argv[1]))
database.start()
print(database.pid, flush=True)
time.sleep(600)
"""


class Supervisor:
    """Another process that runs an embedded database, until it is killed."""

    def __init__(self, data_dir: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISE, str(data_dir)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.postmaster = int(self.process.stdout.readline())

    def kill(self) -> None:
        """SIGKILL: it gets to do nothing more."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def processes_in(data_dir: Path) -> list[psutil.Process]:
    """The postmasters of a data directory; their backends are children of these or have lost them."""
    found = []
    for process in psutil.process_iter(["name", "cwd"]):
        if process.info["name"] == "postgres" and (process.info["cwd"] or "").startswith(str(data_dir)):
            found.append(process)
    return found


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


async def written(database: EmbeddedPostgres) -> int:
    """The number of rows in the table that these tests write."""
    conn = await asyncpg.connect(database.owner_dsn)
    try:
        await conn.execute("CREATE TABLE IF NOT EXISTS written (at timestamptz DEFAULT now())")
        await conn.execute("INSERT INTO written DEFAULT VALUES")
        return int(await conn.fetchval("SELECT count(*) FROM written"))
    finally:
        await conn.close()
