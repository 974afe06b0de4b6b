"""A fresh device's pull: over HTTP, against the same pages from asyncpg, and against COPY of the same rows."""

from __future__ import annotations

from typing import NamedTuple

from bench import direct_load, http_load
from bench.figures import Measure, measure, show
from bench.stage import Memory, Stage, sql
from bench.workload import APP, Device, pull_request

RECORDS = 100_000
BATCH = 1000
PAGES_TARGET, COPY_TARGET = 0.5, 1.0
# A page is some 2 MB, and is there a few times while it is sent; 100,000 rows are 60 to 72 MB.
FLAT = 32 * 1024 * 1024


class _Rounds(NamedTuple):
    http: list[float]
    straight: list[float]
    copied: list[float]
    growth: list[float]
    sizes: list[float]


def run(stage: Stage) -> list[Measure]:
    """The current state, then the whole log; and the server's memory meanwhile."""
    records = RECORDS // 5 if stage.quick else RECORDS
    device = stage.devices("fresh", 1, edits=0)[0]
    with stage.progress(f"loading {records:,} records", 1):
        calls = device.calls([device.push(BATCH) for _ in range(records // BATCH)])
        stage.load(direct_load.calls, stage.server.runtime_dsn, [calls])
        stage.load(direct_load.tidy, stage.server.owner_dsn)
    found = []
    for name, history in (("state", False), ("log", True)):
        found += _measures(name, records, _rounds(stage, device, records, name, history))
    for one in found:
        show(one)
    return found


def _rounds(stage: Stage, device: Device, records: int, name: str, history: bool) -> _Rounds:
    before, after = pull_request(stage.token(device), "@", history=history).split(b"@")
    server, rounds = stage.server, stage.rounds(5)
    seen = _Rounds([], [], [], [], [])
    stage.load(http_load.pages, server.port, before, after)
    with stage.progress(f"pull of {records:,} records, {name}", rounds) as step:
        for _ in range(rounds):
            with Memory(stage.worker) as memory:
                load = stage.load(http_load.pages, server.port, before, after)
            straight = stage.load(direct_load.pages, server.runtime_dsn, device.user, history)
            copied = stage.load(direct_load.copy, server.owner_dsn, sql(f"copy_{name}"), [device.space, APP])
            if load.failed or copied.calls != records or load.size < straight.size:
                raise RuntimeError(f"not all came: {load}, {straight}, {copied}")
            seen.http.append(records / load.seconds)
            seen.straight.append(records / straight.seconds)
            seen.copied.append(records / copied.seconds)
            seen.growth.append(memory.growth)
            seen.sizes.append(load.size)
            step(f"{seen.http[-1]:,.0f} records/s over HTTP, {seen.copied[-1]:,.0f} by COPY")
    return seen


def _measures(name: str, records: int, seen: _Rounds) -> list[Measure]:
    what = f"fresh pull of {records:,} records ({name})"
    size = f"{seen.sizes[0] / 1e6:.0f} MB"
    return [
        measure(f"pull_{name}", what, seen.http, seen.straight, unit="records/s", note=size,
                against="the same pages from asyncpg", target=PAGES_TARGET),
        measure(f"pull_{name}_copy", what, seen.http, seen.copied, unit="records/s",
                against="COPY of the same rows as JSON", target=COPY_TARGET),
        measure(f"pull_{name}_memory", f"server memory during it ({name})", [g / 1e6 for g in seen.growth],
                [FLAT / 1e6] * len(seen.growth), unit="MB above the start", against="allowed", target=1.0,
                ceiling=True, note=f"{size} were sent"),
    ]  # fmt: skip
