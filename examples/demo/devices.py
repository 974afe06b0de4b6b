"""Devices: each a user's SQLite replica that writes commits while offline, and syncs now and then."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syncd_client import (
    Batch,
    HttpSender,
    Replica,
    Report,
)

from examples.demo.history import Commit, Edit, record_id

APP, SPACE, TABLE = "demo", "repository", "files"
MOST_DEVICES = 48
LARGEST_BATCH = 500  # edits; a commit that has more is written as several batches


@dataclass(frozen=True, slots=True)
class Part:
    """The parts of the play: a device's name, its user, and the user's commits that fell to it, oldest first."""

    name: str
    user: str
    commits: tuple[Commit, ...]


def cast(commits: Sequence[Commit], wanted: int) -> list[Part]:
    """A device for each author; where there are fewer than `wanted`, authors get several, in turn.

    Of more authors than `MOST_DEVICES` the most active ones play.
    """
    authors = [author for author, _ in Counter(commit.author for commit in commits).most_common(MOST_DEVICES)]
    number = max(wanted, len(authors))
    shares = {author: len(range(place, number, len(authors))) for place, author in enumerate(authors)}
    parts: list[Part] = []
    for author in authors:
        own = [commit for commit in commits if commit.author == author]
        for turn in range(shares[author]):
            parts.append(Part(f"device-{len(parts) + 1:02}", author, tuple(own[turn :: shares[author]])))
    return parts


@dataclass(slots=True)
class Tally:
    """What a device's syncs did, added up."""

    pushed: int = 0
    superseded: int = 0
    pulled: int = 0
    requests: int = 0
    conflicts: int = 0
    rejected: int = 0
    spans: list[float] = field(default_factory=list)

    def add(self, report: Report, seconds: float) -> None:
        """Add one sync's report."""
        self.pushed += report.pushed
        self.superseded += report.superseded
        self.pulled += report.pulled
        self.requests += report.requests
        self.conflicts += len(report.conflicts)
        self.rejected += len(report.rejected)
        self.spans.append(seconds)


class Device:
    """One part being played. Its clock shows the time of the commit it is writing, so stamps are the history's."""

    def __init__(self, part: Part, folder: Path, url: str, token: str, send: HttpSender) -> None:
        self.part, self.tally, self.written = part, Tally(), 0
        self._now = part.commits[0].at if part.commits else 0
        self.replica = Replica(
            folder / f"{part.name}.db",
            app=APP,
            url=url,
            token=token,
            client_id=part.name,
            send=send,
            wall=lambda: self._now,
        )

    def write(self, commit: Commit) -> None:
        """One commit, offline: a batch that is seen whole or not at all."""
        self._now = max(self._now, min(commit.at, time.time_ns() // 1000))
        for start in range(0, len(commit.edits), LARGEST_BATCH):
            with self.replica.batch() as batch:
                for edit in commit.edits[start : start + LARGEST_BATCH]:
                    self._edit(batch, commit, edit)
                self.written += len(batch.writes)

    def _edit(self, batch: Batch, commit: Commit, edit: Edit) -> None:
        known = self.replica.get(TABLE, record_id(edit.old or edit.path), space=SPACE)
        if edit.status == "deleted":
            batch.delete(TABLE, record_id(edit.path), space=SPACE, upsert=True)  # it may be of before the history
            return
        fields = dict(_fields(commit, edit, dict(known or {})))
        if edit.old is not None:
            batch.delete(TABLE, record_id(edit.old), space=SPACE, upsert=True)
        if edit.status == "modified" and known is not None:
            batch.patch(TABLE, record_id(edit.path), fields, space=SPACE)
        else:
            # A renamed file is a new record, with what is known of the old one.
            batch.put(TABLE, record_id(edit.path), {**(known or {}), "path": edit.path, **fields}, space=SPACE)

    def sync(self) -> None:
        """Online for a moment."""
        started = time.monotonic()
        self.tally.add(self.replica.sync(), time.monotonic() - started)

    def close(self) -> None:
        """Close the file."""
        self.replica.close()


def _fields(commit: Commit, edit: Edit, known: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Only the fields that this edit changes, counted on from what the device has seen."""
    yield "status", edit.status
    yield "commits", known.get("commits", 0) + 1
    yield "lastCommit", commit.hash
    yield "lastSubject", commit.subject
    if known.get("lastAuthor") != commit.author:
        yield "lastAuthor", commit.author
    if edit.added or "added" not in known:
        yield "added", known.get("added", 0) + edit.added
    if edit.removed or "removed" not in known:
        yield "removed", known.get("removed", 0) + edit.removed
    if edit.old is not None:
        yield "renamedFrom", edit.old
