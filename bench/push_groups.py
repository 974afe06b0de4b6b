"""CPU of a push by the size of its group: written one by one, and by the statements for all. Microseconds, both ways in
turn.

`python -m bench.push_groups [ROUNDS]`. The log's own code against a database of its own, without HTTP: what
PostgreSQL's backend uses, and what Python does.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.stage import console
from bench.workload import APP, SKEW, Device
from syncd.core.principal import Principal
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.migrate import migrate
from syncd.protocol.messages import PushBody, decode
from syncd.protocol.normalize import Limits
from syncd.protocol.pull_messages import PullRequest
from syncd.protocol.push_decision import PushDecision
from syncd.service.event_ids import EventIds
from syncd.service.pull import PullState
from syncd.service.push import push_call
from syncd.store.log import Log, PushCall
from syncd.store.pool import Pool

SIZES = (1, 4, 8, 16, 64)
PUSHES = 512
# New records only, and mostly edits of held ones.
KINDS = {"new": 0, "edits": 1}

Way = Callable[[list[PushCall]], Awaitable[Any]]


def prepared(device: Device) -> PushCall:
    """A push of one change, as the server's own code hands it to the log."""
    wanted = PullRequest(APP, plain=False)
    work = PushDecision(Principal(device.user), device.client, wanted, decode(device.push(1), PushBody), Limits())
    return push_call(work, PullState(wanted, device.user, b""), EventIds(time.time_ns() // 1000), SKEW)


def on_cpu(pid: int) -> int:
    """Nanoseconds that a process was on a CPU."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


async def measured(dsn: str, rounds: int) -> None:
    pool = Pool(dsn, size=1)
    await pool.open()
    log = Log(pool)
    ways: dict[str, Way] = {
        "one by one": lambda g: log._append(g, "9s"),
        "together": lambda g: log._append_together(g, "9s"),
    }
    pid = await pool.attempt(lambda c: c.fetchval("SELECT pg_backend_pid()"))
    for kind, edits in KINDS.items():
        for size in SIZES:
            found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
            for turn in range(rounds):
                for way in list(ways) if turn % 2 else list(ways)[::-1]:
                    found[way].append(await _round(log, pid, ways[way], f"{kind}{size}", size, edits))
            row = "   ".join(
                f"{way}: PostgreSQL {statistics.median(p for p, _ in got):6.1f}, "
                f"Python {statistics.median(w for _, w in got):5.1f}"
                for way, got in found.items()
            )
            console.print(f"{kind:6} groups of {size:2}   {row}")
    await pool.close()


_devices: dict[str, list[Device]] = {}


async def _round(log: Log, pid: int, way: Way, name: str, size: int, edits: int) -> tuple[float, float]:
    devices = _devices.get(name)
    if devices is None:
        devices = [Device(f"{name}-{n}", f"_personal:{name}-{n}", edits=edits) for n in range(size)]
        for device in devices:
            for _ in range(2):
                await log.push(prepared(device), alone=True)
        _devices[name] = devices
    groups = [
        sorted((prepared(d) for d in devices), key=lambda call: call.feed or ("", "")) for _ in range(PUSHES // size)
    ]
    await way(groups[0])
    backend, own = on_cpu(pid), time.process_time_ns()
    for group in groups[1:]:
        await way(group)
    n = (len(groups) - 1) * size * 1000
    return (on_cpu(pid) - backend) / n, (time.process_time_ns() - own) / n


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="syncd-bench-"))
    folder.chmod(0o755)
    try:
        with EmbeddedPostgres(folder / "data") as postgres:
            asyncio.run(migrate(postgres.owner_dsn, say=lambda text: None))
            asyncio.run(measured(postgres.runtime_dsn, int(sys.argv[1]) if len(sys.argv) > 1 else 5))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
