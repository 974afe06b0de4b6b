"""Limits of requests, and the results of a sync and of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..data.change import Key
from ..data.conflict import Conflict
from ..data.events import SpacesChanged, Verified
from .pace import Pace, Paces
from .reply import Page

_GOAL = 10.0  # seconds for a request, on a line that is slow
_FIRST_CHANGES, _FIRST_BYTES = 250, 64 * 1024
_FIRST_FRAME, _LARGEST_FRAME = 32 * 1024, 256 * 1024  # nothing else gets through while a frame does


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest sizes of a request. Bytes are of JSON; the server's defaults are 1,000 changes, 10 MiB.

    `first`: tables, at most 8, that a new replica gets before the others. `change_bytes`: the largest change, as it is
    sent, which is the server's SYNCD_MAX_CHANGE.
    """

    push_changes: int = 1000
    push_bytes: int = 1024 * 1024
    batch_bytes: int = 8 * 1024 * 1024
    pull_limit: int = 1000
    first: tuple[str, ...] = ()
    change_bytes: int = 1024 * 1024

    @property
    def written(self) -> tuple[int, int, int]:
        """Most changes and most bytes of a batch, most bytes of a change."""
        return self.push_changes, self.batch_bytes, self.change_bytes

    def paces(self) -> Paces:
        """They are kept to from the beginning, and filled as far as the line carries."""
        return Paces(
            push=Pace(_FIRST_BYTES, self.push_bytes, _GOAL),
            socket=Pace(_FIRST_FRAME, min(self.push_bytes, _LARGEST_FRAME), _GOAL / 2),
            pull=Pace(_FIRST_CHANGES, self.pull_limit, _GOAL),
        )


@dataclass(slots=True)
class Report:
    """The result of a sync. Counts are of changes; `rejected` are changeIds, `left` and `joined` space ids, and so is
    `unreadable`: spaces of which the server could read nothing this time; what is new there comes when it can.

    `verified`: what a comparison with the server found, where it was time for one.
    """

    pushed: int = 0
    superseded: int = 0
    duplicates: int = 0
    pulled: int = 0
    requests: int = 0
    restarted: bool = False
    rejected: list[str] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    joined: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    verified: Verified | None = None

    def count(self, page: Page, done: Applied) -> None:
        """Adds an answer that was applied."""
        statuses = [result.status for result in page.results]
        self.pushed += sum(status != "rejected" for status in statuses)
        self.superseded += statuses.count("superseded")
        self.duplicates += statuses.count("duplicate")
        self.pulled += len(page.changes)
        self.rejected += done.rejected
        self.conflicts += done.conflicts
        if done.spaces is not None:
            self.joined += done.spaces.joined
            self.left += done.spaces.left
        self.unreadable += [space for space in page.unreadable if space not in self.unreadable]


@dataclass(frozen=True, slots=True)
class Applied:
    """The changes that an answer made here. `rejected`: changeIds. `changed`: the records that read differently now.

    `everything`: too much to be listed. `verified`: nothing was to be applied, the replica was compared. `conflicts`:
    those that it told, and that were found in it. `erased`: values were erased by it, which should leave the file now.
    `spaces`: the user's spaces are others now.
    """

    rejected: Sequence[str] = ()
    changed: Sequence[Key] = ()
    everything: bool = False
    verified: Verified | None = None
    conflicts: Sequence[Conflict] = ()
    erased: bool = False
    spaces: SpacesChanged | None = None
