"""What a back end adds: what checks cost a change that is pushed, one call of syncd.write beside the same statements by
hand, and how far behind the pushes a projection is."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from bench import http_load, write
from bench.figures import Bar, Sample, Side, Work, against
from bench.play import alternate, show
from bench.push import BATCH, CLIENTS, WARM
from bench.stage import Stage, console
from bench.workload import APP, TABLE, Device
from syncd.core.principal import Principal
from syncd.protocol.messages import PushBody, decode
from syncd.protocol.normalize import Limits
from syncd.protocol.pull_messages import PullRequest
from syncd.protocol.push_decision import PushDecision
from syncd.service.checks import Checks
from syncd.service.rules import Rules, rule
from syncd.service.table_schema import TableSchema
from tests.support.command_line import syncd

PUSHES, CHANGES = 40, 250
# Microseconds of the thousand that a push of one change takes; those of the issue; a ratio; milliseconds.
NOTHING, JUDGED, BESIDE, BEHIND = 1.0, 10.0, 1.2, 1000.0
WRITTEN = {
    "syncd": ("syncd.write", "syncd.write"),
    "bound": ("by hand, bound", "by hand, under row security"),
    "owner": ("by hand, as the owner", "by hand, as the owner, whom nothing checks"),
}
SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 500, "x-index": True},
        "done": {"type": "boolean", "x-index": True},
        "position": {"type": "number", "minimum": 0},
        "assignee": {"type": "string", "pattern": "^user-[0-9]+$"},
    },
    "required": ["title", "done"],
    "additionalProperties": False,
}
LAG = "SELECT coalesce(sum(changes), 0)::integer FROM syncd.sync_projection_lags()"


@rule("another/*")
def of_another_app(change: Any, record: Any, principal: Any) -> None:
    """Is asked about nothing that is pushed here."""


def checks(stage: Stage) -> list[Work]:
    """The worker's own time, without a database: a push that is checked is either taken by its schema alone, or not
    looked at."""
    ready = TableSchema(SCHEMA)
    ways = {
        "syncd": ("a schema of four fields", {(APP, TABLE): ready}, []),
        "elsewhere": ("a schema and a rule, of other apps", {("another", TABLE): ready}, [of_another_app]),
        "nothing": ("no schema and no rule", {}, []),
    }
    device = Device("checked", "space", edits=0)
    bodies = [device.push(CHANGES) for _ in range(PUSHES)]

    def by(current: dict[Any, TableSchema], rules: list[Any]) -> Any:
        judging = Checks(SimpleNamespace(current=current, unread={}), Rules(rules), None)  # type: ignore[arg-type]

        async def all_of(works: list[PushDecision]) -> None:
            for work in works:
                await judging(work)

        def play() -> Sample:
            wanted = PullRequest(APP, plain=False)
            works = [
                PushDecision(Principal(device.user), device.client, wanted, decode(body, PushBody), Limits())
                for body in bodies
            ]
            begun = time.process_time_ns()
            asyncio.run(all_of(works))
            spent = time.process_time_ns() - begun
            if any(result is not None for work in works for result in work.results):
                raise RuntimeError("a change was refused")
            return Sample(spent / 1000 / PUSHES / CHANGES)

        return play

    what = f"what checks cost a change, pushes of {CHANGES}"
    players = {name: (label, by(current, rules)) for name, (label, current, rules) in ways.items()}
    sides, others = alternate(stage, what, stage.rounds(7), players)
    bars = [
        Bar(what=sides[name].label, value=sides[name].median, target=most, ceiling=True)
        for name, most in (("syncd", JUDGED), ("elsewhere", NOTHING), ("nothing", NOTHING))
    ]
    work = Work(name="checks", what=what, unit="µs", sides=sides, bars=bars, others=others, less_is_better=True)
    show(work)
    return [work]


def written(stage: Stage) -> list[Work]:
    """syncd.write of one change beside a row of the application's own, and the same rows by hand."""
    found = write.alone(stage.rounds(5))
    works = [
        _written(found, "write_cpu", "of CPU", lambda spent: spent[0] + spent[1]),
        _written(found, "write_time", "until it is there", lambda spent: spent[2]),
    ]
    for one in works:
        show(one)
    return works


def _written(found: write.Found, name: str, what: str, part: Callable[[tuple[float, float, float]], float]) -> Work:
    sides = {key: Side(label=label, values=[*map(part, found[way])]) for key, (way, label) in WRITTEN.items()}
    bars = [against(sides, other, BESIDE, ceiling=True) for other in ("bound", "owner")]
    return Work(name=name, what=f"a row and a record in one transaction, {what}", unit="µs", sides=sides, bars=bars,
                less_is_better=True)  # fmt: skip


def projections(stage: Stage) -> list[Work]:
    """The pushes of `batches` to a table with two indexes, and how long after the last one all is in its copy."""
    with Stage(stage.quick) as own:
        pushing = Pushing(own)
        players = {"syncd": ("syncd, a copy with two indexes is filled", pushing.filled),
                   "without": ("syncd, no copy", pushing.alone)}  # fmt: skip
        what = f"batches of {BATCH}, {CLIENTS} clients, with a projection"
        sides, others = alternate(own, what, own.rounds(3), players)
    behind = Side(label="after the last push until all is in the copy", values=pushing.behind)
    bar = Bar(what="behind", value=behind.median, target=BEHIND, ceiling=True)
    works = [
        Work(name="projection_rate", what=what, unit="changes/s", sides=sides, others=others),
        Work(name="projection", what=f"how far a copy is behind {what}", unit="ms", sides={"syncd": behind}, bars=[bar],
             others=others, less_is_better=True),
    ]  # fmt: skip
    for one in works:
        show(one)
    return works


class Pushing:
    """Devices that push to a table with a schema, of which there is a copy with indexes, or none."""

    def __init__(self, own: Stage) -> None:
        self._own, self._pushes = own, 4 if own.quick else 16
        self._devices = own.devices("projected", CLIENTS, edits=2, whole=True)
        self.behind = list[float]()
        file = own.folder / "schema.json"
        file.write_text(json.dumps({"app": APP, "tables": {TABLE: SCHEMA}}))
        self._said("schema", "apply", str(file))

    def filled(self) -> Sample:
        """With a copy, which has all that there is when it begins."""
        self._said("views", "apply")
        self._wait()
        sample = self.alone()
        left = self._own.fetch(LAG)
        self.behind.append(self._wait())
        console.print(f"  [dim]{left:,} changes were not in the copy after the last push[/]")
        self._said("views", "drop", f"{APP}/{TABLE}")
        return sample

    def alone(self) -> Sample:
        """Without one."""
        own = self._own
        requests = [
            [d.request(own.token(d), d.push(BATCH)) for _ in range(self._pushes + WARM)] for d in self._devices
        ]  # fmt: skip
        load = own.load(http_load.prebuilt, own.server.port, requests, WARM, own.tree)
        if load.failed:
            raise RuntimeError(f"{load.failed} pushes failed")
        changes = load.requests * BATCH
        return Sample(changes / load.seconds, load.cpu * 1000 / changes)

    def _wait(self) -> float:
        """Milliseconds until nothing waits."""
        begun = time.perf_counter()
        while self._own.fetch(LAG):
            if time.perf_counter() - begun > 300:
                raise RuntimeError("the projection does not keep up")
            time.sleep(0.01)
        return (time.perf_counter() - begun) * 1000

    def _said(self, *words: str) -> None:
        done = syncd(*words, "--database-url", self._own.server.owner_dsn)
        if done.returncode:
            raise RuntimeError(done.stderr)
