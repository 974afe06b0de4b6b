"""Figures: a measure is two sides and their ratio; all of them go to one file."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.stage import console

RESULTS = Path(__file__).parent / "results"


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """Ours against theirs, medians of interleaved rounds; `ratio` is the median of the rounds' ratios.

    `target` is a floor, or a ceiling where `ceiling` says so; None where the figure is there to be known only.
    """

    name: str
    what: str
    ours: float
    theirs: float
    unit: str
    against: str
    ratio: float
    target: float | None
    ceiling: bool = False
    rounds: list[float] = []
    note: str = ""

    @property
    def ok(self) -> bool:
        if self.target is None:
            return True
        return self.ratio <= self.target if self.ceiling else self.ratio >= self.target


class Results(msgspec.Struct):
    """All measures by name, the curves behind them, and where and when they were made."""

    made: str = ""
    machine: dict[str, Any] = {}
    quick: bool = False
    measures: dict[str, Measure] = {}
    curves: dict[str, Any] = {}


def measure(
    name: str, what: str, ours: Sequence[float], theirs: Sequence[float], *, unit: str, against: str,
    target: float | None, ceiling: bool = False, note: str = "",
) -> Measure:  # fmt: skip
    """A measure of rounds that ran in turn: the n-th of ours next to the n-th of theirs."""
    ratios = [mine / other if other else float("inf") for mine, other in zip(ours, theirs, strict=True)]
    return Measure(
        name=name, what=what, ours=statistics.median(ours), theirs=statistics.median(theirs), unit=unit,
        against=against, ratio=statistics.median(ratios), target=target, ceiling=ceiling,
        rounds=[round(ratio, 4) for ratio in ratios], note=note,
    )  # fmt: skip


def show(found: Measure) -> None:
    """One line: both sides, the ratio, the target, and whether it is met."""
    line = f"{found.what}: {_number(found.ours)} {found.unit}, {found.against}: {_number(found.theirs)}"
    line += f"; ratio {found.ratio:.2f}"
    if found.target is not None:
        verdict = "[green]ok[/]" if found.ok else "[red]" + ("above" if found.ceiling else "below") + "[/]"
        line += f" ({'at most' if found.ceiling else 'at least'} {found.target:g}) {verdict}"
    console.print(line + (f"  [dim]{found.note}[/]" if found.note else ""), soft_wrap=True)


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def save(found: Sequence[Measure], curves: dict[str, Any], *, quick: bool, postgres: str) -> tuple[Path, Results]:
    """Writes the results; measures that were not made this time stay as they were."""
    path = RESULTS / ("quick.json" if quick else "latest.json")
    RESULTS.mkdir(exist_ok=True)
    results = msgspec.json.decode(path.read_bytes(), type=Results) if path.exists() else Results()
    results.made, results.quick = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), quick
    results.machine = {"processors": os.cpu_count(), "python": platform.python_version(), "postgresql": postgres}
    results.measures = {**results.measures, **{one.name: one for one in found}}
    results.curves = {**results.curves, **curves}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    return path, results
