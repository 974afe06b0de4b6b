"""`python -m bench.overload`: twice what a server can do is offered for minutes, and one greedy user is beside.

Measures what it can do with ordinary clients, closed: ever more at once until there is no more to be had. Then half of
that is offered (before), twice that (meanwhile), half again (after). Nothing here is a test: the figures are those of
the machine, on which the load is made, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple

import click
import psutil
import uvloop

from bench.greedy import Greedy
from bench.ordinary import Clients, Heard, quantile, together
from bench.stage import console
from tests.support.harness import Server

# Of one more step at least so much more, or it was the last.
WORTH = 1.05
STEP_SECONDS = 3.0
WINDOW = 1.0
# After: windows are short, and so many in a row have to be as before.
AFTER_SECONDS, AFTER_WINDOW, IN_A_ROW = 12.0, 0.25, 4
# The bars: ms, times of before, times of the first half's memory, seconds.
MOST_P99, MOST_RATIO, MOST_GROWN, MOST_AFTER = 500.0, 3.0, 1.15, 5.0


class Trial(NamedTuple):
    """All that was heard. `steps`: by how many asked at once; `late`: of the load itself, in seconds at most."""

    steps: list[tuple[int, Heard]]
    offered: float
    before: Heard
    meanwhile: list[Heard]
    after: list[Heard]
    late: float

    @property
    def best(self) -> Heard:
        """The step that was enough."""
        return capacity(self.steps)


def capacity(steps: Sequence[tuple[int, Heard]]) -> Heard:
    """The first step after which there was little more to be had."""
    most = max(heard.rate for _, heard in steps)
    return next(heard for _, heard in steps if heard.rate * WORTH >= most)


class Sample(NamedTuple):
    """Memory at a moment, in MB, without what processes share."""

    at: float
    workers: float
    database: float


def load(
    port: int, tokens: Sequence[tuple[str, str]], minutes: float, begun: Event, ended: Event, to: Connection
) -> None:
    """The process that makes the ordinary load; sends a Trial. It goes first where it may: how late it is counts."""
    with contextlib.suppress(PermissionError):
        os.nice(-10)
    to.send(uvloop.run(_load(port, tokens, minutes, begun, ended)))


async def _load(port: int, tokens: Sequence[tuple[str, str]], minutes: float, begun: Event, ended: Event) -> Trial:
    clients = Clients()
    await clients.connect(port, tokens)
    steps = list[tuple[int, Heard]]()
    lanes = 4
    while lanes <= len(tokens) // 2:
        steps.append((lanes, await clients.closed(lanes, STEP_SECONDS)))
        if len(steps) > 2 and steps[-1][1].rate < max(heard.rate for _, heard in steps[:-1]) * WORTH:
            break
        lanes *= 2
    can, found = capacity(steps).rate, dict[str, list[Heard]](before=[], meanwhile=[], after=[])
    await clients.open(can / 2, 2, 2, lambda heard: None)
    await clients.open(can / 2, 8, WINDOW, found["before"].append)
    begun.set()
    clients.late = 0.0
    await clients.open(can * 2, minutes * 60, WINDOW, found["meanwhile"].append)
    late = clients.late
    ended.set()
    await clients.open(can / 2, AFTER_SECONDS, AFTER_WINDOW, found["after"].append)
    clients.close()
    return Trial(steps, can * 2, together(found["before"]), found["meanwhile"], found["after"], late)


def be_greedy(port: int, token: str, begun: Event, ended: Event, to: Connection) -> None:
    """The process of the greedy user; sends what it was answered."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    begun.wait()
    to.send(uvloop.run(_greedy(port, token, ended)))


async def _greedy(port: int, token: str, ended: Event) -> dict[str, int]:
    greedy = Greedy(port, token)
    task = asyncio.create_task(greedy.run())
    while not ended.is_set() and not task.done():  # noqa: ASYNC110 (another process says when)
        await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return dict(sorted(greedy.said.items()))


def sample(server: Server, begun: float) -> Sample:
    """What the server's processes have now."""
    assert server.process is not None
    sizes = {"workers": 0.0, "database": 0.0}
    for process in psutil.Process(server.process.pid).children(recursive=True):
        try:
            found = process.memory_info()
            kind = "database" if process.name().startswith("postgres") else "workers"
        except psutil.Error:
            continue
        sizes[kind] += (found.rss - found.shared) / 1e6
    return Sample(time.monotonic() - begun, **sizes)


def run(server: Server, clients: int, minutes: float, greedy: bool) -> tuple[Trial, dict[str, int], list[Sample]]:
    """The trial, what the greedy user was answered, and the memory of each second meanwhile and after."""
    spawn: Any = multiprocessing.get_context("spawn")
    begun, ended = spawn.Event(), spawn.Event()
    tokens = [(f"user-{n}", server.token(f"user-{n}", ttl=7200)) for n in range(clients)]
    (ours, theirs), (heard, said) = spawn.Pipe(), spawn.Pipe()
    processes = [spawn.Process(target=load, args=(server.port, tokens, minutes, begun, ended, theirs), daemon=True)]
    if greedy:
        token = server.token("greedy", ttl=7200)
        processes.append(spawn.Process(target=be_greedy, args=(server.port, token, begun, ended, said), daemon=True))
    for process in processes:
        process.start()
    while not begun.wait(0.2):
        if not processes[0].is_alive():
            raise click.ClickException("the load ended before it began")
    at, samples = time.monotonic(), list[Sample]()
    while not ours.poll(1.0):
        samples.append(sample(server, at))
        if not processes[0].is_alive() and not ours.poll(0):
            raise click.ClickException("the load ended")
    return ours.recv(), heard.recv() if greedy else {}, samples


