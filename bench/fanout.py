"""The live half: what idle sockets weigh, what a delivered frame costs, and how soon a change is on other screens.

One space, one writer or eight, and listeners that are each a user of their own, as on people's devices. The measure
is the `websockets` library's own server with its `broadcast`, which holds as many sockets in the same run.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil

from bench import http_load
from bench.crowd import Crowd, Heard, Tally, more_files
from bench.figures import Measure, measure, show
from bench.stage import Stage, console, spread
from bench.workload import APP, Device

SPACE = "hall"
IDLE, MEMORY = 2000, 40e6
AUDIENCE, THROUGHPUT = 1000, 0.5
NEAR, RATE, SOON = 100, 100.0, 50.0
SWEEP = (10, 30, 100, 300, 1000, 2000)
LANES, WARM = 8, 8
AUTH_AND_PAGE = 2  # frames that a listener gets before anything new
EDGES = [0.5 * 1.2**n for n in range(36)]  # of the histogram, milliseconds: up to 300


class Hall:
    """A space with a writer for each lane, who edit records of their own, and as many readers as there are sockets."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.port = stage, stage.server.port
        names = [f"writer-{n}" for n in range(LANES)]
        self.writers = [Device(n, SPACE, edits=1, held=[f"{n}-record-{i}" for i in range(4)]) for n in names]
        self.listeners = [f"listener-{n}" for n in range(IDLE)]
        owner = stage.server.token(names[0])
        with httpx.Client(base_url=stage.server.url, headers={"Authorization": f"Bearer {owner}"}) as client:
            client.post("/spaces", json={"id": SPACE, "name": SPACE}).raise_for_status()
        members = [(name, "writer") for name in names[1:]] + [(name, "reader") for name in self.listeners]
        load = stage.load(http_load.prebuilt, self.port, spread([_invite(owner, *member) for member in members], LANES))
        if load.failed:
            raise RuntimeError(f"{load.failed} of {load.requests} members were not taken")

    def pushes(self, count: int, lanes: int = LANES) -> list[list[bytes]]:
        """Requests of single changes, for each lane its share. Edits of other lanes never supersede them."""
        writers = self.writers[:lanes]
        return [[w.request(self.stage.token(w), w.push(1)) for _ in range(count // lanes)] for w in writers]

    def gather(self, crowd: Crowd, count: int, first: int = 0) -> None:
        """Opens the sockets of `count` listeners, from the number `first` on; each has what there is."""
        hellos = [self._hello(user) for user in self.listeners[first : first + count]]
        crowd.call("open", self.port, f"/ws/{APP}", hellos, AUTH_AND_PAGE)

    def _hello(self, user: str) -> list[bytes]:
        auth = {"type": "auth", "token": self.stage.server.token(user), "clientId": f"{user}-tab", "protocol": 1}
        return [msgspec.json.encode(auth), msgspec.json.encode({"type": "subscribe", "appId": APP})]


def run(stage: Stage) -> tuple[list[Measure], dict[str, Any]]:
    """All measures and curves, on a server of their own: what one before has used hides what sockets weigh."""
    more_files()
    found, curves = list[Measure](), dict[str, Any]()
    with Stage(stage.quick) as own, Crowd() as crowd:
        hall = Hall(own)
        found.append(_memory(hall, crowd))
        hall.gather(crowd, NEAR)
        latency, curves["fanout_latency"] = _latency(hall, crowd)
        found.append(latency)
        hall.gather(crowd, AUDIENCE - NEAR, NEAR)
        found += _one_writer(hall, crowd)
        found += _many_writers(hall, crowd)
        swept, curves["fanout"] = _sweep(hall, crowd)
        found += swept
    for one in found:
        show(one)
    for point in curves["fanout"]:
        console.print(
            f"  {point['listeners']:>5,} listeners: {point['micros']:6.1f} µs of CPU a message, "
            f"all have it after {point['millis']:.1f} ms"
        )
    return found, curves


# -- what idle sockets weigh -------------------------------------------------------------------------------------


def _memory(hall: Hall, crowd: Crowd) -> Measure:
    """What the worker grows by with idle sockets, when it has done all of it once before with a few."""
    with console.status(f"{IDLE:,} idle sockets"):
        hall.gather(crowd, 50)
        crowd.call("burst", hall.port, hall.pushes(8 * LANES))
        crowd.call("close")
        time.sleep(1)
        worker = hall.stage.worker
        resident, own = worker.memory_info().rss, worker.memory_full_info().pss
        hall.gather(crowd, IDLE)
        time.sleep(2)
        grown = worker.memory_info().rss - resident
        shares = worker.memory_full_info().pss - own
        crowd.call("close")
    return measure(
        "fanout_memory", f"{IDLE:,} idle sockets, each subscribed", [grown / 1e6], [MEMORY / 1e6], unit="MB",
        against="allowed", target=1.0, ceiling=True,
        note=f"{grown / IDLE / 1e3:.1f} kB a socket; {shares / 1e6:.1f} MB by proportional shares",
    )  # fmt: skip


# -- how soon ----------------------------------------------------------------------------------------------------


def _latency(hall: Hall, crowd: Crowd) -> tuple[Measure, list[dict[str, float]]]:
    """From when a push was due to be sent, which is before it is committed, to each receipt. The commit is between
    sending and answer, so the time from the commit is less than this."""
    count = int(RATE * (2 if hall.stage.quick else 10))
    with console.status(f"{NEAR} listeners, {RATE:.0f} changes/s"):
        requests = hall.pushes(count // LANES * LANES)
        crowd.call("paced", hall.port, _in_turn([lane[:WARM] for lane in requests]), RATE, LANES)
        heard: Heard = crowd.call("paced", hall.port, _in_turn([lane[WARM:] for lane in requests]), RATE, LANES)
    times = sorted((at - due) / 1e6 for due, some in zip(heard.due, heard.received, strict=True) for at in some)
    after = sorted((at - told) / 1e6 for told, some in zip(heard.answered, heard.received, strict=True) for at in some)
    if len(times) != len(heard.due) * NEAR:
        raise RuntimeError(f"{len(times)} receipts of {len(heard.due)} pushes by {NEAR} listeners")
    late = _part(times, 0.99)
    found = measure(
        "fanout_latency", f"sent to received, 99 %, {NEAR} listeners, {RATE:.0f} changes/s", [late], [SOON], unit="ms",
        against="allowed", target=1.0, ceiling=True,
        note=f"{len(times):,} receipts; median {_part(times, 0.5):.1f} ms, most {times[-1]:.1f} ms; after the writer's "
        f"answer: median {_part(after, 0.5):.1f} ms, 99 % {_part(after, 0.99):.1f} ms",
    )  # fmt: skip
    bars = [
        {"from": low, "to": high, "share": sum(low <= one < high for one in times) / len(times)}
        for low, high in zip([0.0, *EDGES], [*EDGES, 1e9], strict=True)
    ]
    return found, [bar for bar in bars if bar["share"]]


def _in_turn(lanes: Sequence[Sequence[bytes]]) -> list[bytes]:
    return [request for some in zip(*lanes, strict=True) for request in some]


def _part(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


# -- how many ----------------------------------------------------------------------------------------------------


def _one_writer(hall: Hall, crowd: Crowd) -> list[Measure]:
    """Pushes one after the other: a frame each, so that what is compared is frames of the same size."""
    ours, theirs, weight = _rounds(hall, crowd, 1, 100 if hall.stage.quick else 300)
    what, against = f"one feed, {AUDIENCE:,} listeners, one writer", "websockets' broadcast"
    middle = sorted(ours, key=lambda one: _rate(*one))[len(ours) // 2][0]
    note = f"frames of {_payload(middle):,} bytes with {middle.changes / middle.frames:.2f} changes each"
    return [
        measure("fanout", what, [_rate(*one) for one in ours], [_rate(*one) for one in theirs], unit="frames/s",
                against=against, target=THROUGHPUT, note=note),
        measure("fanout_cpu", f"{what}, by server CPU", [t.frames / used for t, used in ours],
                [t.frames / used for t, used in theirs], unit="frames/s of CPU", against=against, target=None,
                note=f"the library's idle sockets weigh {weight:.0f} kB each"),
    ]  # fmt: skip


def _many_writers(hall: Hall, crowd: Crowd) -> list[Measure]:
    """Eight pushes in flight: several changes share a frame, so changes are what arrives."""
    ours, theirs, _ = _rounds(hall, crowd, LANES, 400 if hall.stage.quick else 1600)
    middle = sorted(ours, key=lambda one: _rate(*one))[len(ours) // 2][0]
    note = f"frames of {_payload(middle):,} bytes with {middle.changes / middle.frames:.1f} changes each"
    return [
        measure("fanout_shared", f"one feed, {AUDIENCE:,} listeners, {LANES} writers",
                [t.changes / t.seconds for t, _ in ours], [_rate(*one) for one in theirs], unit="changes/s",
                against="websockets' broadcast, messages as large as these frames", target=None, note=note),
    ]  # fmt: skip


Run = tuple[Tally, float]


def _rounds(hall: Hall, crowd: Crowd, lanes: int, pushes: int) -> tuple[list[Run], list[Run], float]:
    """Bursts of pushes, in turn with as many broadcasts of a payload of our frames' size; and what the library's idle
    sockets weigh, in kB each."""
    rounds = hall.stage.rounds(5)
    ours, theirs = list[tuple[Tally, float]](), list[tuple[Tally, float]]()
    worker = hall.stage.worker
    with _broadcaster() as (port, library), Crowd() as others:
        before = library.memory_info().rss
        others.call("open", port, "/listen", [[]] * AUDIENCE, 0)
        weight = (library.memory_info().rss - before) / AUDIENCE / 1e3
        crowd.call("burst", hall.port, hall.pushes(lanes * WARM, lanes))
        with hall.stage.progress(f"one feed, {AUDIENCE:,} listeners, {lanes} writers", rounds) as step:
            for _ in range(rounds):
                ours.append(_timed(worker, crowd, "burst", hall.port, hall.pushes(pushes, lanes)))
                payload = b"x" * _payload(ours[-1][0])
                theirs.append(_timed(library, others, "broadcasts", port, payload, pushes // lanes, LANES))
                step(f"{_rate(*ours[-1]):,.0f} frames/s, broadcast {_rate(*theirs[-1]):,.0f}")
    return ours, theirs, weight


def _rate(tally: Tally, _used: float) -> float:
    return tally.frames / tally.seconds


def _payload(tally: Tally) -> int:
    """The mean size of a frame's text in bytes."""
    return tally.size // tally.frames - 4


def _timed(process: psutil.Process, crowd: Crowd, name: str, *arguments: Any) -> tuple[Tally, float]:
    """What came of it, and the CPU seconds that the server has used for it."""
    before = _ran(process)
    tally: Tally = crowd.call(name, *arguments)
    if tally.failed:
        raise RuntimeError(f"{tally.failed} pushes were not applied")
    return tally, _ran(process) - before


def _ran(process: psutil.Process) -> float:
    """CPU seconds of a process as the scheduler counts them: `cpu` counts in hundredths, which is too coarse."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


@contextlib.contextmanager
def _broadcaster() -> Iterator[tuple[int, psutil.Process]]:
    """The library's server: its port and its process."""
    process = subprocess.Popen([sys.executable, "-m", "bench.broadcaster"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


# -- how it grows ------------------------------------------------------------------------------------------------


def _sweep(hall: Hall, crowd: Crowd) -> tuple[list[Measure], list[dict[str, float]]]:
    """One push after the other, each when everybody has the one before: no frame has more than one change."""
    passes = 1 if hall.stage.quick else 3
    micros, millis = {n: list[float]() for n in SWEEP}, {n: list[float]() for n in SWEEP}
    with hall.stage.progress("listeners", passes * len(SWEEP)) as step:
        for _ in range(passes):
            crowd.call("close")
            time.sleep(1)
            for last, listeners in zip((0, *SWEEP), SWEEP, strict=False):
                hall.gather(crowd, listeners - last, last)
                count = max(40, min(600, 40_000 // listeners))
                crowd.call("steps", hall.port, hall.pushes(WARM, 1)[0])
                tally, used = _timed(hall.stage.worker, crowd, "steps", hall.port, hall.pushes(count, 1)[0])
                micros[listeners].append(used / tally.frames * 1e6)
                millis[listeners].append(tally.seconds / count * 1e3)
                step(f"{listeners:,}: {micros[listeners][-1]:.1f} µs")
    curve = [
        {"listeners": n, "micros": statistics.median(micros[n]), "millis": statistics.median(millis[n])} for n in SWEEP
    ]
    most = max(late["micros"] / early["micros"] for n, early in enumerate(curve) for late in curve[n:])
    found = measure(
        "fanout_sweep", f"a delivered message, {SWEEP[-1]:,} listeners", micros[SWEEP[-1]], micros[SWEEP[0]],
        unit="µs of CPU", against=f"with {SWEEP[0]}", target=1.0, ceiling=True,
        note=f"the most that it rises from any to any larger number: {100 * (most - 1):.0f} %",
    )  # fmt: skip
    return [found], curve


def _invite(owner: str, user: str, role: str) -> bytes:
    """A member's request."""
    body = b'{"role":"%s"}' % role.encode()
    head = (
        f"PUT /spaces/{SPACE}/members/{user} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {owner}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
