"""Import: what a verified source holds is written in batches, each whole pushes in one transaction."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from syncd.core.clock import LAST
from syncd.core.error_codes import ERROR_CODES
from syncd.core.errors import Malformed, QuotaExceeded
from syncd.core.pieces import in_turns
from syncd.core.principal import Principal
from syncd.core.sharing import UNBOUNDED, Sharing
from syncd.protocol.export_format import Member, Space, decode_spaces
from syncd.protocol.import_batch import ImportBatch, arrange, columns
from syncd.protocol.import_lines import ImportLine, LineReader
from syncd.protocol.normalize import OPS, Limits, deletes
from syncd.protocol.push_decision import LARGEST_RECORD, MARKS
from syncd.service.aside import beside
from syncd.service.spaces import refused
from syncd.store.backup import Appended, Backups
from syncd.store.pool import UNWRITABLE, Pool, Refusal, unwritable
from syncd.store.usage import Over
from syncd.transfer.export_reader import ExportReader

BATCH_CHANGES, BATCH_BYTES = 500, 4 << 20
# Of an operator's, which waits for nobody and is waited for by nobody: each is a flush to the disk.
OPERATORS_CHANGES = 2000
# A push is written whole, so it is held whole.
MOST_CHANGES, MOST_BYTES = 100_000, 128 << 20
LISTED = 100
# Where sync_import's arguments have the change ids that it is to look for.
IDS = 5
T = TypeVar("T")
Wrote = Callable[[str, str, int], None]
Push = tuple[str, str, int]
Step = Callable[[int], None]
# What is wrong with a change by the schema of its table, None: nothing.
Judge = Callable[[ImportLine], str | None]


class ImportReport(msgspec.Struct):
    """What an import did. `refusals`: the first of them, by line; `written`: how far each (space, app) has come."""

    events: int
    imported: int = 0
    duplicates: int = 0
    refused: int = 0
    refusals: list[dict[str, Any]] = []
    spaces: dict[str, list[str]] = {}

    def refuse(self, number: int, code: str, detail: str | None = None, event: str | None = None) -> None:
        self.refused += 1
        if len(self.refusals) < LISTED:
            known = {} if event is None else {"eventId": event}
            self.refusals.append({"line": number, **known, "code": code, "detail": detail or ERROR_CODES[code].text})


class Appending(Protocol):
    """Writes a batch: a letter for each change, and how far each feed has come."""

    async def __call__(self, batch: ImportBatch) -> tuple[str, list[int]]: ...


class _Taken(NamedTuple):
    """A batch as it was read, and how often and why lines before its end could not be: arguments of `refuse`."""

    batch: list[ImportLine]
    refused: list[tuple[Any, ...]]


class Batches:
    """A source's changes in batches that end between pushes; what cannot be imported, or is refused by `judge`, goes to
    the report. `most`: changes after which a batch ends; `ahead`: the next one is read while one is written, beside
    nobody else's work."""

    def __init__(
        self, source: ExportReader, reader: LineReader, report: ImportReport, judge: Judge = lambda _: None,
        most: int = BATCH_CHANGES, *, ahead: bool = False,
    ) -> None:  # fmt: skip
        self._lines, self._reader, self._report, self._judge = source.lines(), reader, report, judge
        self._full, self._ahead = most, ahead
        self._next: ImportLine | None = None
        self._rest: list[ImportLine] = []
        self._most = 1
        self._reading: asyncio.Task[_Taken] | None = None
        self.cut: Push | None = None

    @property
    def following(self) -> Push | None:
        """The push of the change behind the last batch, where that is known: it may have begun in it."""
        return self._rest[0].push if self._rest else None

    def put_back(self, rest: list[ImportLine], written: list[ImportLine]) -> None:
        """Changes of a batch that have to wait, since those that were written were as much as may be at once."""
        self._rest[:0] = rest
        self._most = max(1, 2 * len(written))
        self.cut = rest[0].push if written and written[-1].push == rest[0].push else None

    def _again(self) -> list[ImportLine]:
        end = min(self._most, len(self._rest))
        # A push is tried whole, but not one that was cut already: each part of it would cost all of it.
        while end < len(self._rest) and self._rest[end].push == self._rest[end - 1].push != self.cut:
            end += 1
        batch, self._rest = self._rest[:end], self._rest[end:]
        self._most *= 2
        return batch

    async def next(self) -> list[ImportLine]:
        """The next batch, empty at the end. Raises Malformed for what is no export."""
        if self._rest:
            return await self.apart(self._again)
        reading, self._reading = self._reading or self._begin(), None
        taken = await reading
        for why in taken.refused:
            self._report.refuse(*why)
        if self._ahead and taken.batch:
            self._reading = self._begin()
        return taken.batch

    async def close(self) -> None:
        """Waits for what is being read ahead: its file is about to be closed."""
        if self._reading is not None:
            await asyncio.wait([self._reading])
            self._reading.exception()

    async def apart(self, work: Callable[..., T], *arguments: object) -> T:
        """Work in a thread, which rests where others work."""
        return await (asyncio.to_thread(work, *arguments) if self._ahead else beside(work, *arguments))

    def _begin(self) -> asyncio.Task[_Taken]:
        return asyncio.create_task(self.apart(self._read))

    def _read(self) -> _Taken:
        """Reads and checks: for a thread."""
        taken = _Taken([] if self._next is None else [self._next], [])
        batch = taken.batch
        self._next, size = None, 0
        for text in in_turns(self._lines):
            try:
                change = self._reader.read(text)
            except Malformed as why:
                taken.refused.append((self._reader.number, why.code, why.detail))
                continue
            if (wrong := self._judge(change)) is not None:
                taken.refused.append((change.number, "rule_refused", wrong, change.line.eventId))
                continue
            if (len(batch) >= self._full or size > BATCH_BYTES) and batch[-1].push != change.push:
                self._next = change
                return taken
            batch.append(change)
            size += len(text)
            if len(batch) > MOST_CHANGES or size > MOST_BYTES:
                raise Malformed("A push in it is larger than a server takes.", code="invalid_export")
        return taken


