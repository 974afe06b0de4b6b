"""What was refused is counted here, and written into the audit by the hour."""

from __future__ import annotations

from collections import Counter

from syncd.store.audit import Audit

# What is counted between two writes; of more kinds than that nobody could read the list.
MOST_KINDS = 2000


class RefusalCounts:
    """How often something was refused since the last write, by what, why and space ("" for none). `quota_hits`: by
    quota, since the start."""

    def __init__(self, quota_hits: Counter[str]) -> None:
        self._counts = Counter[tuple[str, str, str]]()
        self._quota_hits = quota_hits

    def quota(self, quota: str, space: str = "") -> None:
        """Because of a quota, which is in /metrics as well."""
        self._quota_hits[quota] += 1
        self.add("quota_hits", quota, space)

    def add(self, what: str, why: str, space: str = "") -> None:
        """Once more."""
        if len(self._counts) >= MOST_KINDS:
            space = ""
        self._counts[what, why, space] += 1

    async def write(self, audit: Audit) -> None:
        """Writes what was counted; it goes on being counted where that fails. Raises Busy, DatabaseUnavailable."""
        if not self._counts:
            return
        counts, self._counts = self._counts, Counter()
        rows = [{"what": what, "why": why, "space": space or None, "n": n} for (what, why, space), n in counts.items()]
        try:
            await audit.count(rows)
        except Exception:
            self._counts.update(counts)
            raise
