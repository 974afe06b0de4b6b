"""`python -m bench [push|single|pull|idle|export|browser|growth|fanout|compaction|all] [--quick]`"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

import click

from bench import browser, compaction, export, fanout, growth, idle, plot, pull, push, single
from bench.figures import Measure, save
from bench.stage import Stage, console

MEASURES: dict[str, Callable[[Stage], list[Measure]]] = {
    "push": push.run, "single": single.run, "pull": pull.run, "idle": idle.run,
    "export": export.run, "browser": browser.run,
}  # fmt: skip
CURVES: dict[str, Callable[[Stage], tuple[list[Measure], dict[str, Any]]]] = {
    "growth": growth.run, "fanout": fanout.run, "compaction": compaction.run,
}  # fmt: skip
NAMES = [*MEASURES, *CURVES]


@click.command()
@click.argument("names", nargs=-1, type=click.Choice([*NAMES, "all"]))
@click.option("--quick", is_flag=True, help="Fewer and smaller rounds: quicker, and noisier.")
def main(names: tuple[str, ...], quick: bool) -> None:
    """Measures as ratios within one run, each against what syncd stands on, and draws them."""
    chosen = NAMES if not names or "all" in names else list(dict.fromkeys(names))
    started, found, curves = time.monotonic(), list[Measure](), dict[str, Any]()
    with Stage(quick) as stage:
        version = subprocess.run([stage.bindir / "postgres", "--version"], capture_output=True, text=True, check=True)
        for name in chosen:
            console.rule(name, align="left", style="dim")
            if name in MEASURES:
                found += MEASURES[name](stage)
            else:
                measures, drawn = CURVES[name](stage)
                found += measures
                curves |= drawn
    path, results = save(found, curves, quick=quick, postgres=version.stdout.split()[2])
    picture = plot.draw(results, path.with_suffix(".png"))
    missed = [one for one in found if not one.ok]
    console.rule(style="dim")
    console.print(f"{len(found)} measures in {time.monotonic() - started:.0f} s; {path} and {picture.name}")
    for one in missed:
        console.print(f"[red]not met[/]: {one.what}: {one.ratio:.2f}, target {one.target:g}", soft_wrap=True)


if __name__ == "__main__":
    main()