async def restore(
    batches: Batches, append: Appending, report: ImportReport, wrote: Wrote = lambda *_: None,
    step: Step = lambda _: None, full: Mapping[str, Over] = MappingProxyType({}),
) -> None:  # fmt: skip
    """Writes all batches. `wrote` hears how far each (space, app) has come, `step` of each batch's changes; `full`: the
    spaces that take nothing but deletions just now.

    Raises QuotaExceeded and what `append` raises; what was written stays, and the same import again goes on from there.
    """
    try:
        while batch := await batches.next():
            for change in batch if full else ():
                lessens = change.row.o == OPS["delete"] and deletes(change.row.f)
                if change.line.spaceId in full and not lessens:
                    raise QuotaExceeded(full[change.line.spaceId].quota)
            total = len(batch)
            written = await _append(batch, batches, append, report)
            if written.rest:
                batches.put_back(written.rest, batch)
                total -= len(written.rest)
            _note(batch, written, report, wrote)
            step(total)
    finally:
        await batches.close()


def _note(batch: list[ImportLine], written: _Appended, report: ImportReport, wrote: Wrote) -> None:
    """Says what became of a batch."""
    for change, mark in zip(batch, written.marks, strict=True):
        if mark == "a":
            report.imported += 1
        elif mark == "d":
            report.duplicates += 1
        else:
            report.refuse(change.number, MARKS[mark], event=change.line.eventId)
    head = written.batch.head
    for feed, reached in zip(head["feeds"], written.heads, strict=True):
        if reached:
            wrote(feed["s"], head["names"][feed["a"] - 1], reached)


class _Appended(NamedTuple):
    """What was written of a batch, and the changes of it that are still to be."""

    marks: str
    heads: list[int]
    batch: ImportBatch
    rest: list[ImportLine]


# Why the log refuses single changes of a batch, by what it raises.
TOO_MUCH = "SY008"
REASONS = {
    "SY001": "record_too_large", "SY004": "record_forgotten", TOO_MUCH: "push_too_large", "SY011": "too_many_names"
}  # fmt: skip


