"""An export into a file, which goes on where it was interrupted.

    FILE.plan   how far each feed had come when the export began, and the spaces as they were: what belongs to it
    FILE.part   the lines so far
    FILE        the export, when it is whole

The log is only appended to, so what the plan names is the same tomorrow, and so is the export.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import IO

import msgspec

from syncd.core.errors import Malformed
from syncd.store.backup import ExportFeed, Snapshot
from syncd.transfer.export import (
    EVENTS,
    MANIFEST,
    ExportTally,
    Format,
    Scope,
    ZipArchive,
    blocks,
    folded,
    instant,
    manifest,
    pieces,
)

CHUNK = 1 << 20
Step = Callable[[int], None]


class Plan(msgspec.Struct):
    """What an export consists of. `server`: the hash of its key; `feeds`: see store.backup.Feed."""

    server: str
    scope: str
    user: str | None
    space: str | None
    made: str
    feeds: list[ExportFeed]
    spaces: list[str]

    @property
    def total(self) -> int:
        """Changes of all authors in its feeds."""
        return sum(feed.head for feed in self.feeds)


class _Place(msgspec.Struct):
    spaceId: msgspec.Raw
    appId: msgspec.Raw
    seq: int


class ExportFile:
    """One export into `path`. Its files are the operator's alone: they hold what everybody wrote."""

    def __init__(self, path: Path, scope: Scope, server: bytes) -> None:
        self.path, self._scope = path, scope
        self.part, self._plan_path = (path.with_name(path.name + ending) for ending in (".part", ".plan"))
        self._server = hashlib.blake2b(server, digest_size=16).hexdigest()
        self.resumed = False
        self.plan: Plan

    async def begin(self, snapshot: Snapshot) -> Plan:
        """The plan, of the interrupted export where there is one. Raises Malformed when that was of something else."""
        if self._plan_path.exists():
            self.plan, self.resumed = msgspec.json.decode(self._plan_path.read_bytes(), type=Plan), True
            wanted = (self._server, self._scope.name, self._scope.user, self._scope.space)
            still = {feed[:2] for feed in await snapshot.feeds(self._scope.space)}
            if wanted != (self.plan.server, self.plan.scope, self.plan.user, self.plan.space) or not all(
                feed[:2] in still for feed in self.plan.feeds
            ):
                raise Malformed(f"{self._plan_path} is of another export: remove it, or choose another file.")
            return self.plan
        self.part.unlink(missing_ok=True)
        whole = self._scope.user is None
        spaces = [text async for text in (snapshot.spaces_whole(self._scope.space) if whole else snapshot.spaces())]
        feeds = await snapshot.feeds(self._scope.space)
        self.plan = Plan(
            self._server, self._scope.name, self._scope.user, self._scope.space, instant(snapshot), feeds, spaces
        )
        fresh = self._plan_path.with_name(self._plan_path.name + ".new")
        with _private(fresh, "wb") as file:
            file.write(msgspec.json.encode(self.plan))
            os.fsync(file.fileno())
        fresh.replace(self._plan_path)
        return self.plan

    async def write(self, snapshot: Snapshot, form: Format, step: Step) -> ExportTally:
        """Writes what is missing, and the end. `step` hears of seqs that are done, first of those done before."""
        tally = ExportTally()
        with _private(self.part, "a+b") as file:
            n, after = self._where(file, tally)
            step(sum(feed.head for feed in self.plan.feeds[:n]) + after)
            async with aclosing(pieces(snapshot, self.plan.feeds, feed=n, after=after)) as found:
                async for piece in found:
                    file.write(piece.lines)
                    tally.add(piece.lines, piece.events)
                    if piece.events:
                        tally.apps.add(self.plan.feeds[piece.feed].app)
                    step(piece.after - (after if piece.feed == n else 0))
                    n, after = piece.feed, piece.after
            horizons = await folded(snapshot, self._scope, self.plan.feeds)
            await self._end(file, tally, form, horizons, await blocks(snapshot, self._scope))
        return tally

    def _where(self, file: IO[bytes], tally: ExportTally) -> tuple[int, int]:
        """Which feed, and from which seq: the part as it is, up to its last whole line, is taken as done."""
        place, end = (0, 0), 0
        index = {(feed.space_id, feed.app): n for n, feed in enumerate(self.plan.feeds)}
        file.seek(0)
        for line in file:
            if not line.endswith(b"\n") or line.startswith(b'{"manifest":'):
                break
            found = msgspec.json.decode(line, type=_Place)
            place = index[bytes(found.spaceId).decode(), bytes(found.appId).decode()], found.seq
            tally.add(line, 1)
            tally.apps.add(bytes(found.appId).decode())
            end += len(line)
        file.truncate(end)
        file.seek(0, os.SEEK_END)
        return place

    async def _end(
        self, file: IO[bytes], tally: ExportTally, form: Format, horizons: str | None, blocked: str | None
    ) -> None:
        async def spaces() -> AsyncIterator[str]:
            for space in self.plan.spaces:
                yield space

        ending = [text async for text in manifest(tally, self._scope, self.plan.made, spaces(), horizons, blocked)]
        if form == "zip":
            packed = self.path.with_name(self.path.name + ".new")
            with _private(packed, "wb") as target:
                _pack(file, b"".join(ending), target)
            packed.replace(self.path)
            self.part.unlink()
        else:
            file.write(b'{"manifest":' + b"".join(ending) + b"}\n")
            file.flush()
            os.fsync(file.fileno())
            self.part.replace(self.path)
        self._plan_path.unlink()


def _pack(lines: IO[bytes], ending: bytes, target: IO[bytes]) -> None:
    archive = ZipArchive()
    target.write(archive.begin(EVENTS))
    lines.seek(0)
    while data := lines.read(CHUNK):
        target.write(archive.write(data))
    target.write(archive.begin(MANIFEST) + archive.write(ending + b"\n") + archive.end())
    target.flush()
    os.fsync(target.fileno())


def _private(path: Path, mode: str) -> IO[bytes]:
    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, 0o600)

    return open(path, mode, opener=opener)
