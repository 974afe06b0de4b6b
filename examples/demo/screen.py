"""What the demo shows: a progress bar on a terminal, plain lines elsewhere; tables at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from examples.demo.devices import Device
from examples.demo.proof import Holding

MOST_ROWS = 16
LONGEST_USER = 18


class Screen:
    """A context manager; the bar runs while it is open."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = 100
        self._started = time.monotonic()
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
        )
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def stage(self, text: str) -> None:
        """What is going on now."""
        self._bar.update(self._task, description=text)
        if not self._console.is_terminal:
            self.say(f"{time.monotonic() - self._started:6.1f} s  {text}")

    def expect(self, steps: int) -> None:
        """How many steps there will be."""
        self._bar.update(self._task, total=steps, completed=0)

    def advance(self, steps: int) -> None:
        """So many of them are done."""
        self._bar.advance(self._task, steps)

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, markup=False, soft_wrap=True)

    def table(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Names and figures."""
        table = Table(title=title, box=box.SIMPLE, show_header=False, title_justify="left")
        table.add_column()
        table.add_column(justify="right")
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    def proof(self, devices: Sequence[Device], holdings: Sequence[Holding], server: Sequence[Holding]) -> None:
        """The devices by the digest that they hold; of many devices that agree, a few."""
        table = Table(title="the proof", box=box.SIMPLE, title_justify="left")
        for name in ("who", "user", "records", "deleted", "sha256"):
            table.add_column(name, justify="right" if name in ("records", "deleted") else "left", no_wrap=True)
        hidden = 0
        for device, holding in zip(devices, holdings, strict=True):
            if len(table.rows) >= MOST_ROWS and all(holding.agrees(other) for other in server):
                hidden += 1
            else:
                _row(table, holding, device.part.user)
        if hidden:
            table.add_row(f"{hidden} more devices", "", "", "", "the same")
        for holding in server:
            _row(table, holding, "")
        self._console.print(table)


def _row(table: Table, holding: Holding, user: str) -> None:
    user = user if len(user) <= LONGEST_USER else user[: LONGEST_USER - 1] + "…"
    table.add_row(
        holding.who, Text(user), str(len(holding.records)), str(len(holding.tombstones) or ""), holding.digest[:24]
    )