def _refused_alone(why: Refusal) -> dict[int, tuple[str, str | None]]:
    """The code and the text of each change that is refused for itself, by place; none where it is not of changes."""
    if why.state == UNWRITABLE:
        return {one.place: ("rule_refused", one.text) for one in unwritable(why)}
    places = msgspec.json.decode(why.said, type=list[int]) if why.state in REASONS else ()
    return dict.fromkeys(places, (REASONS.get(why.state, ""), None))


async def _append(batch: list[ImportLine], source: Batches, append: Appending, report: ImportReport) -> _Appended:
    """Writes a batch; a change that the log refuses is left out, and the others written. Of one that touches too much
    the beginning is written."""
    rest: list[ImportLine] = []
    while True:
        arranged = await source.apart(arranged_to_end, batch, rest[0].push if rest else source.following)
        try:
            return _Appended(*await append(arranged), arranged, rest)
        except Refusal as why:
            if not (refused := _refused_alone(why)):
                raise
            if why.state == TOO_MUCH and min(refused) > 1:
                rest[:0] = cut(batch, min(refused) - 1, source.cut)
                continue
            for place in sorted(refused, reverse=True):
                gone = batch.pop(place - 1)
                report.refuse(gone.number, *refused[place], event=gone.line.eventId)
        if not batch:
            return _Appended("", [0] * len(arranged.head["feeds"]), arranged, rest)


def arranged_to_end(batch: list[ImportLine], following: Push | None) -> ImportBatch:
    """A batch as the log takes it. A push that goes on behind it ends with it: it is more than is written, and read, in
    one piece."""
    made = arrange(batch)
    for i, change in enumerate(batch):
        if change.push == following:
            made.ends[i] = batch[-1].line.seq
    return made


def cut(batch: list[ImportLine], count: int, known: Push | None) -> list[ImportLine]:
    """Takes all but the first changes out of a batch, of which so many may be written, and returns them. The end is
    one of a push, or that of the first push, which is then tried alone; within that where there is nothing else, or
    where it is `known` to be too much."""
    end = count
    while end and batch[end - 1].push == batch[end].push:
        end -= 1
    if not end and batch[0].push != known:
        end = next((n for n, change in enumerate(batch) if change.push != batch[0].push), 0)
    end = end or count
    rest = batch[end:]
    del batch[end:]
    return rest


def as_arguments(batch: ImportBatch) -> list[Any]:
    """A batch as the arguments of sync_import that follow its head."""
    return [*batch[1:-1], [wave.decode() for wave in in_turns(batch.waves, 1)]]


class OperatorsAppend:
    """Writes batches in everybody's names. What is here already is mostly followed by more of it, and so is what is
    new: a batch that is new is not looked at change by change. `known`: that no change id is in the log."""

    def __init__(self, backups: Backups, *, known: bool = False) -> None:
        self._backups, self._known = backups, known
        self._new = self._ever = True

    async def __call__(self, batch: ImportBatch) -> Appended:
        """What became of each change. Raises Refusal."""
        head = {**batch.head, "largest": LARGEST_RECORD}
        if tried := self._new:
            found = await self._backups.append_new(head, await asyncio.to_thread(columns, batch, known=self._known))
            if found is not None:
                return found
        arguments = await asyncio.to_thread(as_arguments, batch)
        if self._known:
            arguments[IDS] = [None] * len(batch.ids)
        written = await self._backups.append(head, arguments)
        new = written.marks.strip("a") == ""
        self._ever = self._ever and not (tried and new)  # what keeps it from that way stays
        self._new = self._ever and new
        return written


