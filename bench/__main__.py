"""`python -m bench [NAME...] [--quick]`"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from bench import browser, compaction, growth, live, page, plot, pull, push, transfer
from bench.figures import Work, save
from bench.peers import cast
from bench.stage import Stage, console

Curves = dict[str, Any]
WORKS: dict[str, Callable[[Stage], list[Work]]] = {
    "singles": push.singles, "batches": push.batches, "hot": push.hot, "fresh": pull.fresh,
    "first_pulls": pull.first_pulls, "spaces": pull.spaces, "connection": live.connection,
    "transfer": transfer.run,
    "browser": browser.run,
}  # fmt: skip
CURVES: dict[str, Callable[[Stage], tuple[list[Work], Curves]]] = {
    "live": live.live, "growth": growth.run, "compaction": compaction.run,
}  # fmt: skip
NAMES = [*WORKS, *CURVES]


@click.command()
@click.argument("names", nargs=-1, type=click.Choice([*NAMES, "all"]))
@click.option("--quick", is_flag=True, help="Fewer and smaller rounds: quicker, and noisier.")
def main(names: tuple[str, ...], quick: bool) -> None:
    """Does works in turn with floors and peers, says what came of it, and keeps it in bench/results."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that all that it started is stopped
    chosen = NAMES if not names or "all" in names else list(dict.fromkeys(names))
    started, found, curves = time.monotonic(), list[Work](), Curves()
    with Stage(quick) as stage:
        version = subprocess.run([stage.bindir / "postgres", "--version"], capture_output=True, text=True, check=True)
        for name in chosen:
            console.rule(name, align="left", style="dim")
            begun = time.monotonic()
            if name in WORKS:
                found += WORKS[name](stage)
            else:
                works, drawn = CURVES[name](stage)
                found += works
                curves |= drawn
            console.print(f"  [dim]{time.monotonic() - begun:.0f} s[/]")
    seconds = time.monotonic() - started
    path, results = save(found, curves, quick=quick, postgres=version.stdout.split()[2], seconds=seconds,
                   peers=cast.VERSIONS, absent=cast.ABSENT)  # fmt: skip
    console.rule(style="dim")
    console.print(f"{len(found)} works in {seconds:.0f} s: {path}")
    if not quick:
        plot.draw(results)
        page.write(results)
        console.print(f"written: {page.PAGE} and its plots")
    for name, why in cast.ABSENT.items():
        console.print(f"[yellow]absent[/]: {name}: {why}", soft_wrap=True)


if __name__ == "__main__":
    main()
