"""Writes the figures of one run into docs/operate/performance.md: tables, and plots with what they show in words."""

from __future__ import annotations

import re
from pathlib import Path

from bench import day
from bench.figures import Bar, Results, Work, number

DOCS = Path(__file__).parents[1] / "docs"
PAGE, IMAGES = DOCS / "operate" / "performance.md", DOCS / "images"
SCALING = DOCS / "operate" / "scaling.md"
PICTURES = {
    "performance-writing": ("singles_16", "singles_64", "batches", "wal", "hot_singles", "hot_batches"),
    "performance-reading": ("fresh_100000", "bytes_100000", "spaces", "first_pulls"),
    "performance-idle": ("idle_1", "idle_100", "idle_1000", "connection"),
    "performance-live": ("live_p50", "live_p99", "live_rate"),
    "performance-moving": ("export", "import_as_is", "import_ndjson"),
    "performance-back-end": (
        "checks",
        "write_cpu",
        "write_time",
        "consume",
        "consume_look",
        "projection_rate",
        "projection",
    ),
}
BEGIN, END = "<!-- the figures of one run: written by bench/page.py -->", "<!-- the end of the figures -->"
TITLES = {
    "performance-writing": "Writing",
    "performance-reading": "Reading",
    "performance-idle": "Idle devices",
    "performance-live": "Live",
    "performance-moving": "Moving in and out",
    "performance-back-end": "The back end of an application",
}
CURVES = {
    "performance-delays": ("live", "How many of the receipts came within so many milliseconds"),
    "performance-growth": ("growth", "What a push of 100 changes costs the database as the log grows"),
}


def write(results: Results, page: Path = PAGE, scaling: Path = SCALING) -> None:
    """Replaces what is between the two marks, on the page of figures and on that of the mixed day where there was
    one."""
    _replace(page, figures(results))
    if curve := results.curves.get("day"):
        made = f"The run of {results.made[:10]} on {results.machine.get('processors')} processors. "
        _replace(scaling, f"{made}{day.model(curve)}\n")


def _replace(page: Path, text: str) -> None:
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def figures(results: Results) -> str:
    """The run in words, then a part for each picture."""
    machine = results.machine
    busy = [work.what for work in results.works.values() if work.busy]
    peers = ", ".join(f"{name} {version}" for name, version in results.peers.items()) or "none"
    text = f"The run of {results.made[:10]} on {machine.get('processors')} processors with PostgreSQL "
    text += f"{machine.get('postgresql')} and Python {machine.get('python')}: {results.seconds / 60:.0f} minutes"
    text += f"{', of small rounds' if results.quick else ''}. Peers: {peers}. "
    text += "".join(f"{name} was not there: {why}. " for name, why in results.absent.items())
    if busy:
        text += (
            f"**The machine was busy** during {len(busy)} of {len(results.works)} works: other processes used up to "
            f"{max(work.others for work in results.works.values()):.1f} cores. Those figures show ratios at best."
        )
    parts = [text.strip()]
    for name, title in TITLES.items():
        works = [results.works[one] for one in PICTURES[name] if one in results.works]
        if works:
            parts.append(f"### {title}\n\n{_table(works)}\n\n![{alt(works)}](../images/{name}.svg)")
    for name, (curve, words) in CURVES.items():
        if results.curves.get(curve) and (IMAGES / f"{name}.svg").exists():
            parts.append(f"![{words}](../images/{name}.svg)")
    return "\n\n".join(parts) + "\n"


def alt(works: list[Work]) -> str:
    """What a picture shows, for who does not see it: medians by side."""
    said = [
        f"{work.what}, {work.unit}: " + ", ".join(f"{one.label} {number(one.median)}" for one in work.sides.values())
        for work in works
    ]
    return re.sub(r"[\[\]]", "", "Bars. " + "; ".join(said))


def _table(works: list[Work]) -> str:
    rows = ["| work | side | median | spread | CPU a record | syncd's bars |", "|---|---|---|---|---|---|"]
    for work in works:
        bars = "<br>".join(map(_bar, work.bars))
        for n, one in enumerate(work.sides.values()):
            cpu = "" if one.cpu_median is None else f"{number(one.cpu_median * 1000)} µs"
            first = (f"{work.what} ({work.unit})", bars) if not n else ("", "")
            rows.append(
                f"| {first[0]} | {one.label} | {number(one.median)} | ±{100 * one.spread:.0f} % | {cpu} | {first[1]} |"
            )
    return "\n".join(rows)


def _bar(bar: Bar) -> str:
    met = {True: "met", False: "not met", None: "nobody to compare with"}[bar.met]
    value = "–" if bar.value is None else number(bar.value)
    return f"{bar.what}: {value}, {'at most' if bar.ceiling else 'at least'} {number(bar.target)}: {met}"
