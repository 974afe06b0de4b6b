"""Compaction: folds what was overwritten long ago out of the log, and lets the oldest tombstones go.

It goes on where it was stopped, in parts that each take a moment, and rests between them so that who pushes and pulls
has most of the database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from syncd.service.names import Names
from syncd.store.compaction import Compactor, Part, Stretch

# Changes a part, and tombstones where the feed is locked meanwhile: about a tenth, and a hundredth, of a second.
FOLDED_AT_ONCE, FORGOTTEN_AT_ONCE = 2000, 200
# Kept cursors that nobody used for the time of the history, or for so long where that is less, are lost.
CURSORS_UNUSED, CURSORS_AT_ONCE = timedelta(days=90), 100
DEVICES_AT_ONCE = 5000


class Policy(NamedTuple):
    """How old what goes has to be. `tombstones`, `audit`, `devices`: None keeps them; `space`: only of that one."""

    history: timedelta
    tombstones: timedelta | None = None
    space: str | None = None
    audit: timedelta | None = None
    devices: timedelta | None = timedelta(days=365)


class Archive(Protocol):
    """Where changes are kept that leave the log."""

    def write(self, lines: str) -> None:
        """Keeps lines, separated by U+001E, durably: after that they leave the log."""


@dataclass
class CompactionReport:
    """What was done: feeds and changes gone through, changes dropped, tombstones emptied and forgotten, kept cursors
    collected, names removed."""

    feeds: int = 0
    looked: int = 0
    dropped: int = 0
    emptied: int = 0
    forgotten: int = 0
    cursors: int = 0
    names: int = 0
    stopped: bool = False


class Compaction:
    """One run. `rest`: how long to pause after each part, as a share of what it took."""

    def __init__(
        self, compactor: Compactor, policy: Policy, now: datetime, *, archive: Archive | None = None, rest: float = 1.0,
    ) -> None:  # fmt: skip
        self._compactor, self._policy, self._now = compactor, policy, now
        self._archive = archive.write if archive is not None else None
        self._rest = rest
        self._step: Callable[[int], None] = lambda _: None
        self._over = False
        self.report = CompactionReport()

    def stop(self) -> None:
        """Ends the run after the part it is at."""
        self._over = True

    async def plan(self) -> list[Stretch]:
        """What there is to fold."""
        return await self._compactor.foldable(self._policy.space, self._now - self._policy.history)

    async def run(self, plan: list[Stretch], step: Callable[[int], None] | None = None) -> CompactionReport:
        """Does it. `step` is told how many seqs more were gone through. Raises LeaseLost."""
        self._step = step or self._step
        for feed in plan:
            await self._compactor.raise_horizon(feed)
            dropped = self.report.dropped
            await self._through(feed, self._fold)
            self.report.feeds += 1
            if self.report.dropped > dropped:
                await self._compactor.note(feed.space, {"folded": self.report.dropped - dropped})
        if self._policy.tombstones is not None and not self._over:
            before = self._now - self._policy.tombstones
            for feed in await self._compactor.forgettable(self._policy.space, before):
                forgotten = self.report.forgotten
                await self._through(feed, self._forget)
                if self.report.forgotten > forgotten:
                    await self._compactor.note(feed.space, {"forgotten": self.report.forgotten - forgotten})
        if self._policy.space is None:
            await self._collect()
        if self._policy.audit is not None and self._policy.space is None and not self._over:
            await self._compactor.prune_audit(self._now - self._policy.audit)
        if self._policy.space is None and not self._over:
            self.report.names = await Names(self._compactor, self._rest, lambda: self._over).remove()
        self.report.stopped = self._over
        return self.report

    async def _collect(self) -> None:
        before, found = self._now - max(self._policy.history, CURSORS_UNUSED), CURSORS_AT_ONCE
        while found == CURSORS_AT_ONCE and not self._over:
            begun = time.monotonic()
            found = await self._compactor.collect_cursors(before, CURSORS_AT_ONCE)
            await asyncio.sleep((time.monotonic() - begun) * self._rest)
            self.report.cursors += found
        if self._policy.devices is None:
            return
        before, found = self._now - self._policy.devices, DEVICES_AT_ONCE
        while found == DEVICES_AT_ONCE and not self._over:
            found = await self._compactor.collect_devices(before, DEVICES_AT_ONCE)

    async def _through(self, feed: Stretch, work: Callable[[Stretch], Awaitable[Part]]) -> None:
        done = feed.done
        while done < feed.upto and not self._over:
            begun = time.monotonic()
            part = await work(feed)
            await asyncio.sleep((time.monotonic() - begun) * self._rest)
            self._step(part.upto - done)
            done = part.upto

    async def _fold(self, feed: Stretch) -> Part:
        part = await self._compactor.fold(feed, FOLDED_AT_ONCE, self._archive)
        self.report.looked += part.looked
        self.report.dropped += part.changes
        self.report.emptied += part.tombstones
        return part

    async def _forget(self, feed: Stretch) -> Part:
        part = await self._compactor.forget(feed, FORGOTTEN_AT_ONCE, self._archive)
        self.report.dropped += part.changes
        self.report.forgotten += part.tombstones
        return part
