"""What a worker counts, for /metrics."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncd.protocol.push_answer import PushAnswer

# Upper bounds in seconds of the lag from a hint to the last listener's buffer.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Counts:
    """Plain numbers; `lags[i]` counts lags of at most BUCKETS[i], the last one all that are longer."""

    def __init__(self) -> None:
        self.connections = self.subscriptions = self.streams = 0
        self.batches = self.deliveries = self.delivered_bytes = 0
        self.catch_ups = self.dropped_back = self.failed_looks = 0
        self.held = 0
        # In work, and how many may be.
        self.requests = self.request_limit = 0
        # Of first syncs: pages that were not made again, and the bytes of those that are kept.
        self.shared_pages = self.shared_page_bytes = 0
        self.names = self.spaces = 0
        # Of each consumer: its processes, and the feeds, changes and seconds that it is behind.
        self.consumers: dict[str, list[float]] = {}
        # Of each table's projection: the feeds, changes and seconds that it is behind.
        self.projections: dict[str, list[float]] = {}
        # Of each webhook: attempts taken, not taken, and again; dead letters; seconds, and how many took how long.
        self.webhooks: dict[str, list[float]] = {}
        # Spaces that are full, and refusals, by quota.
        self.full: dict[str, int] = {}
        self.quota_hits: Counter[str] = Counter()
        # Reads that a standby may answer: by who did, and those that one did not, by why.
        self.reads: dict[str, int] = {}
        self.turned: dict[str, int] = {}
        # Standbys by name: the bytes that each is behind, -1 where it is not read.
        self.standbys: dict[str, int] = {}
        self.closed = self.pushes = self.changes = self.pulls = 0
        self.lags = [0] * (len(BUCKETS) + 1)
        self.lag_sum = 0.0

    def pushed(self, answer: PushAnswer) -> None:
        """A push was answered."""
        self.pushes += 1
        self.changes += sum(result.status in ("applied", "superseded") for result in answer.results)

    def lag(self, seconds: float) -> None:
        """A batch reached its listeners so long after the hint."""
        self.lag_sum += seconds
        place = next((i for i, bound in enumerate(BUCKETS) if seconds <= bound), len(BUCKETS))
        self.lags[place] += 1