def back_after(after: Sequence[Heard], before: Heard) -> float | None:
    """Seconds until some windows in a row are as before: nothing refused, nothing much slower. None: never."""
    bound, seconds, good = max(MOST_RATIO * before.p99, 50.0), 0.0, 0
    for n, heard in enumerate(after):
        seconds += heard.seconds
        good = good + 1 if not heard.refused and not heard.not_sent and heard.p99 <= bound else 0
        if good == IN_A_ROW:
            return round(seconds - sum(one.seconds for one in after[n + 1 - IN_A_ROW : n + 1]), 2)
    return None


def report(trial: Trial, said: dict[str, int], samples: Sequence[Sample], minutes: float) -> None:
    """Prints all of it, and which of the bars are met."""
    all_ = together(trial.meanwhile)
    for lanes, heard in trial.steps:
        say(f"  {lanes:4} at once: {heard.rate:6.0f}/s  {times(heard)}")
    say(f"capacity {trial.best.rate:.0f}/s, {times(trial.best)}; half of it offered: {times(trial.before)}")
    answers = sum(all_.statuses.values())
    shares = {status: f"{n / answers:.1%}" for status, n in sorted(all_.statuses.items())}
    say(
        f"{trial.offered:.0f}/s offered for {minutes:g} min: {all_.rate:.0f}/s accepted, {times(all_)}; refused after "
        f"{quantile(all_.refused, 0.5):.1f} ms; {shares}; {all_.not_sent} found no connection"
    )
    seconds = sorted(heard.p99 for heard in trial.meanwhile)
    say(f"  p99 of each second: median {seconds[len(seconds) // 2]:.0f} ms, most {seconds[-1]:.0f} ms")
    say(f"  the load itself was late by {trial.late * 1000:.0f} ms at most")
    if said:
        say(f"  the greedy user was answered {said}")
    for name in ("workers", "database"):
        sizes = [getattr(one, name) for one in samples]
        tenth = -(-len(sizes) // 10)
        shown = [round(max(sizes[n : n + tenth])) for n in range(0, len(sizes), tenth)]
        say(f"  memory of the {name}, MB, most in each tenth: {shown}")
    for bar, met in bars(trial, all_, samples).items():
        say(f"  [{'green' if met else 'red'}]{'met' if met else 'not met'}[/]: {bar}")


def bars(trial: Trial, all_: Heard, samples: Sequence[Sample]) -> dict[str, bool]:
    """What was promised, and whether it was kept. `all_`: what was heard meanwhile."""
    back, ratio = back_after(trial.after, trial.before), all_.p99 / trial.best.p99
    grown = {name: grown_by([getattr(one, name) for one in samples]) for name in ("workers", "database")}
    return {
        f"p99 of what is accepted is {all_.p99:.0f} ms, under {MOST_P99:g}": all_.p99 < MOST_P99,
        f"that is {ratio:.1f} times p99 at capacity, within {MOST_RATIO:g} "
        f"({all_.p99 / trial.before.p99:.1f} times that at half of it)": ratio <= MOST_RATIO,
        "the rest is 429 or 503": not set(all_.statuses) - {200, 429, 503},
        f"most memory of the second half by that of the first: {', '.join(f'{n} {g:.2f}' for n, g in grown.items())}, "
        f"{MOST_GROWN:g} at most": all(g <= MOST_GROWN for g in grown.values()),
        f"full service after {back} s, {MOST_AFTER:g} at most": back is not None and back <= MOST_AFTER,
    }


def grown_by(sizes: Sequence[float]) -> float:
    """The most of the second half by that of the first."""
    half = len(sizes) // 2
    return max(sizes[half:]) / max(sizes[:half]) if half else 1.0


def times(heard: Heard) -> str:
    """The median and the 99th percentile."""
    return f"p50 {heard.p50:.1f} ms, p99 {heard.p99:.1f} ms"


say = partial(console.print, soft_wrap=True)


@click.command()
@click.option("--minutes", default=10.0, help="How long twice the capacity is offered.")
@click.option("--clients", default=600, help="Ordinary users, each with a connection.")
@click.option("--workers", default=1)
@click.option("--greedy/--no-greedy", default=True, help="Whether the greedy user is beside.")
def main(minutes: float, clients: int, workers: int, greedy: bool) -> None:
    """Overloads a server that it starts, and says who was served."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with Server(Path(folder) / "data", workers=workers) as server:
            report(*run(server, clients, minutes, greedy), minutes)


if __name__ == "__main__":
    main()
