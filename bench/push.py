"""Pushes in batches: over HTTP, against the same SQL function called straight from asyncpg."""

from __future__ import annotations

import asyncio

import asyncpg

from bench import direct_load, http_load
from bench.figures import Measure, measure, show
from bench.stage import Stage, console, sql
from bench.workload import APP, Call, Device

CONNECTIONS = 8
WARM = 1
TARGET = 0.6
# Pushes a connection in a round: about a second of each side.
PUSHES = {100: 24, 1000: 5}


def run(stage: Stage) -> list[Measure]:
    """One measure a batch size."""
    found = []
    for size, pushes in PUSHES.items():
        found.append(_batches(stage, size, pushes if not stage.quick else max(2, pushes // 4)))
        show(found[-1])
    return found


def _batches(stage: Stage, size: int, pushes: int) -> Measure:
    over_http = stage.devices(f"http-{size}", CONNECTIONS)
    straight = stage.devices(f"direct-{size}", CONNECTIONS)
    changes, rounds = CONNECTIONS * pushes * size, stage.rounds(5)
    ours, theirs = [], []
    with stage.progress(f"push, batches of {size:,}", rounds) as step:
        for _ in range(rounds):
            requests, calls = _prepared(stage, over_http, straight, size, pushes + WARM)
            load = stage.load(http_load.prebuilt, stage.server.port, requests, WARM)
            expect(load, CONNECTIONS * (pushes + WARM) * size)
            ours.append(changes / load.seconds)
            theirs.append(changes / stage.load(direct_load.calls, stage.server.runtime_dsn, calls, WARM).seconds)
            step(f"{ours[-1]:,.0f} changes/s over HTTP, {theirs[-1]:,.0f} direct")
    sent = rounds * CONNECTIONS * (pushes + WARM) * size
    for devices in (over_http, straight):
        verify(stage, devices, sent)
    return measure(
        f"push_{size}", f"push over HTTP, batches of {size:,}, {CONNECTIONS} connections", ours, theirs,
        unit="changes/s", against="the SQL function from asyncpg", target=TARGET,
    )  # fmt: skip


def _prepared(
    stage: Stage, over_http: list[Device], straight: list[Device], size: int, pushes: int
) -> tuple[list[list[bytes]], list[list[Call]]]:
    requests = [[d.request(stage.token(d), d.push(size)) for _ in range(pushes)] for d in over_http]
    return requests, [d.calls([d.push(size) for _ in range(pushes)]) for d in straight]


def expect(load: http_load.Load, applied: int) -> None:
    """Raises when not every request was answered with 200 and every change applied."""
    if load.failed or load.applied != applied:
        raise RuntimeError(f"{load.failed} pushes failed, {load.applied} of {applied} changes were applied")


def verify(stage: Stage, devices: list[Device], sent: int) -> None:
    """Raises when the log does not hold what was acknowledged, each once and without a gap."""
    spaces = sorted({device.space for device in devices})

    async def count() -> tuple[int, int]:
        connection = await asyncpg.connect(stage.server.owner_dsn)
        try:
            row = await connection.fetchrow(sql("count"), APP, spaces)
            return int(row["changes"]), int(row["heads"])
        finally:
            await connection.close()

    changes, heads = asyncio.run(count())
    if not changes == heads == sent:
        raise RuntimeError(f"{sent} changes were acknowledged, the log has {changes} and its heads say {heads}")
    console.print(f"  [dim]verified: {changes:,} changes acknowledged, {changes:,} in the log[/]")
