"""`/metrics` for Prometheus: what every worker counts, whichever of them is asked.

Each worker puts its numbers on its own page of a board, a file in memory that the supervisor made; the one that is
asked reads all pages.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import msgspec

from syncd.core.numbers import ALL
from syncd.service.counts import BUCKETS, Counts
from syncd.store.webhooks import DURATIONS

PAGE = 16 * 1024
MAX_WORKERS = 256
BUS = ("told", "heard", "sent", "dropped", "ignored", "reconnects")

NUMBERS = ("names", "spaces")

GAUGES = {
    "connections": "Live connections, sockets and streams.",
    "streams": "Streams of server-sent events among them.",
    "subscriptions": "Apps that live connections are kept current in.",
    "requests": "Requests that count: in work, or come and not begun, as of a second ago.",
    "request_limit": "Requests that may be in work: falls while they wait long for their turn.",
    "shared_page_bytes": "Bytes of pages of first syncs that are kept for others, as of a second ago.",
}
CONSUMERS = {
    "processes": "Processes of a consumer that are there.",
    "lag_feeds": "Feeds of which a consumer has not acknowledged all.",
    "lag_changes": "Changes, of all tables of its apps, that a consumer has not acknowledged.",
    "lag_seconds": "For how long the oldest change waits for a consumer.",
}
PROJECTIONS = {
    "lag_feeds": "Feeds of which not all is in a table's projection.",
    "lag_changes": "Changes, of all tables of its app, that are not in a table's projection.",
    "lag_seconds": "For how long the oldest change waits for a table's projection.",
}
COUNTERS = {
    "batches": "Readings of a feed, each for all of its listeners.",
    "deliveries": "Frames of changes sent to sockets that were caught up.",
    "catch_ups": "Pages read for one device that was behind.",
    "dropped_back": "Times that a device that was current fell behind: too slow, or its feed was read again.",
    "closed": "Connections that the server ended with a close code.",
    "failed_looks": "Looks at members and heads that failed with the database.",
    "pushes": "Pushes answered with 200, over HTTP and sockets.",
    "changes": "Changes that these pushes appended.",
    "pulls": "Pulls answered with 200.",
    "shared_pages": "Pages of first syncs that were kept and not read again, as of a second ago.",
}


class Numbers(msgspec.Struct):
    """One worker's page."""

    counts: dict[str, int] = {}
    lags: list[int] = []
    lag_sum: float = 0.0
    bus: dict[str, int] = {}
    bus_up: int = 0
    ended: dict[str, int] = {}
    full: dict[str, int] = {}
    quota_hits: dict[str, int] = {}
    consumers: dict[str, list[float]] = {}
    webhooks: dict[str, list[float]] = {}
    projections: dict[str, list[float]] = {}
    reads: dict[str, int] = {}
    turned: dict[str, int] = {}
    standbys: dict[str, int] = {}


