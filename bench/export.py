"""A user's export over HTTP, as it streams, against COPY of the same rows; and the server's memory meanwhile."""

from __future__ import annotations

import socket
import time
from typing import NamedTuple

from bench import direct_load
from bench.figures import Measure, measure, show
from bench.stage import Memory, Stage, sql
from bench.workload import APP

CHANGES, BATCH = 200_000, 1000
TARGET = 0.5
FLAT = 24 * 1024 * 1024


class Streamed(NamedTuple):
    """Wall seconds, bytes with their framing, and changes."""

    seconds: float
    size: int
    changes: int


def stream(port: int, token: str) -> Streamed:
    """An export, counted and thrown away as it comes."""
    with socket.create_connection(("127.0.0.1", port)) as line:
        start = time.perf_counter()
        line.sendall(
            b"GET /backup/export HTTP/1.1\r\nHost: bench\r\nAccept: application/x-ndjson\r\nAuthorization: Bearer "
            + token.encode() + b"\r\n\r\n"
        )  # fmt: skip
        size = changes = 0
        last = b""
        while not last.endswith(b"0\r\n\r\n"):
            data = line.recv(1 << 20)
            if not data:
                raise RuntimeError("the export was cut short")
            size += len(data)
            changes += data.count(b'{"appId":')
            last = (last + data)[-16:]
        return Streamed(time.perf_counter() - start, size, changes)


def run(stage: Stage) -> list[Measure]:
    """Both in turn."""
    changes = CHANGES // 5 if stage.quick else CHANGES
    device = stage.devices("archivist", 1)[0]
    with stage.progress(f"loading {changes:,} changes", 1):
        calls = device.calls([device.push(BATCH) for _ in range(changes // BATCH)])
        stage.load(direct_load.calls, stage.server.runtime_dsn, [calls])
        stage.load(direct_load.tidy, stage.server.owner_dsn)
    ours, theirs, growth = list[float](), list[float](), list[float]()
    rounds, size = stage.rounds(5), 0
    stage.load(stream, stage.server.port, stage.token(device))
    with stage.progress(f"export of {changes:,} changes", rounds) as step:
        for _ in range(rounds):
            with Memory(stage.worker) as memory:
                got = stage.load(stream, stage.server.port, stage.token(device))
            copied = stage.load(direct_load.copy, stage.server.owner_dsn, sql("copy_rows"), [device.space, APP])
            # where a part of the stream ended within a name it was counted in neither
            if not changes * 0.99 < got.changes <= changes or copied.calls != changes:
                raise RuntimeError(f"not all came: {got}, {copied}")
            ours.append(changes / got.seconds)
            theirs.append(copied.calls / copied.seconds)
            growth.append(memory.growth / 1e6)
            size = got.size
            step(f"{ours[-1]:,.0f} changes/s, {theirs[-1]:,.0f} by COPY")
    found = [
        measure("export", f"export of {changes:,} changes", ours, theirs, unit="changes/s",
                against="COPY of the same rows", target=TARGET, note=f"{size / 1e6:.0f} MB"),
        measure("export_memory", "server memory during it", growth, [FLAT / 1e6] * rounds, unit="MB above the start",
                against="allowed", target=1.0, ceiling=True),
    ]  # fmt: skip
    for one in found:
        show(one)
    return found
