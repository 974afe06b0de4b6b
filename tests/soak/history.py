"""Who did what when: the events of a round, in the order they were heard of.

Each is an object with `t` (seconds since 1970), `who` and `ev`:
`wrote` (space, n, saw: {device: n}, ids), `seen` (space, heads: {device: n}, torn, canaries), `acked` (ids),
`refused` (space, code, id), `failed` (code), `emptied`, `started`, `fault` (name, until), `removed` (until, canary).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class History:
    """The events, and where they can be read when all is over."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def note(self, who: str, ev: str, **more: Any) -> Event:
        """An event of now, which may be completed later."""
        event = {"t": time.time(), "who": who, "ev": ev, **more}
        self.events.append(event)
        return event

    def of(self, *kinds: str) -> list[Event]:
        """Those of some kinds, by their time."""
        return sorted((event for event in self.events if event["ev"] in kinds), key=lambda event: float(event["t"]))

    def save(self, path: Path) -> None:
        """One event a line."""
        path.write_text("".join(json.dumps(event) + "\n" for event in self.events))
