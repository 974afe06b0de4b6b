"""`make demo-live` (SECONDS=15 DEVICES=2): starts a server, lets devices type, and says how live it was."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType

import httpx
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from syncd_client import Replica

from examples.live.typist import APP, SPACE, Keystrokes, Typist, bars, quantile
from examples.server import Server, ServerError

NAMES = ("phone", "laptop", "tablet", "kiosk", "van", "office")
STARTED_WITHIN, SETTLED_WITHIN = 30.0, 30.0


def main() -> int:
    """The exit code: 0 all hold the same, 1 they differ or were not live, 2 it cannot be started."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        devices, seconds = int(os.environ.get("DEVICES") or 2), float(os.environ.get("SECONDS") or 15)
        if not (2 <= devices <= len(NAMES) and 1 <= seconds <= 3600):
            raise ValueError
        return run(devices, seconds)
    except ValueError:
        print(f"DEVICES is 2 to {len(NAMES)}, SECONDS 1 to 3600", file=sys.stderr)
        return 2
    except ServerError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing is left behind", file=sys.stderr)
        return 130


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def run(devices: int, seconds: float) -> int:
    """Plays it."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 100
    keys = Keystrokes()
    console.print("starting a server and its PostgreSQL")
    with Server() as server:
        _invite(server, NAMES[:devices])
        with _desk(server, NAMES[:devices], keys) as typists:
            _play(console, typists, keys, seconds)
            same = _compare(console, server, typists)
        console.print("stopping the server")
    _report(console, keys)
    return 0 if same and keys.delays else 1


def _invite(server: Server, names: Sequence[str]) -> None:
    """One space, and everybody in it."""
    headers = {"Authorization": f"Bearer {server.token(names[0])}"}
    with httpx.Client(base_url=server.url, headers=headers) as http:
        http.post("/spaces", json={"id": SPACE, "name": "The meeting"}).raise_for_status()
        for name in names[1:]:
            http.put(f"/spaces/{SPACE}/members/{name}", json={"role": "writer"}).raise_for_status()


@contextlib.contextmanager
def _desk(server: Server, names: Sequence[str], keys: Keystrokes) -> Iterator[list[Typist]]:
    """The devices, once all of them are live."""
    with contextlib.ExitStack() as stack:
        typists = []
        for name in names:
            typists.append(Typist(name, server.folder, server.url, server.token(name), keys))
            stack.callback(typists[-1].close)
        deadline = time.monotonic() + STARTED_WITHIN
        while any(typist.live.state.name != "live" for typist in typists):
            if time.monotonic() > deadline:
                raise ServerError("the devices did not come live")
            time.sleep(0.02)
        yield typists


def _play(console: Console, typists: Sequence[Typist], keys: Keystrokes, seconds: float) -> None:
    until = time.monotonic() + seconds
    seed = int(os.environ.get("SEED") or random.randrange(1 << 30))
    threads = [
        threading.Thread(target=typist.type, args=(until, random.Random(seed + n)), daemon=True)
        for n, typist in enumerate(typists)
    ]
    for thread in threads:
        thread.start()
    if console.is_terminal:
        with Live(_screens(typists, keys, until), console=console, refresh_per_second=20) as live:
            while any(thread.is_alive() for thread in threads):
                live.update(_screens(typists, keys, until))
                time.sleep(0.05)
    else:  # a file, say: four lines, however long it takes
        left = (until - time.monotonic()) / 4
        for _ in range(4):
            time.sleep(max(0.0, left))
            console.print(_summary(keys), markup=False)
    for thread in threads:
        thread.join()


def _screens(typists: Sequence[Typist], keys: Keystrokes, until: float) -> RenderableType:
    """Each device's screen, side by side."""
    panels = [
        Panel(Text("\n".join(f"{n + 1}  {line}" for n, line in enumerate(typist.shown))), title=typist.name, width=46)
        for typist in typists
    ]
    left = max(0.0, until - time.monotonic())
    return Group(Columns(panels), Text(f"{left:4.0f} s left   {_summary(keys)}"))


def _summary(keys: Keystrokes) -> str:
    delays = list(keys.delays)
    middle = f"half of them within {quantile(delays, 0.5):.1f} ms" if delays else "none elsewhere yet"
    return f"{keys.pressed:,} keys pressed, {len(delays):,} seen on other screens, {middle}"


def _compare(console: Console, server: Server, typists: Sequence[Typist]) -> bool:
    """Whether every device and a fresh one hold the same, register by register."""
    settled = [typist.settle(SETTLED_WITHIN) for typist in typists]
    with Replica(":memory:", app=APP, url=server.url, token=server.token(typists[0].name)) as fresh:
        fresh.sync()
        wanted = fresh.all_registers()
    deadline = time.monotonic() + SETTLED_WITHIN
    while any(typist.registers() != wanted for typist in typists) and time.monotonic() < deadline:
        time.sleep(0.05)
    same = all(settled) and all(typist.registers() == wanted for typist in typists)
    said = f"All {len(typists)} devices and the server hold the same {len(wanted)} records."
    console.print(said if same else "They differ.", style="bold green" if same else "bold red")
    return same


def _report(console: Console, keys: Keystrokes) -> None:
    """The histogram."""
    table = Table(title="from a key pressed to another screen", box=None, title_justify="left", show_header=False)
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_column()
    for name, count, bar in bars(keys.delays):
        table.add_row(name, f"{count:,}", bar)
    console.print(table)
    p50, p99, most = (quantile(keys.delays, share) for share in (0.5, 0.99, 1.0))
    console.print(f"{keys.pressed:,} keys pressed, seen {len(keys.delays):,} times on another screen:", markup=False)
    console.print(f"median {p50:.1f} ms, 99 % within {p99:.1f} ms, longest {most:.1f} ms", markup=False)


if __name__ == "__main__":
    sys.exit(main())
