"""Follows a space's log over plain HTTP in pages of one size, whatever happens to the server and the line."""

from __future__ import annotations

import asyncio

import httpx

from tests.soak.history import History
from tests.support.device import Change, Device
from tests.support.harness import Server

LATER = (429, 503)


class Watcher:
    """A reader of all that its user may see. `stream`: what came, in order; `faults`: answers that may not be; `cuts`:
    (space, seq before, seq after) of each end of a page within a space."""

    def __init__(self, server: Server, user: str, limit: int, url: str, history: History) -> None:
        self.name, self.limit, self.history = f"pages-of-{limit}", limit, history
        self.device = Device(server, user, self.name, url=url, timeout=20)
        self.stream: list[Change] = []
        self.cuts: list[tuple[str, int, int]] = []
        self._heads: dict[str, int] = {}
        self.faults: list[str] = []
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        """Until told to stop, and then to the end of the log."""
        since = ""
        while True:
            last = self.stopping.is_set()
            try:
                response = await self.device.ask(since, limit=self.limit, history=1)
            except httpx.HTTPError as why:
                self.history.note(self.name, "failed", code="offline", detail=type(why).__name__)
                await asyncio.sleep(0.1)
                continue
            if response.status_code != 200:
                if response.status_code not in LATER:
                    # Above all never 410: what a reader has seen is never lost by a crash.
                    self.faults.append(f"{self.name} was answered {response.status_code}: {response.text[:200]}")
                    return
                self.history.note(self.name, "failed", code="busy")
                await asyncio.sleep(0.1)
                continue
            page = response.json()
            self._take(page["serverChanges"])
            since = page["syncedUntil"]
            if page["hasMore"]:
                continue
            if last:
                return
            await asyncio.sleep(0.05)

    def _take(self, changes: list[Change]) -> None:
        """One page."""
        self.stream += changes
        spaces = dict.fromkeys(change["spaceId"] for change in changes)
        for space in spaces:
            seqs = [change["seq"] for change in changes if change["spaceId"] == space]
            if space in self._heads:
                self.cuts.append((space, self._heads[space], seqs[0]))
            self._heads[space] = seqs[-1]