class Importer:
    """Imports over a server's connections. `judge`: of what a user imports."""

    def __init__(
        self, pool: Pool, limits: Limits, sharing: Sharing = UNBOUNDED, judge: Judge = lambda _: None
    ) -> None:  # fmt: skip
        self._pool, self._backups, self._limits, self._sharing = pool, Backups(pool), limits, sharing
        self._judge = judge

    async def as_user(
        self, source: ExportReader, caller: Principal, latest: int, *, managed_elsewhere: bool = False,
        wrote: Wrote = lambda *_: None, step: Step = lambda _: None, full: Mapping[str, Over] = MappingProxyType({}),
    ) -> ImportReport:  # fmt: skip
        """Writes the caller's own changes, as the caller; stamps beyond `latest` (microseconds) are refused."""
        report = ImportReport(source.manifest.eventCount)
        spaces = await beside(decode_spaces, source.manifest)
        if not managed_elsewhere:
            await self._put_back(caller, spaces, report)

        async def append(batch: ImportBatch) -> tuple[str, list[int]]:
            head = {**caller.head(), **batch.head, "largest": LARGEST_RECORD, "touched": self._limits.max_touched}
            if any(feed["s"] == caller.personal for feed in batch.head["feeds"]):
                head["personal"] = True
            return await self._append(head, batch)

        reader = LineReader(self._limits, caller.user, latest, caller.service)
        await restore(Batches(source, reader, report, self._judge), append, report, wrote, step, full)
        return report

    async def _append(self, head: dict[str, Any], batch: ImportBatch) -> tuple[str, list[int]]:
        arguments = await beside(as_arguments, batch)
        return await self._told(head, batch, self._backups.append(head, arguments))

    async def _told(
        self, head: dict[str, Any], batch: ImportBatch, written: Awaitable[tuple[str, list[int]]]
    ) -> tuple[str, list[int]]:
        """What was written; a refusal of forgotten records says which they are."""
        try:
            return await written
        except Refusal as why:
            if why.state == "SY004" and not why.said:
                waves = await beside(as_arguments, batch)
                why.said = msgspec.json.encode(await self._backups.unremembered(head, waves[-1])).decode()
            raise

    async def _put_back(self, caller: Principal, spaces: list[Space], report: ImportReport) -> None:
        """The caller's own spaces, where they are missing; those of others are for them to put back."""
        report.spaces = {"created": [], "missing": []}
        for space in spaces:
            said = msgspec.json.encode(space.brought_back_by(caller.user)).decode()
            outcome = await self._put_back_one(caller, said)
            if outcome != "there":
                report.spaces["created" if outcome == "created" else "missing"].append(space.id)

    async def _put_back_one(self, caller: Principal, said: str) -> str:
        """`created`, `there`, or why not. Raises `too_many_requests` when the import is to be sent again later."""
        bounds = msgspec.json.encode(self._sharing.bounds()).decode()
        arguments = ("space_restore", said, self._sharing.ask, bounds)
        try:
            return str((await self._pool.fetch_as(caller.user, caller.adopt, *arguments, add=True))[0][0])
        except Refusal as why:
            if why.message == "limit_reached":
                return why.message
            raise refused(why) from None

    async def as_is(self, source: ExportReader, step: Step = lambda _: None) -> tuple[ImportReport, int, bool]:
        """Writes everything in everybody's name, for an operator. How many spaces there were to be put back, and
        whether the cursors of the devices are still good."""
        manifest = source.manifest
        report = ImportReport(manifest.eventCount)
        spaces = decode_spaces(manifest)
        if manifest.userId is not None:
            owner = Member(manifest.userId, "owner", manifest.createdAt)
            spaces.append(Space(Principal(manifest.userId).personal, "Personal", manifest.createdAt, [owner]))
        try:
            key = None if manifest.cursorKey is None else base64.b64decode(manifest.cursorKey, validate=True)
        except binascii.Error:
            raise Malformed("The manifest's cursorKey is not one.", code="invalid_export") from None
        made, numbered = await self._backups.put_back(msgspec.json.encode(spaces).decode(), key, manifest.createdAt)
        if manifest.blocks and manifest.userId is None:
            await self._backups.block(msgspec.json.encode(manifest.blocks).decode())

        write = OperatorsAppend(self._backups)

        async def append(batch: ImportBatch) -> tuple[str, list[int]]:
            head = {**batch.head, "largest": LARGEST_RECORD}
            return await self._told(head, batch, write(batch))

        batches = Batches(source, LineReader(self._limits, None, LAST), report, most=OPERATORS_CHANGES, ahead=True)
        await restore(batches, append, report, step=step)
        # One author's changes are no log of a feed, folded or not.
        if manifest.folded and manifest.userId is None:
            await self._backups.fold(msgspec.json.encode(manifest.folded).decode(), numbered)
        if numbered:
            await self._backups.settle()
        return report, made, numbered
