"""The mixed day: how many idle pulls (80 %), small pushes (15 %) and first syncs (5 %) one machine carries.

Requests begin at a rate, whatever becomes of those before, and the rate rises until 99 % take longer than PATIENCE.
Then each kind is offered alone, for what it costs of processors. The load is made on the same machine, by a process of
its own that is not counted among what serves, but takes its share of the processors.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import httpx
import uvloop

from bench.figures import Bar, Side, Work, number, part
from bench.machine import Tree
from bench.ordinary import TICK, Line
from bench.stage import Stage, console
from bench.workload import APP, Device, pull_request

KINDS = ("idle pull", "push of one change", "first sync")
SHARES = (0.80, 0.15, 0.05)
# What a new device gets, and how many spaces of it there are.
RECORDS, SPACES = 1000, 8
# The bar: ms that 99 % of all requests take at most. A step that refuses, or finds no connection, is too much as well.
PATIENCE = 100.0
BEGIN_RATE, RISE = 100.0, 1.25
SIZE_OF_LOG = "SELECT pg_total_relation_size('syncd.sync_changes') + pg_total_relation_size('syncd.sync_records')"
ROWS = "SELECT count(*) FROM syncd.sync_changes"


class Lane(NamedTuple):
    """A device's connection: what kind it is, its user, space and token."""

    kind: int
    user: str
    space: str
    token: str


class Step(NamedTuple):
    """What came of some seconds at a rate: requests that were answered 200, others, those that found no connection; ms
    by quantile, of all and of each kind; processor seconds of all that serves; by how many ms the load was late."""

    rate: float
    seconds: float
    answered: int
    refused: int
    not_sent: int
    p50: float
    p99: float
    by_kind: list[float]
    cpu: float
    late: float

    @property
    def held(self) -> bool:
        """Whether the server kept up."""
        return self.p99 <= PATIENCE and not self.refused and not self.not_sent


