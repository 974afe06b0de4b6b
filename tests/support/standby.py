"""A streaming standby of an embedded database, made and promoted with PostgreSQL's own programs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import asyncpg
import psutil

from syncd.postgres.cluster import environment
from syncd.postgres.embedded import PORT, EmbeddedPostgres
from syncd.postgres.launch import account_for


class Standby:
    """It runs from the first moment, and follows `primary`."""

    def __init__(self, primary: EmbeddedPostgres, folder: Path) -> None:
        self.primary, self.folder = primary, folder
        self.pgdata, self.socket_dir = folder / "pgdata", folder / "run"
        folder.mkdir()
        self._account = account_for(folder)
        for path in (folder, self.pgdata, self.socket_dir):
            path.mkdir(exist_ok=True)
            if self._account.drops:
                os.chown(path, self._account.uid, self._account.gid)
            path.chmod(0o700)

    async def __aenter__(self) -> Self:
        hba = self.primary.pgdata / "pg_hba.conf"
        hba.write_text(hba.read_text() + "local replication all trust\n")
        await run(self.primary, "SELECT pg_reload_conf()")
        source = ["-h", str(self.primary.socket_dir), "-p", str(PORT), "-U", "postgres"]
        await self._do("pg_basebackup", *source, "-D", str(self.pgdata), "-R", "-X", "stream", "-c", "fast")
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Runs it, again where it was stopped."""
        options = f"-c listen_addresses='' -c unix_socket_directories={self.socket_dir} -c shared_buffers=32MB"
        await self._do("pg_ctl", "start", "-w", "-D", str(self.pgdata), "-l", str(self.folder / "log"), "-o", options)

    async def stop(self) -> None:
        """Ends it as a crash does."""
        await self._do("pg_ctl", "stop", "-m", "immediate", "-D", str(self.pgdata))

    def processes(self) -> list[psutil.Process]:
        """Its postmaster and all that it started."""
        postmaster = psutil.Process(int((self.pgdata / "postmaster.pid").read_text().splitlines()[0]))
        return [postmaster, *postmaster.children(recursive=True)]

    async def promote(self) -> None:
        """Takes over, with all that the primary has committed."""
        there = await run(self.primary, "SELECT pg_current_wal_flush_lsn()::text")
        deadline = time.monotonic() + 90
        while not await run(self, f"SELECT pg_last_wal_replay_lsn() >= '{there}'::pg_lsn"):
            assert time.monotonic() < deadline, "the standby does not follow"
            await asyncio.sleep(0.05)
        await self._do("pg_ctl", "promote", "-w", "-D", str(self.pgdata))

    async def _do(self, program: str, *arguments: str) -> None:
        done = await asyncio.to_thread(
            subprocess.run, [str(self.primary.bindir / program), *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/", env=environment(),
            check=False, timeout=500, **self._account.popen(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()


async def run(database: EmbeddedPostgres | Standby, sql: str) -> object:
    """A statement as the superuser; the first value of its answer."""
    connection = await asyncpg.connect(host=str(database.socket_dir), port=PORT, user="postgres", database="syncd")
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def url_of(*databases: EmbeddedPostgres | Standby) -> str:
    """How a server connects that may find itself at any of them."""
    hosts = ",".join(quote(str(one.socket_dir), safe="") for one in databases)
    ports = ",".join(str(PORT) for _ in databases)
    return f"postgresql://syncd_runtime@/syncd?host={hosts}&port={ports}"
