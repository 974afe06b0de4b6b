"""Import and export by the command, against COPY of the rows that they read or write.

An export is of everything; it is imported as it is into an empty database, as a server's move is. Records from
elsewhere come from a file of JSON lines. The command's start is in the time, as it is for who calls it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from bench import direct_load, http_load
from bench.figures import Bar, Sample, Work, against
from bench.play import alternate, show, timed
from bench.stage import Stage, spread
from bench.workload import record
from syncd.postgres.migrate import migrate

RECORDS, BATCH, LANES = 100_000, 1000, 4
AS_IS_BAR, NDJSON_BAR, COPY_BAR = 100_000.0, 30_000.0, 0.5


def run(stage: Stage) -> list[Work]:
    """Each of the three on a server of its own, which has nothing else."""
    count = RECORDS // 20 if stage.quick else RECORDS
    with Stage(stage.quick) as own:
        device = own.devices("mover", 1, edits=0)[0]
        changes = [device.changes(BATCH) for _ in range(count // BATCH)]
        requests = [device.request(own.token(device), device.body(some)) for some in changes]
        if own.load(http_load.prebuilt, own.server.port, spread(requests, LANES)).failed:
            raise RuntimeError("the records were not taken")
        own.load(direct_load.tidy, own.server.owner_dsn)
        lines = own.folder / "records.ndjson"
        lines.write_bytes(msgspec.json.Encoder().encode_lines([record(one) for some in changes for one in some]))
        move = Move(own, count, lines)
        found = [move.exported(), move.imported(), move.read()]
    for one in found:
        show(one)
    return found


class Move:
    """A server with `count` records, its export, and what is written from it."""

    def __init__(self, stage: Stage, count: int, lines: Path) -> None:
        self._stage, self._count, self._lines, self._made = stage, count, lines, 0
        self._export = stage.folder / "all.ndjson"

    def exported(self) -> Work:
        """`syncd export --all`, beside COPY of the log's rows."""

        def own() -> Sample:
            self._export.unlink(missing_ok=True)
            seconds, used = self._called("export", "--all", "-o", str(self._export), database=self._url("syncd"))
            return self._sample(seconds, used)

        def copied() -> Sample:
            query, dsn = "SELECT * FROM syncd.sync_changes", self._stage.server.owner_dsn
            rows, used = timed(self._stage.database, lambda: self._stage.load(direct_load.copy, dsn, query, []))
            return Sample(rows.calls / rows.seconds, used * 1000 / rows.calls)

        what = f"export --all, {self._count:,} changes"
        players = {"syncd": ("syncd", own), "copy": ("COPY of the log's rows", copied)}
        sides, others = alternate(self._stage, what, self._stage.rounds(3), players)
        return Work(name="export", what=what, unit="changes/s", sides=sides, others=others,
                    bars=[against(sides, "copy", COPY_BAR)])  # fmt: skip

    def imported(self) -> Work:
        """`syncd import --as-is` of that export."""
        return self._written("import_as_is", "import --as-is", AS_IS_BAR, lambda: (str(self._export), "--as-is"))

    def read(self) -> Work:
        """`syncd import --from ndjson` of the plain records."""
        options = ("--from", "ndjson", "--app", "bench", "--table", "tasks", "--user", "mover")
        return self._written("import_ndjson", "import --from ndjson", NDJSON_BAR, lambda: (str(self._lines), *options))

    def _written(self, name: str, word: str, least: float, arguments: Callable[[], tuple[str, ...]]) -> Work:
        def own() -> Sample:
            url = self._empty()
            sample = self._sample(*self._called("import", *arguments(), database=url))
            there = asyncio.run(_one(url, "SELECT count(*) FROM syncd.sync_records"))
            if there != self._count:
                raise RuntimeError(f"{there} of {self._count} records were written")
            return sample

        what = f"{word}, {self._count:,} records"
        sides, others = alternate(self._stage, what, self._stage.rounds(3), {"syncd": ("syncd", own)})
        bar = Bar(what="syncd", value=sides["syncd"].median, target=least)
        return Work(name=name, what=what, unit="records/s", sides=sides, bars=[bar], others=others)

    def _called(self, *arguments: str, database: str) -> tuple[float, float]:
        """Wall seconds of the command, and the CPU seconds of it and of PostgreSQL."""
        command = [sys.executable, "-m", "syncd", *arguments, "--database-url", database]
        before, children, start = self._stage.database.cpu(), _children(), time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise RuntimeError(f"syncd {arguments[0]} failed: {done.stdout[-500:]}{done.stderr[-1500:]}")
        return seconds, self._stage.database.cpu() - before + _children() - children

    def _sample(self, seconds: float, used: float) -> Sample:
        return Sample(self._count / seconds, used * 1000 / self._count)

    def _url(self, database: str) -> str:
        return self._stage.server.dsn("postgres", database)

    def _empty(self) -> str:
        """A new database with the schema, and nothing in it."""
        self._made += 1
        name = f"moved_{self._made}"
        asyncio.run(_one(self._url("postgres"), f"CREATE DATABASE {name}"))
        asyncio.run(migrate(self._url(name), say=lambda text: None))
        return self._url(name)


def _children() -> float:
    """CPU seconds of this process's children that have ended."""
    times = os.times()
    return times.children_user + times.children_system


async def _one(dsn: str, query: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()
