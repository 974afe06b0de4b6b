"""`python -m bench [NAME...] [--quick]`"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from bench import back_end, browser, compaction, consume, day, growth, live, page, plot, pull, push, transfer
from bench.figures import Results, Work, results_path, save
from bench.machine import Watch
from bench.peers import cast
from bench.stage import Stage, console

Curves = dict[str, Any]
WORKS: dict[str, Callable[[Stage], list[Work]]] = {
    "singles": push.singles, "batches": push.batches, "hot": push.hot, "fresh": pull.fresh,
    "first_pulls": pull.first_pulls, "spaces": pull.spaces, "connection": live.connection,
    "transfer": transfer.run, "consume": consume.run,
    "checks": back_end.checks, "write": back_end.written, "projections": back_end.projections,
    "browser": browser.run,
}  # fmt: skip
CURVES: dict[str, Callable[[Stage], tuple[list[Work], Curves]]] = {
    "live": live.live, "growth": growth.run, "compaction": compaction.run,
    "day": day.day,
}  # fmt: skip
NAMES = [*WORKS, *CURVES]


@click.command()
@click.argument("names", nargs=-1, type=click.Choice([*NAMES, "all"]))
@click.option("--quick", is_flag=True, help="Fewer and smaller rounds: quicker, and noisier.")
def main(names: tuple[str, ...], quick: bool) -> None:
    """Does works in turn with floors and peers, says what came of it, and keeps it in bench/results."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that all that it started is stopped
    chosen = NAMES if not names or "all" in names else list(dict.fromkeys(names))
    failed, results = list[str](), None
    if chosen == NAMES:
        results_path(quick).unlink(missing_ok=True)  # the figures of one run, and of no other
    with Stage(quick) as stage:
        version = subprocess.run([stage.bindir / "postgres", "--version"], capture_output=True, text=True, check=True)
        for name in chosen:
            console.rule(name, align="left", style="dim")
            begun = time.monotonic()
            try:
                works, curves = _done(stage, name)
            except Exception:  # one that fails takes nothing from the others
                console.print_exception()
                failed.append(name)
                continue
            results = save(works, curves, quick=quick, postgres=version.stdout.split()[2],
                           took={name: time.monotonic() - begun}, peers=cast.VERSIONS, absent=cast.ABSENT)  # fmt: skip
    if results is not None:
        _closed(results, quick)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _done(stage: Stage, name: str) -> tuple[list[Work], Curves]:
    begun = time.monotonic()
    with Watch() as watch:
        works, curves = CURVES[name](stage) if name in CURVES else (WORKS[name](stage), Curves())
    for work in works:
        work.others = work.others or watch.others
    console.print(f"  [dim]{time.monotonic() - begun:.0f} s, others used {watch.others:.2f} cores[/]")
    return works, curves


def _closed(results: Results, quick: bool) -> None:
    """The page and its plots, and what to know of the whole."""
    console.rule(style="dim")
    console.print(f"{len(results.works)} works, {results.seconds:.0f} s: {results_path(quick)}", soft_wrap=True)
    if not quick:
        plot.draw(results)
        page.write(results)
        console.print(f"written: {page.PAGE} and its plots", soft_wrap=True)
    busy = sum(work.busy for work in results.works.values())
    if busy:
        console.print(f"[red]busy machine[/]: others used more than they may during {busy} works", soft_wrap=True)
    for name, why in results.absent.items():
        console.print(f"[yellow]absent[/]: {name}: {why}", soft_wrap=True)


if __name__ == "__main__":
    main()