class Board:
    """Pages in a file descriptor. Without one (`fd` None) there is only this worker's own."""

    def __init__(self, fd: int | None, worker: int) -> None:
        self._fd, self.worker = fd, worker

    def put(self, numbers: Numbers) -> None:
        """Puts this worker's numbers on its page."""
        text = msgspec.json.encode(numbers)
        if self._fd is not None and len(text) <= PAGE - 8:
            os.pwrite(self._fd, zlib.crc32(text).to_bytes(4) + len(text).to_bytes(4) + text, self.worker * PAGE)

    def pages(self) -> Iterator[tuple[int, Numbers]]:
        """Every worker's numbers by the worker's place, without those of places that never had one."""
        size = os.fstat(self._fd).st_size if self._fd is not None else 0
        for worker in range(-(-size // PAGE)):
            for _ in range(3):  # one that is being written at this moment is read again
                page = os.pread(self._fd, PAGE, worker * PAGE) if self._fd is not None else b""
                text = page[8 : 8 + int.from_bytes(page[4:8])]
                if text and zlib.crc32(text) == int.from_bytes(page[:4]):
                    yield worker, msgspec.json.decode(text, type=Numbers)
                    break


def numbers(counts: Counts, bus: Any, ended: dict[str, int]) -> Numbers:
    """A worker's numbers now. `ended`: connections and requests that a bound ended, by why."""
    values = {name: getattr(counts, name) for name in (*GAUGES, *COUNTERS, "held", *NUMBERS)}
    told = {name: getattr(bus, name) for name in BUS}
    up = int(bus.state == "up")
    quota_hits = dict(counts.quota_hits)
    return Numbers(
        values, list(counts.lags), counts.lag_sum, told, up, ended, counts.full, quota_hits, counts.consumers,
        counts.webhooks, counts.projections, counts.reads, counts.turned, counts.standbys,
    )  # fmt: skip


def render(board: Board, own: Callable[[], Numbers]) -> bytes:
    """The page in Prometheus' text format. `own`: this worker's numbers, newer than those on the board."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(dict(board.pages()) | {board.worker: own()}))
    return generate_latest(registry)


class _Collector:
    def __init__(self, pages: dict[int, Numbers]) -> None:
        self._pages = sorted(pages.items())

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for names, family in ((GAUGES, GaugeMetricFamily), (COUNTERS, CounterMetricFamily)):
            for name, what in names.items():
                metric = family(f"syncd_{name}", what, labels=["worker"])
                for worker, page in self._pages:
                    metric.add_metric([str(worker)], page.counts.get(name, 0))
                yield metric
        yield from self._bus()
        yield self._ended()
        yield self._lag()
        # Each worker counts them all, every now and then.
        held = max((page.counts.get("held", 0) for _, page in self._pages), default=0)
        yield self._numbers()
        yield GaugeMetricFamily("syncd_held", "Changes held until they may be written.", value=held)
        yield from self._quotas()
        yield from self._consumers()
        yield from self._projections()
        yield from self._reads()
        yield from self._webhooks()

    def _webhooks(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        named = ["webhook"]
        processed = CounterMetricFamily(
            "syncd_webhook_processed", "Attempts to deliver a message.", labels=[*named, "status"]
        )
        retries = CounterMetricFamily("syncd_webhook_retries", "Those that were not a message's first.", labels=named)
        dead = GaugeMetricFamily("syncd_webhook_dead_letters", "Messages that were never taken.", labels=named)
        took = HistogramMetricFamily("syncd_webhook_duration_seconds", "How long an attempt took.", labels=named)
        for webhook, values in ((name, values) for _, page in self._pages for name, values in page.webhooks.items()):
            sent, failed, again, letters, seconds, *buckets = values
            processed.add_metric([webhook, "sent"], sent)
            processed.add_metric([webhook, "failed"], failed)
            retries.add_metric([webhook], again)
            dead.add_metric([webhook], letters)
            took.add_metric(
                [webhook], [*zip((*map(str, DURATIONS), "+Inf"), accumulate(buckets), strict=False)], seconds
            )
        yield from (processed, retries, dead, took)

    def _consumers(self) -> Iterator[Any]:
        return self._looked("consumer", "consumer", CONSUMERS, lambda page: page.consumers)

    def _projections(self) -> Iterator[Any]:
        return self._looked("projection", "view", PROJECTIONS, lambda page: page.projections)

    def _looked(
        self, kind: str, label: str, numbers: Mapping[str, str], of: Callable[[Any], Mapping[str, Sequence[float]]]
    ) -> Iterator[Any]:
        """What one worker looks at for all: a gauge of each number, by name."""
        from prometheus_client.core import GaugeMetricFamily

        for place, (name, what) in enumerate(numbers.items()):
            metric = GaugeMetricFamily(f"syncd_{kind}_{name}", what, labels=[label])
            for _, page in self._pages:
                for one, values in of(page).items():
                    metric.add_metric([one], values[place])
            yield metric

    def _bus(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        up = GaugeMetricFamily("syncd_bus_up", "Whether hints come from other processes at once.", labels=["worker"])
        hints = CounterMetricFamily("syncd_bus_hints", "Hints by what became of them.", labels=["worker", "what"])
        for worker, page in self._pages:
            up.add_metric([str(worker)], page.bus_up)
            for what, value in page.bus.items():
                hints.add_metric([str(worker), what], value)
        yield from (up, hints)

    def _numbers(self) -> Any:
        from prometheus_client.core import GaugeMetricFamily

        what = "How much of the numbers for names and spaces is used up; at 1 nothing new can be named."
        metric = GaugeMetricFamily("syncd_numbers_used", what, labels=["kind"])
        for kind in NUMBERS:
            metric.add_metric([kind], max((page.counts.get(kind, 0) for _, page in self._pages), default=0) / ALL)
        return metric

    def _quotas(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        full = GaugeMetricFamily("syncd_full_spaces", "Spaces that take only deletions, by quota.", labels=["quota"])
        for quota in sorted({quota for _, page in self._pages for quota in page.full}):
            full.add_metric([quota], max(page.full.get(quota, 0) for _, page in self._pages))
        hits = CounterMetricFamily("syncd_quota_hits", "Refusals because of a quota.", labels=["worker", "quota"])
        for worker, page in self._pages:
            for quota, value in page.quota_hits.items():
                hits.add_metric([str(worker), quota], value)
        yield from (full, hits)

    def _reads(self) -> Iterator[Any]:
        """Each worker looks at the standbys; the one that thinks least of a standby is the one that is shown."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        what = "Reads that a standby may answer, by who answered: a standby, or `primary`."
        reads = CounterMetricFamily("syncd_reads", what, labels=["worker", "where"])
        what = "Reads that a standby was asked for and did not answer, by why; the primary did."
        turned = CounterMetricFamily("syncd_reads_turned", what, labels=["worker", "why"])
        for worker, page in self._pages:
            for metric, values in ((reads, page.reads), (turned, page.turned)):
                for key, value in values.items():
                    metric.add_metric([str(worker), key], value)
        up = GaugeMetricFamily("syncd_standby_up", "Whether a standby is read.", labels=["standby"])
        what = "Bytes of WAL that a standby was behind the primary when it was looked at last."
        lag = GaugeMetricFamily("syncd_standby_lag_bytes", what, labels=["standby"])
        for name in sorted({name for _, page in self._pages for name in page.standbys}):
            found = [page.standbys[name] for _, page in self._pages if name in page.standbys]
            up.add_metric([name], int(min(found) >= 0))
            lag.add_metric([name], max(behind if behind >= 0 else -1 - behind for behind in found))
        yield from (reads, turned, up, lag)

    def _ended(self) -> Any:
        from prometheus_client.core import CounterMetricFamily

        what = "Connections and requests that a bound refused or ended, by the code of the reason."
        metric = CounterMetricFamily("syncd_refusals", what, labels=["worker", "why"])
        for worker, page in self._pages:
            for why, value in page.ended.items():
                metric.add_metric([str(worker), why], value)
        return metric

    def _lag(self) -> Any:
        from prometheus_client.core import HistogramMetricFamily

        what = "Seconds from a hint to the last caught-up listener's frame."
        metric = HistogramMetricFamily("syncd_fanout_lag_seconds", what, labels=["worker"])
        for worker, page in self._pages:
            total, buckets = 0, list[tuple[str, float]]()
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), page.lags, strict=False):
                total += count
                buckets.append((bound, total))
            metric.add_metric([str(worker)], buckets, page.lag_sum)
        return metric
