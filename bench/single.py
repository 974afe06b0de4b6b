"""Single changes from many devices, against pgbench's prepared single-row INSERT into the same database."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess

import asyncpg

from bench import http_load
from bench.figures import Measure, measure, show
from bench.push import expect, verify
from bench.stage import SQL, Stage, sql
from bench.workload import Device

CONNECTIONS = 64
CLIENTS = 8
WARM = 2
TARGET = 0.5


def run(stage: Stage) -> list[Measure]:
    """Every device in a space of its own, then all in one space: one hot feed."""
    asyncio.run(_make_tables(stage.server.owner_dsn))
    fields = json.dumps(json.loads(Device("sample", "sample").push(1))["changes"][0]["fields"], separators=(",", ":"))
    pushes, seconds, rounds = (40, 1, 3) if stage.quick else (150, 2, 5)
    apart = stage.devices("single", CONNECTIONS)
    together = stage.devices("crowd", CONNECTIONS, shared=True)
    own, hot, like_log, bare, waits = [], [], [], [], []
    with stage.progress("single-change pushes", rounds) as step:
        for _ in range(rounds):
            load = _pushes(stage, apart, pushes)
            own.append(load.requests / load.seconds)
            waits.append(load)
            like_log.append(_pgbench(stage, "insert_log", fields, seconds))
            crowd = _pushes(stage, together, pushes)
            hot.append(crowd.requests / crowd.seconds)
            bare.append(_pgbench(stage, "insert_bare", fields, seconds))
            step(f"{own[-1]:,.0f} pushes/s, {hot[-1]:,.0f} in one space, pgbench {like_log[-1]:,.0f}/s")
    for devices in (apart, together):
        verify(stage, devices, rounds * CONNECTIONS * (pushes + WARM))
    return _measures(own, hot, like_log, bare, waits)


def _measures(
    own: list[float], hot: list[float], like_log: list[float], bare: list[float], waits: list[http_load.Load]
) -> list[Measure]:
    middle = sorted(waits, key=lambda load: load.p50)[len(waits) // 2]
    what = f"single-change pushes, {CONNECTIONS} connections"
    against = f"pgbench INSERT into a table like the log, {CLIENTS} clients"
    bare_table = "pgbench INSERT into a bare table"
    found = [
        measure("single", what, own, like_log, unit="pushes/s", against=against, target=TARGET,
                note=f"answered in {middle.p50:.1f} ms, 99 % in {middle.p99:.1f} ms"),
        measure("single_hot", f"{what}, one feed", hot, like_log, unit="pushes/s", against=against, target=None),
        measure("single_bare", what, own, bare, unit="pushes/s", against=bare_table, target=None),
    ]  # fmt: skip
    for one in found:
        show(one)
    return found


def _pushes(stage: Stage, devices: list[Device], pushes: int) -> http_load.Load:
    requests = [[d.request(stage.token(d), d.push(1)) for _ in range(pushes + WARM)] for d in devices]
    load = stage.load(http_load.prebuilt, stage.server.port, requests, WARM)
    expect(load, len(devices) * (pushes + WARM))
    return load


async def _make_tables(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql("insert_tables"))
    finally:
        await connection.close()


def _pgbench(stage: Stage, script: str, fields: str, seconds: int) -> float:
    """Transactions a second of one script."""
    command = [
        str(stage.bindir / "pgbench"), "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2", "-T", str(seconds),
        "-D", f"fields={fields}", "-f", str(SQL / f"{script}.sql"), stage.server.owner_dsn,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rate = re.search(r"tps = ([\d.]+)", done.stdout)
    if done.returncode or rate is None:
        raise RuntimeError(f"pgbench failed:\n{done.stdout}{done.stderr}")
    return float(rate[1])
