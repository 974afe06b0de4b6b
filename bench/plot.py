"""Draws the figures of one run: `python -m bench.plot` draws those of bench/results/latest.json again.

A picture is as wide as a phone shows it, and its colours can be read on a light page and on a dark one.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import msgspec

matplotlib.use("svg")

import matplotlib.pyplot as plt

from bench import page
from bench.figures import RESULTS, Results, Work, number
from bench.page import IMAGES, PICTURES

WORDS, OURS, THEIRS, FLOOR = "#7d8590", "#1f9d6b", "#6f87b8", "#b08443"
FLOORS = ("floor", "pgbench", "copy", "broadcast", "bare", "other")
WIDTH, ROW = 4.4, 0.38  # inches
STYLE = {
    "font.size": 9, "text.color": WORDS, "axes.labelcolor": WORDS, "axes.edgecolor": WORDS, "xtick.color": WORDS,
    "ytick.color": WORDS, "axes.titlecolor": WORDS, "svg.hashsalt": "syncd", "svg.fonttype": "none",
    "font.family": "sans-serif",
}  # fmt: skip


def draw(results: Results) -> list[Path]:
    """All pictures that there are figures for."""
    with plt.rc_context(STYLE):
        drawn = [
            _works(name, [results.works[one] for one in works if one in results.works])
            for name, works in PICTURES.items()
        ]
        drawn.append(_growth(results.curves.get("growth", [])))
        drawn.append(_delays(results.curves.get("live", {}), results.works.get("live_p50")))
    return [path for path in drawn if path is not None]


def _works(name: str, works: Sequence[Work]) -> Path | None:
    """A panel for each work: a bar for each side, with its spread and its figure."""
    if not works:
        return None
    rows = [len(one.sides) + 1.6 for one in works]
    figure, axes = plt.subplots(len(works), 1, figsize=(WIDTH, sum(rows) * ROW), height_ratios=rows, squeeze=False)
    for (place,), work in zip(axes, works, strict=True):
        _panel(place, work)
    return _kept(figure, name)


def _panel(axes: Any, work: Work) -> None:
    better = "less is better" if work.less_is_better else "more is better"
    axes.set_title(f"{textwrap.fill(work.what, 36)}\n{work.unit}, {better}", fontsize=9, loc="left")
    sides = list(work.sides.items())
    most = max(max(one.values) for _, one in sides)
    for place, (name, one) in enumerate(sides):
        mine = one.label.startswith("syncd")
        colour = OURS if mine else FLOOR if name in FLOORS else THEIRS
        axes.barh(place, one.median, color=colour, height=0.62)
        axes.plot([min(one.values), max(one.values)], [place, place], color=WORDS, linewidth=1)
        text = number(one.median)
        if one.cpu_median is not None:
            text += f"  ({one.cpu_median * 1000:.3g} µs CPU)"
        axes.text(max(one.values) + most * 0.015, place, text, va="center", fontsize=8)
    axes.set_yticks(range(len(sides)), [_short(one.label) for _, one in sides], fontsize=8)
    axes.set_ylim(len(sides) - 0.5, -0.5)
    axes.set_xlim(0, most * 1.9)
    axes.set_xticks([])
    for edge in ("top", "right", "bottom"):
        axes.spines[edge].set_visible(False)


def _short(label: str) -> str:
    """A label over two lines where it is long."""
    if len(label) <= 24:
        return label
    middle = min((at for at, sign in enumerate(label) if sign == " "), key=lambda at: abs(at - len(label) // 2))
    return label[:middle] + "\n" + label[middle + 1 :]


def _growth(curve: Sequence[dict[str, float]]) -> Path | None:
    if not curve:
        return None
    figure, axes = plt.subplots(figsize=(WIDTH, 3.0))
    rows = [point["rows"] for point in curve]
    for late, word, colour in (("", "recent records", OURS), ("_spread", "records from all over", FLOOR)):
        axes.plot(rows, [p[f"millis{late}"] for p in curve], "o-", color=colour, label=f"edits of {word}")
        axes.plot(rows, [p[f"small_millis{late}"] for p in curve], "x--", color=colour, alpha=0.6,
                  label="the same into 10,000 rows, in turn with it")  # fmt: skip
    axes.set_xscale("log")
    axes.set_ylim(0, None)
    axes.set_title("A push of 100 changes as the log grows", fontsize=9, loc="left")
    axes.set_xlabel("rows in the log (one feed)")
    axes.set_ylabel("ms in the database")
    axes.grid(alpha=0.25)
    _legend(axes)
    return _kept(figure, "performance-growth")


def _delays(bars: dict[str, Sequence[dict[str, float]]], work: Work | None) -> Path | None:
    """What part of the receipts came within so many milliseconds, by side."""
    if not bars or work is None:
        return None
    figure, axes = plt.subplots(figsize=(WIDTH, 3.0))
    styles = ("-", "--", "-.", ":", (0, (1, 3)))
    for (name, some), style in zip(bars.items(), styles, strict=False):
        colour = OURS if name in ("syncd", "two workers") else FLOOR if name in FLOORS else THEIRS
        ends, part = [min(bar["to"], 1000.0) for bar in some], 0.0
        parts = [part := part + 100 * bar["share"] for bar in some]
        axes.plot(ends, parts, linestyle=style, color=colour, label=work.sides[name].label)
    axes.set_xscale("log")
    axes.set_xticks((1, 3, 10, 30, 100, 300), ("1", "3", "10", "30", "100", "300"))
    axes.minorticks_off()
    axes.set_title("Receipts within so many milliseconds, 100 listeners", fontsize=9, loc="left")
    axes.set_xlabel("milliseconds from when the change was due to be sent")
    axes.set_ylabel("% of receipts")
    axes.grid(alpha=0.25)
    _legend(axes)
    return _kept(figure, "performance-delays")


def _legend(axes: Any) -> None:
    axes.legend(fontsize=8, framealpha=0, loc="best")


def _kept(figure: Any, name: str) -> Path:
    path = IMAGES / f"{name}.svg"
    figure.tight_layout()
    figure.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(figure)
    return path


if __name__ == "__main__":
    latest = msgspec.json.decode((RESULTS / "latest.json").read_bytes(), type=Results)
    draw(latest)
    page.write(latest)
