"""A pull of nothing new: the server's CPU, against a bare uvicorn that answers as many bytes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator

import httpx
import psutil

from bench import direct_load, http_load
from bench.figures import Measure, measure, show
from bench.stage import Stage, backends_cpu, cpu
from bench.workload import APP, Device, pull_request

CONNECTIONS = 64
TARGET = 2.0


def run(stage: Stage) -> list[Measure]:
    """Microseconds of CPU a request. What PostgreSQL uses for it comes beside it, against the same bare answer."""
    devices = stage.devices("idle", CONNECTIONS)
    stage.load(direct_load.calls, stage.server.runtime_dsn, [d.calls([d.push(100)]) for d in devices])
    cursors = [_cursor(stage, device) for device in devices]
    requests = [pull_request(stage.token(d), since, limit=1000) for d, since in zip(devices, cursors, strict=True)]
    each, rounds = (200, 3) if stage.quick else (400, 5)
    lanes = [[request] * each for request in requests]
    ours, database, theirs, rates = [], [], [], []
    with _bare(_size(stage, requests[0])) as (port, bare), stage.progress("pulls of nothing new", rounds) as step:
        stage.load(http_load.prebuilt, stage.server.port, lanes)
        for _ in range(rounds):
            before, backends = cpu(stage.worker), backends_cpu(stage.postmaster)
            load = _answered(stage.load(http_load.prebuilt, stage.server.port, lanes))
            ours.append((cpu(stage.worker) - before) / load.requests * 1e6)
            database.append((backends_cpu(stage.postmaster) - backends) / load.requests * 1e6)
            rates.append(load.requests / load.seconds)
            before = cpu(bare)
            load = _answered(stage.load(http_load.prebuilt, port, lanes))
            theirs.append((cpu(bare) - before) / load.requests * 1e6)
            step(f"{ours[-1]:.0f} µs of CPU a pull, bare uvicorn {theirs[-1]:.0f} µs")
    against, unit = "bare uvicorn, the same size", "µs of CPU"
    found = [
        measure("idle", f"pull of nothing new, {CONNECTIONS} connections", ours, theirs, unit=unit, against=against,
                target=TARGET, ceiling=True, note=f"{sorted(rates)[len(rates) // 2]:,.0f} pulls/s"),
        measure("idle_database", "PostgreSQL for it", database, theirs, unit=unit, against=against, target=None),
    ]  # fmt: skip
    for one in found:
        show(one)
    return found


def _answered(load: http_load.Load) -> http_load.Load:
    if load.failed:
        raise RuntimeError(f"{load.failed} of {load.requests} pulls were not answered with 200")
    return load


def _cursor(stage: Stage, device: Device) -> str:
    """The cursor of a device that has seen everything."""
    headers = {"Authorization": f"Bearer {stage.token(device)}"}
    answer = httpx.get(f"{stage.server.url}/sync/{APP}/pull", params={"limit": "10000"}, headers=headers).json()
    if answer["hasMore"] or not answer["serverChanges"]:
        raise RuntimeError("the first pull should have brought everything")
    return str(answer["syncedUntil"])


def _size(stage: Stage, request: bytes) -> int:
    load = stage.load(http_load.prebuilt, stage.server.port, [[request]])
    return load.size


@contextlib.contextmanager
def _bare(size: int) -> Iterator[tuple[int, psutil.Process]]:
    """A bare uvicorn: its port and its process."""
    process = subprocess.Popen([sys.executable, "-m", "bench.bare", str(size)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(json.loads(process.stdout.readline())), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()
