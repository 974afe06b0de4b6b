"""Figures: a work is done by several sides in turn, and is judged by bars; all of them go to one file."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.machine import is_busy

RESULTS = Path(__file__).parent / "results"


class Sample(NamedTuple):
    """One round of one side: its value in the work's unit, and milliseconds of server CPU a record (PostgreSQL
    counted), where it is a rate."""

    value: float
    cpu: float | None = None


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """What did it (`label`), and a value of each round; `cpu` is milliseconds a record, by round."""

    label: str
    values: list[float]
    cpu: list[float] = []
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def cpu_median(self) -> float | None:
        return statistics.median(self.cpu) if self.cpu else None

    @property
    def spread(self) -> float:
        """How far the rounds lie apart: half of the range, as a part of the median."""
        middle = self.median
        return (max(self.values) - min(self.values)) / 2 / middle if middle else 0.0


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """What is promised: at least `target`, or at most with `ceiling`. `value` is None where a side was absent."""

    what: str
    value: float | None
    target: float
    ceiling: bool = False

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value <= self.target if self.ceiling else self.value >= self.target


class Work(msgspec.Struct, kw_only=True):
    """What was done, by whom, and what it comes to. `others` is how many cores other processes used meanwhile."""

    name: str
    what: str
    unit: str
    sides: dict[str, Side]
    bars: list[Bar] = []
    less_is_better: bool = False
    others: float = 0.0
    note: str = ""

    @property
    def busy(self) -> bool:
        return is_busy(self.others)


class Results(msgspec.Struct):
    """All works by name, the curves behind them, who was absent and why, and where and when it was. `took`: seconds of
    each name that `python -m bench` takes; a work is compared within itself, so they may have run on their own."""

    made: str = ""
    machine: dict[str, Any] = {}
    quick: bool = False
    took: dict[str, float] = {}
    peers: dict[str, str] = {}
    absent: dict[str, str] = {}
    works: dict[str, Work] = {}
    curves: dict[str, Any] = {}

    @property
    def seconds(self) -> float:
        return sum(self.took.values())


def part(ordered: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of the ascending values lie below, at most the largest."""
    if not ordered:
        raise ValueError("there is no quantile of nothing")
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the rounds' ratios, the n-th of ours to the n-th of theirs: what slowed a round slowed both."""
    return statistics.median(
        mine / other if other else float("inf") for mine, other in zip(ours, theirs, strict=True)
    )  # fmt: skip


def side(label: str, samples: Sequence[Sample], note: str = "") -> Side:
    """A side of its rounds."""
    cpu = [one.cpu for one in samples if one.cpu is not None]
    return Side(label=label, values=[one.value for one in samples], cpu=cpu, note=note)


def against(
    sides: Mapping[str, Side], other: str, target: float, *, mine: str = "syncd", ceiling: bool = False,
    cpu: bool = False,
) -> Bar:  # fmt: skip
    """A bar that is a ratio of two sides. `cpu`: of the CPU that a record costs, theirs to ours."""
    what = f"{sides[mine].label} to {sides[other].label}" if other in sides else f"{mine} to {other}"
    value = None
    if mine in sides and other in sides:
        ours, theirs = sides[mine], sides[other]
        value = ratio(theirs.cpu, ours.cpu) if cpu else ratio(ours.values, theirs.values)
    return Bar(what=what + (", by CPU" if cpu else ""), value=value, target=target, ceiling=ceiling)


def measure(
    name: str, what: str, ours: Sequence[float], theirs: Sequence[float], *, unit: str, against: str,
    target: float | None, ceiling: bool = False, note: str = "",
) -> Work:  # fmt: skip
    """A work of two sides whose rounds ran in turn, judged by their ratio."""
    sides = {"syncd": Side(label="syncd", values=list(ours)), "other": Side(label=against, values=list(theirs))}
    bars = (
        [] if target is None else [Bar(what=f"to {against}", value=ratio(ours, theirs), target=target, ceiling=ceiling)]
    )
    return Work(name=name, what=what, unit=unit, sides=sides, bars=bars, less_is_better=ceiling, note=note)


def number(value: float) -> str:
    """A figure as people read it: three digits, or whole."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def results_path(quick: bool) -> Path:
    """Where results are kept. A quick run is a look, and not a figure to keep."""
    return RESULTS / ("quick.json" if quick else "latest.json")


def save(
    works: Sequence[Work], curves: dict[str, Any], *, quick: bool, postgres: str, took: dict[str, float],
    peers: dict[str, str], absent: dict[str, str],
) -> Results:  # fmt: skip
    """Writes the results; works that were not done this time stay as they were."""
    path = results_path(quick)
    RESULTS.mkdir(exist_ok=True)
    results = msgspec.json.decode(path.read_bytes(), type=Results) if path.exists() else Results()
    results.made, results.quick = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), quick
    results.machine = {"processors": os.cpu_count(), "python": platform.python_version(), "postgresql": postgres}
    results.took = {**results.took, **took}
    results.peers = {**results.peers, **peers}
    done = {one.what for one in works}
    earlier = {name: why for name, why in results.absent.items() if not any(what in name for what in done)}
    results.absent = {name: why for name, why in {**earlier, **absent}.items() if name not in results.peers}
    results.works = {**results.works, **{one.name: one for one in works}}
    results.curves = {**results.curves, **curves}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    return results