class Crowd:
    """The devices, in the process that makes the load."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._free: list[deque[Line]] = [deque() for _ in KINDS]
        self._kinds: dict[Line, int] = {}
        self._took: list[list[float]] = [[] for _ in KINDS]
        self._statuses: Counter[int] = Counter()
        self._due = [0.0] * len(KINDS)

    async def connect(self, port: int, lanes: Sequence[Lane]) -> None:
        """A connection for each. Those that pull have pulled once, and ask from there; new ones ask from nothing."""
        loop = asyncio.get_running_loop()
        for n, lane in enumerate(lanes):
            device = Device(lane.user, lane.space)

            def push(device: Device = device, token: str = lane.token) -> bytes:
                return device.request(token, device.push(1))

            _, line = await loop.create_connection(
                lambda push=push: Line(push, self._heard), "127.0.0.1", port, local_addr=(f"127.0.1.{1 + n % 250}", 0)
            )
            self._kinds[line] = lane.kind
            if KINDS[lane.kind] == "first sync":
                line._request = partial(pull_request, lane.token, "")
            await self._answer(line)  # a connection that asks nothing is ended
            if KINDS[lane.kind] == "idle pull":
                await self._catch_up(line, lane.token)

    async def _answer(self, line: Line) -> None:
        line.ask()
        while line not in self._free[self._kinds[line]]:  # noqa: ASYNC110 (an event would cost each answer)
            await asyncio.sleep(TICK)

    async def _catch_up(self, line: Line, token: str) -> None:
        self._free[self._kinds[line]].remove(line)
        line._request = lambda: pull_request(token, "")
        await self._answer(line)
        at = line.body.index(b'"syncedUntil":"') + 15
        request = pull_request(token, line.body[at : line.body.index(b'"', at)].decode())
        line._request = lambda: request

    def _heard(self, line: Line, status: int, took: float) -> None:
        self._statuses[status] += 1
        if status == 200:
            self._took[self._kinds[line]].append(took)
        if status:
            self._free[self._kinds[line]].append(line)

    async def offer(self, rate: float, shares: Sequence[float], seconds: float) -> Step:
        """`rate` requests a second begin, in these shares."""
        self._took, self._statuses, self._due = [[] for _ in KINDS], Counter(), [0.0] * len(KINDS)
        used, begun, sent, not_sent, late = self._tree.cpu(), time.perf_counter(), 0, 0, 0.0
        while (now := time.perf_counter()) < begun + seconds:
            for _ in range(int((now - begun) * rate) - sent):
                sent += 1
                not_sent += not self._send(shares)
            await asyncio.sleep(TICK)
            late = max(late, time.perf_counter() - now - TICK)
        cpu, took = self._tree.cpu() - used, [sorted(one) for one in self._took]
        all_ = sorted(t for one in took for t in one) or [float("inf")]
        refused = sum(self._statuses.values()) - self._statuses[200]
        answered, kinds = self._statuses[200], [1000 * part(one, 0.99) if one else 0.0 for one in took]
        await self._rest()
        return Step(rate, seconds, answered, refused, not_sent, 1000 * part(all_, 0.5), 1000 * part(all_, 0.99), kinds,
                    cpu, 1000 * late)  # fmt: skip

    async def _rest(self) -> None:
        """Until all that was asked is answered, or nobody waits for it any more."""
        deadline = time.perf_counter() + 10
        while sum(map(len, self._free)) < len(self._kinds) and time.perf_counter() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def _send(self, shares: Sequence[float]) -> bool:
        """The kind that is furthest behind its share has its turn."""
        self._due = [due + share for due, share in zip(self._due, shares, strict=True)]
        kind = self._due.index(max(self._due))
        self._due[kind] -= 1
        if not self._free[kind]:
            return False
        self._free[kind].popleft().ask()
        return True

    def close(self) -> None:
        for line in self._kinds:
            line.close()


def load(port: int, lanes: Sequence[Lane], seconds: float, tree: Tree) -> tuple[list[Step], list[Step]]:
    """The steps of the mixed day up to the first that did not hold, and one of each kind alone."""
    return uvloop.run(_load(port, lanes, seconds, tree))


async def _load(port: int, lanes: Sequence[Lane], seconds: float, tree: Tree) -> tuple[list[Step], list[Step]]:
    crowd = Crowd(tree)
    await crowd.connect(port, lanes)
    await crowd.offer(BEGIN_RATE, SHARES, seconds / 2)  # warm
    steps, rate, misses = list[Step](), BEGIN_RATE, 0
    while misses < 2:  # once may be a moment of the machine's
        steps.append(await crowd.offer(rate, SHARES, seconds))
        misses = 0 if steps[-1].held else misses + 1
        rate *= 1.0 if misses == 1 else RISE
    best = max((step.rate for step in steps if step.held), default=BEGIN_RATE)
    alone = list[Step]()
    for kind in range(len(KINDS)):
        shares = [float(n == kind) for n in range(len(KINDS))]
        alone.append(await crowd.offer(best * SHARES[kind], shares, seconds))
    crowd.close()
    return steps, alone


def day(stage: Stage) -> tuple[list[Work], dict[str, Any]]:
    """The mixed day at rising load, and what each kind of request costs alone."""
    lanes = _lanes(stage, 150 if stage.quick else 600)
    rows, size = stage.fetch(ROWS), stage.fetch(SIZE_OF_LOG)
    with console.status("the mixed day, at a rising rate"):
        steps, alone = stage.load(load, stage.server.port, lanes, 2.0 if stage.quick else 8.0, stage.tree)
    grown = (stage.fetch(SIZE_OF_LOG) - size) / max(1, stage.fetch(ROWS) - rows)
    held = [step for step in steps if step.held] or steps[:1]
    best = max(held, key=lambda step: step.rate)
    costs = {kind: 1e6 * step.cpu / max(1, step.answered) for kind, step in zip(KINDS, alone, strict=True)}
    for step in steps:
        console.print(f"  {step.rate:7.0f}/s  p50 {step.p50:.1f} ms, p99 {step.p99:.1f} ms, {_cores(step):.2f} cores")
    for kind, cost in costs.items():
        console.print(f"  {kind}: {cost:.0f} µs of CPU")
    side = Side(label="syncd", values=[best.rate], note=f"p50 {best.p50:.1f} ms, p99 {best.p99:.1f} ms")
    work = Work(
        name="day", what="mixed day, open load", unit="requests/s", sides={"syncd": side},
        bars=[Bar(what="ms that 99 % take", value=best.p99, target=PATIENCE, ceiling=True)],
        note=f"80 % idle pulls, 15 % pushes of one change, 5 % first syncs of {RECORDS:,} records; the rate before p99 "
        f"passed {PATIENCE:g} ms; the load's own process was late by {best.late:.0f} ms at most",
    )  # fmt: skip
    curve = {"steps": [step._asdict() for step in steps], "costs": costs, "bytes_a_change": grown,
             "best": best._asdict(), "cores": _cores(best)}  # fmt: skip
    return [work], {"day": curve}


def _cores(step: Step) -> float:
    return step.cpu / step.seconds


def _lanes(stage: Stage, count: int) -> list[Lane]:
    """Of each kind as many devices as the day needs: idle ones and those that write in their personal spaces, new ones
    in spaces of RECORDS records."""
    spaces = stage.devices("day", SPACES, edits=0)
    for device in spaces:
        for _ in range(RECORDS // 100):
            _push(stage, device, 100)
    kinds = {0: count // 2, 1: count // 4, 2: count // 4}
    lanes = list[Lane]()
    for kind, many in kinds.items():
        for n in range(many):
            home = spaces[n % SPACES]
            device = home if kind == 2 else Device(f"day-{kind}-{n}", f"_personal:day-{kind}-{n}")
            lanes.append(Lane(kind, device.user, device.space, stage.token(device)))
    return lanes


def _push(stage: Stage, device: Device, size: int) -> None:
    token = stage.token(device)
    headers = {"Authorization": f"Bearer {token}", "X-Client-Id": device.client, "X-Sync-Protocol": "1"}
    url = f"{stage.server.url}/sync/{APP}"
    answer = httpx.post(url, content=device.push(size), headers=headers, timeout=60)
    answer.raise_for_status()


def model(curve: dict[str, Any]) -> str:
    """The capacity and the costs of one run, as the page has them."""
    best, costs = curve["best"], curve["costs"]
    rows = [
        f"| {kind} | {share:.0%} | {number(costs[kind])} µs | {number(1e6 / costs[kind])} |"
        for kind, share in zip(KINDS, SHARES, strict=True)
    ]
    mean = sum(share * costs[kind] for kind, share in zip(KINDS, SHARES, strict=True))
    return "\n".join(
        [
            f"One machine, the load on it too, held **{number(best['rate'])} requests a second** with p50 "
            f"{best['p50']:.1f} ms and p99 {best['p99']:.1f} ms; what serves used {curve['cores']:.2f} cores then.",
            "",
            "| request | of the day | processor, PostgreSQL's included | a core carries, a second |",
            "|---|---|---|---|",
            *rows,
            f"| the mixed day | 100% | {number(mean)} µs | {number(1e6 / mean)} |",
            "",
            f"A change takes {number(curve['bytes_a_change'])} bytes in log and state together, with their indexes.",
        ]
    )
