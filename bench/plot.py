"""The figures as one picture: a bar for each ratio with its target, and what a push costs as the log grows,
and what a message to many costs, and how soon it comes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from bench.figures import Measure, Results

MET, MISSED, PLAIN = "#2a7f62", "#c0392b", "#8a94a6"
LONGEST = 4.0  # a bar that is off the scale would hide the others
TICKS = (1, 2, 5, 10, 20, 50)
LABELS = {
    "push_100": "push, batches of 100\nvs SQL function from asyncpg",
    "push_1000": "push, batches of 1,000\nvs SQL function from asyncpg",
    "single": "single changes, 64 connections\nvs pgbench INSERT (log-like)",
    "single_hot": "single changes, one feed\nvs pgbench INSERT (log-like)",
    "single_bare": "single changes, 64 connections\nvs pgbench INSERT (bare table)",
    "pull_state": "fresh pull, state\nvs same pages from asyncpg",
    "pull_state_copy": "fresh pull, state\nvs COPY as JSON",
    "pull_log": "fresh pull, log\nvs same pages from asyncpg",
    "pull_log_copy": "fresh pull, log\nvs COPY as JSON",
    "idle": "pull of nothing, server CPU\nvs bare uvicorn",
    "idle_database": "pull of nothing, PostgreSQL CPU\nvs bare uvicorn",
    "growth": "push of 100, large log\nvs 10,000 rows (time)",
    "growth_buffers": "push of 100, large log\nvs 10,000 rows (buffers)",
    "growth_spread": "the same, edits all over\n(time)",
    "growth_spread_buffers": "the same, edits all over\n(buffers)",
    "growth_unseen": "push of 100, plans of young tables\nvs 10,000 rows (buffers)",
    "browser_pouchdb": "first sync in Chromium\nvs PouchDB",
    "browser_rxdb": "first sync in Chromium\nvs RxDB",
    "fanout": "one feed, 1,000 listeners\nvs websockets' broadcast",
    "fanout_cpu": "the same by server CPU\nvs websockets' broadcast",
    "fanout_sweep": "CPU a delivered message, 2,000 listeners\nvs 10",
    "fanout_latency": "sent to received, 99 %, 100 listeners\nvs 50 ms",
    "fanout_memory": "2,000 idle sockets\nvs 40 MB",
    "export": "export\nvs COPY of the same rows",
    "export_memory": "server memory, export\nvs allowed",
    "bootstrap": "first sync beside 2,000,000 changes\nvs 100,000",
    "bootstrap_folded": "the same after compaction\nvs before",
    "compaction_push": "pushes during compaction, 99 %\nvs before",
    "pull_state_memory": "server memory, fresh pull (state)\nvs allowed",
    "pull_log_memory": "server memory, fresh pull (log)\nvs allowed",
}


def draw(results: Results, path: Path) -> Path:
    """Draws what there is."""
    floors = [results.measures[n] for n in LABELS if n in results.measures and not results.measures[n].ceiling]
    floors = [one for one in floors if one.name != "idle_database"]
    ceilings = [results.measures[n] for n in LABELS if n in results.measures and results.measures[n] not in floors]
    figure, axes = plt.subplots(4, 2, figsize=(15, 25), height_ratios=(1.8, 1, 1, 1))
    _bars(axes[0][0], floors, "Rate: ratio, more is better (bar must reach its line)")
    _bars(axes[0][1], ceilings, "Cost: ratio, less is better (bar must stay below its line)")
    _growth(axes[1][0], results.curves.get("growth", []))
    _sizes(axes[1][1], results.curves.get("size", []))
    _fanout(axes[2][0], results.curves.get("fanout", []))
    _latency(axes[2][1], results.curves.get("fanout_latency", []), results.measures.get("fanout_latency"))
    _folded(axes[3][0], results.curves.get("compaction", []), "changes", 1, "changes in the log")
    _folded(axes[3][1], results.curves.get("compaction", []), "seconds", 1, "seconds of a new device's first sync")
    machine = results.machine
    figure.suptitle(
        f"syncd against what it stands on: ratios within one run{' (quick)' if results.quick else ''}\n"
        f"{results.made}, {machine.get('processors')} processors, PostgreSQL {machine.get('postgresql')}, "
        f"Python {machine.get('python')}",
        fontsize=13,
    )
    figure.tight_layout(rect=(0, 0, 1, 0.985))
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _bars(axes: Any, measures: Sequence[Measure], title: str) -> None:
    axes.set_title(title, fontsize=11)
    if not measures:
        return
    places = range(len(measures))
    colours = [PLAIN if one.target is None else MET if one.ok else MISSED for one in measures]
    axes.barh(places, [min(one.ratio, LONGEST) for one in measures], color=colours, height=0.62)
    for place, one in zip(places, measures, strict=True):
        end = min(max(one.ratio, one.target or 0), LONGEST)
        axes.text(end, place, f" {one.ratio:.2f}", va="center", fontsize=9)
        if one.target is not None:
            axes.plot([one.target] * 2, [place - 0.42, place + 0.42], color="black", linewidth=2)
    axes.set_yticks(places, [LABELS[one.name] for one in measures], fontsize=8.5)
    axes.invert_yaxis()
    axes.set_xlim(0, min(LONGEST, max(max(one.ratio, one.target or 0) for one in measures)) * 1.15)
    axes.set_xlabel("ratio (black line: target; grey: for information)")


def _growth(axes: Any, curve: Sequence[dict[str, float]]) -> None:
    axes.set_title("A push of 100 changes as the log grows (database time, median)", fontsize=11)
    if not curve:
        return
    rows = [point["rows"] for point in curve]
    for late, word, colour in (("", "recent records", MET), ("_spread", "records from all over", "#d08c2e")):
        axes.plot(rows, [p[f"millis{late}"] for p in curve], "o-", color=colour, label=f"edits of {word}")
        axes.plot(rows, [p[f"small_millis{late}"] for p in curve], "x--", color=colour, alpha=0.6,
                  label="the same into 10,000 rows, in turn with it")  # fmt: skip
    axes.set_xscale("log")
    axes.set_ylim(0, None)
    axes.set_xlabel("rows in the log (one feed)")
    axes.set_ylabel("milliseconds a push")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8.5)


def _sizes(axes: Any, curve: Sequence[dict[str, float]]) -> None:
    axes.set_title("A push at the largest log, by its size (database, median)", fontsize=11)
    if not curve:
        return
    sizes = [point["changes"] for point in curve]
    axes.loglog(sizes, [p["millis"] for p in curve], "o-", color=MET, label="milliseconds")
    axes.loglog(sizes, [p["buffers"] for p in curve], "s-", color=PLAIN, label="buffers touched")
    for point in curve:
        axes.annotate(f"{point['millis']:.2g} ms", (point["changes"], point["millis"]), fontsize=9,
                      xytext=(0, -15), textcoords="offset points", ha="center")  # fmt: skip
    axes.set_xlabel("changes in the push")
    axes.set_ylabel("milliseconds, buffers")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=9)


def _folded(axes: Any, points: Sequence[dict[str, float]], part: str, scale: float, what: str) -> None:
    axes.set_title(f"Before and after compaction: {what}", fontsize=11)
    if not points:
        return
    values = [point[part] / scale for point in points]
    axes.bar(("before", "after"), values, color=(PLAIN, MET), width=0.5)
    for place, value in enumerate(values):
        axes.text(place, value, f"{value:,.3g}" if value < 100 else f"{value:,.0f}", ha="center", va="bottom")
    axes.set_ylabel(what)


def _fanout(axes: Any, curve: Sequence[dict[str, float]]) -> None:
    axes.set_title("A change to everybody who listens, one at a time (median)", fontsize=11)
    if not curve:
        return
    listeners = [point["listeners"] for point in curve]
    axes.loglog(listeners, [p["micros"] for p in curve], "o-", color=MET, label="µs of server CPU a delivered message")
    axes.loglog(listeners, [p["millis"] for p in curve], "s--", color=PLAIN, label="ms until the last one has it")
    for point in curve:
        axes.annotate(f"{point['micros']:.3g} µs", (point["listeners"], point["micros"]), fontsize=9,
                      xytext=(0, 7), textcoords="offset points", ha="center")  # fmt: skip
    axes.margins(0.1, 0.12)
    axes.set_xlabel("listeners of one feed")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=9)


def _latency(axes: Any, bars: Sequence[dict[str, float]], found: Measure | None) -> None:
    axes.set_title("Sent to received, 100 listeners, 100 changes/s", fontsize=11)
    if not bars or found is None:
        return
    starts, ends = [max(bar["from"], 0.4) for bar in bars], [min(bar["to"], 400.0) for bar in bars]
    widths = [end - start for start, end in zip(starts, ends, strict=True)]
    axes.bar(starts, [100 * bar["share"] for bar in bars], width=widths, align="edge", color=MET, edgecolor="white")
    axes.axvline(found.ours, color=PLAIN, linestyle="--", label=f"99 % within {found.ours:.1f} ms")
    axes.axvline(found.theirs, color="black", linewidth=2, label=f"target: {found.theirs:.0f} ms")
    axes.set_xscale("log")
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.minorticks_off()
    axes.set_xlim(min(starts), max(80.0, *ends))
    axes.set_xlabel("milliseconds")
    axes.set_ylabel("% of receipts")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
