"""A simulated device: a replica that is live, somebody who types, and a screen that shows what has arrived."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from syncd_client import Changes, Replica

APP, SPACE, TABLE = "notes", "the-meeting", "lines"
LINES = 5
PHRASES = (
    "buy more seeds", "ask Noor about the roof", "the pump is louder than last week", "three broken panes, north side",
    "call back after four", "bring the long ladder", "meter reads 48 210", "Sam has the key", "no frost until Monday",
    "paint is dry", "order hose clamps", "look at the gutter again", "water the trial beds", "photos are in the folder",
)  # fmt: skip


class Keystrokes:
    """When each key was pressed, and how long it took to be seen elsewhere; seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pressed: dict[str, float] = {}
        self.pressed = 0
        self.delays: list[float] = []

    def press(self, key: str) -> None:
        """Now, before it is written."""
        with self._lock:
            self._pressed[key] = time.perf_counter()
            self.pressed += 1

    def see(self, key: str) -> None:
        """Somebody else's screen shows it."""
        now = time.perf_counter()
        with self._lock:
            if key in self._pressed:
                self.delays.append(now - self._pressed[key])


class Typist:
    """One device. Every key is a write of its own, as a text field of an application would make it."""

    def __init__(self, name: str, folder: Path, url: str, token: str, keys: Keystrokes) -> None:
        self.name, self._keys = name, keys
        self._replica = Replica(folder / f"{name}.db", app=APP, url=url, token=token, client_id=name)
        self._seen: dict[str, str] = {}
        self._count = 0
        self.shown = [""] * LINES
        self.live = self._replica.live(on_change=self._refresh)

    def type(self, until: float, chance: random.Random) -> None:
        """Types phrases into lines at random until an instant of `time.monotonic`."""
        while time.monotonic() < until:
            line, phrase = str(chance.randrange(LINES)), chance.choice(PHRASES)
            for length in range(1, len(phrase) + 1):
                if time.monotonic() >= until:
                    return
                self._press(line, phrase[:length])
                time.sleep(chance.uniform(0.04, 0.16))
            time.sleep(chance.uniform(0.2, 0.8))

    def _press(self, line: str, text: str) -> None:
        self._count += 1
        key = f"{self.name}:{self._count}"
        self._keys.press(key)
        self._replica.patch(TABLE, line, {"text": text, "by": self.name, "key": key}, space=SPACE, upsert=True)

    def _refresh(self, changes: Changes) -> None:
        """What an application does on a change: reads what it shows again."""
        for record in self._replica.query(TABLE, space=SPACE):
            key, by = str(record.get("key", "")), str(record.get("by", ""))
            self.shown[int(record.id)] = f"{by}: {record.get('text', '')}"
            if by != self.name and self._seen.get(record.id) != key:
                self._keys.see(key)
            self._seen[record.id] = key

    def settle(self, seconds: float) -> bool:
        """Whether the server has everything of this device in time."""
        return self.live.wait_until_synced(seconds)

    def registers(self) -> object:
        """All it holds, stamps included: to compare with others."""
        return self._replica.all_registers()

    def close(self) -> None:
        """Ends the connection, and closes the file."""
        self.live.close()
        self._replica.close()


def bars(delays: Sequence[float], width: int = 40) -> list[tuple[str, int, str]]:
    """A histogram: (milliseconds, how many, a bar)."""
    bounds = [1, 2, 3, 5, 10, 20, 50, 100, 1000]
    counts = [0] * (len(bounds) + 1)
    for delay in delays:
        counts[next((i for i, bound in enumerate(bounds) if delay * 1000 <= bound), len(bounds))] += 1
    names = [f"to {bound} ms" for bound in bounds] + ["longer"]
    most = max(max(counts), 1)
    return [(name, count, "█" * round(width * count / most)) for name, count in zip(names, counts, strict=True)]


def quantile(delays: Sequence[float], share: float) -> float:
    """Milliseconds within which that share of the keystrokes were seen."""
    ordered = sorted(delays)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 if ordered else 0.0
