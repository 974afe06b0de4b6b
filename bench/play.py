"""Sides of a work take turns, and what they did is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.markup import escape

from bench.figures import Sample, Side, Work, number, ratio, side
from bench.machine import Tree, Watch
from bench.peers.cast import ABSENT
from bench.stage import Stage, console

# Does one round.
Player = Callable[[], Sample]
RIVALS = ("triplit", "tinybase", "kinto")  # what their sides' names begin with
FAILURES = (ConnectionError, TimeoutError, RuntimeError)


def order(names: list[str], turn: int) -> list[str]:
    """The order of a round: each begins with another, so that nobody always follows the same."""
    first = turn % len(names)
    return names[first:] + names[:first]


def alternate(
    stage: Stage, what: str, rounds: int, players: Mapping[str, tuple[str, Player]]
) -> tuple[dict[str, Side], float]:
    """Rounds of all players, by name with their labels, in turn; and how many cores others used meanwhile."""
    samples: dict[str, list[Sample]] = {name: [] for name in players}
    with Watch() as watch, stage.progress(what, rounds) as step:
        for turn in range(rounds):
            for name in order(list(samples), turn):
                try:
                    samples[name].append(players[name][1]())
                except FAILURES as why:
                    fell_out(name, what, why)
                    del samples[name]
            step(", ".join(f"{name} {number(some[-1].value)}" for name, some in samples.items()))
    return {name: side(players[name][0], some) for name, some in samples.items()}, watch.others


def fell_out(name: str, what: str, why: Exception) -> None:
    """Says that a peer did not get through a work, whose other sides go on. Raises `why` where it is no peer's."""
    if not name.startswith(RIVALS):
        raise why
    reason = (str(why).splitlines() or [type(why).__name__])[0]
    ABSENT[f"{name} ({what})"] = reason
    console.print(f"  [yellow]{name} did not get through[/]: {escape(reason)}", soft_wrap=True)


def show(work: Work) -> None:
    """The sides, a line each, and the bars."""
    console.print(f"[bold]{escape(work.what)}[/] ({work.unit})", soft_wrap=True)
    mine = work.sides.get("syncd")
    for name, one in work.sides.items():
        line = f"  {one.label:44} {number(one.median):>9} ±{100 * one.spread:.0f} %"
        if one.cpu_median is not None:
            line += f"  {one.cpu_median:.4f} ms CPU a record"
        if mine is not None and name != "syncd" and len(one.values) == len(mine.values):
            line += f"  syncd is {ratio(mine.values, one.values):.2f} of it"
        console.print(line + (f"  [dim]{escape(one.note)}[/]" if one.note else ""), soft_wrap=True)
    for bar in work.bars:
        word = {True: "[green]met[/]", False: "[red]not met[/]", None: "[yellow]not there to compare[/]"}[bar.met]
        value = "–" if bar.value is None else number(bar.value)
        bound = "at most" if bar.ceiling else "at least"
        console.print(f"  {word} {escape(bar.what)}: {value}, {bound} {number(bar.target)}", soft_wrap=True)
    if work.busy:
        console.print(f"  [red]busy machine[/]: others used {work.others:.2f} cores meanwhile", soft_wrap=True)
    if work.note:
        console.print(f"  [dim]{escape(work.note)}[/]", soft_wrap=True)


def timed(tree: Tree, work: Callable[[], Any]) -> tuple[Any, float]:
    """What came of it, and the CPU seconds that the processes used for it."""
    before = tree.cpu()
    found = work()
    return found, tree.cpu() - before
