"""Writes what arrives, batch by batch, each one transaction; and remembers what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from syncd.core.error_codes import ERROR_CODES
from syncd.core.errors import Busy
from syncd.protocol.export_format import Member, Space
from syncd.protocol.import_batch import ImportBatch, arrange
from syncd.protocol.push_decision import LARGEST_RECORD, MARKS
from syncd.store.backup import Backups
from syncd.store.imports import Feeds
from syncd.store.pool import Refusal
from syncd.transfer.foreign_changes import (
    ImportChange,
    ImportChanges,
    ImportCounts,
    RefusedRow,
    follow,
    moves_of,
    once,
    placed,
)
from syncd.transfer.importer import REASONS, OperatorsAppend, as_arguments
from syncd.transfer.keeping import kept
from syncd.transfer.sources.foreign import Source

Step = Callable[[int], None]
# What waits to be written while a batch is: enough that neither reader nor database is idle.
WAITING = 2
# A batch ends by its changes, or by the bytes that its values have.
BATCH_CHANGES, BATCH_BYTES = 2000, 8 << 20
TRIES = 3
Tell = Callable[[RefusedRow], None]


class ImportJob(NamedTuple):
    """What is needed to bring an origin's rows in."""

    origin: Source
    arrivals: ImportChanges
    counts: ImportCounts
    tell: Tell


class Chunk(NamedTuple):
    """Rows that were read together: how many, the changes that they are, and those that are to be held."""

    rows: int
    arrivals: list[ImportChange]
    held: list[RefusedRow]


async def portions(passage: ImportJob) -> AsyncIterator[Chunk]:
    """Reads an origin to its end, and looks at each row: the dry run of an import."""
    async for rows in passage.origin.rows():
        refused: list[RefusedRow] = []
        arrivals = await asyncio.to_thread(passage.arrivals.read, rows, passage.counts, refused)
        for one in refused:
            passage.tell(one)
        yield Chunk(len(rows), arrivals, [one for one in refused if one.kept is not None])


async def read_ahead(chunks: AsyncIterator[Chunk]) -> AsyncIterator[Chunk]:
    """The same chunks; the next one is read while one is looked at."""

    async def following() -> Chunk | None:
        return await anext(chunks, None)

    reading = asyncio.create_task(following())
    try:
        while (chunk := await reading) is not None:
            reading = asyncio.create_task(following())
            yield chunk
    finally:
        reading.cancel()
        await asyncio.wait([reading])


class Writer:
    """Writes portions for an operator, in everybody's name. Shared spaces must be there. `most`: how many changes and
    bytes of one user are held; `refused`: the events that the log did not take."""

    def __init__(self, backups: Backups, feeds: Feeds, passage: ImportJob, most: tuple[int, int]) -> None:
        self._backups, self._feeds, self._passage, self._most = backups, feeds, passage, most
        self._write = OperatorsAppend(backups, known=True)
        self._heads: dict[tuple[str, str], int] = {}
        self._personal: set[str] = set()
        self.refused: set[str] = set()

    async def write(self, step: Step, wrote: Callable[[str], None] = lambda _: None) -> None:
        """All of the origin. `step` hears how many rows each portion had, `wrote` the last created_at of each.

        Raises what the database's refusals are; what was written stays, and the same again goes on from there.
        """
        queue: asyncio.Queue[Chunk | None] = asyncio.Queue(WAITING)

        async def read() -> None:
            async for portion in portions(self._passage):
                await queue.put(portion)
            await queue.put(None)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(read())
                while (portion := await queue.get()) is not None:
                    for batch in _parts(portion.arrivals):
                        await self._batch(batch)
                    for one in portion.held:
                        await self._hold(one)
                    step(portion.rows)
                    if portion.arrivals:
                        wrote(portion.arrivals[-1].line.createdAt)
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None

    async def _batch(self, arrivals: list[ImportChange]) -> None:
        batch = list(once(arrivals, self._passage.counts.there))
        for turn in range(TRIES):
            try:
                batch = await self._without_known(batch)
                await self._move(batch)
                await self._ready(batch)
                await self._append(batch)
                return
            except Busy:
                # Its device may just have pushed one of them itself: then it is known by now.
                if turn == TRIES - 1:
                    raise

    async def _without_known(self, batch: list[ImportChange]) -> list[ImportChange]:
        """Asked beforehand and for all devices at once: the log asks for each of them, which is slower by far."""
        known = await self._feeds.known([arrival.identity for arrival in batch])
        for place in known:
            self._passage.counts.there[batch[place].line.table] += 1
        return [arrival for place, arrival in enumerate(batch) if place not in known] if known else batch

    async def _append(self, batch: list[ImportChange]) -> None:
        while batch:
            arranged = arrange(placed(batch, self._heads))
            try:
                marks, heads = await self._write(arranged)
            except Refusal as why:
                batch = await self._without_refused(why, batch, arranged)
                continue
            for feed, head in zip(arranged.head["feeds"], heads, strict=True):
                self._heads[feed["s"], arranged.head["names"][feed["a"] - 1]] = head
            for arrival, mark in zip(batch, marks, strict=True):
                if mark == "a":
                    self._passage.counts.imported[arrival.line.table] += 1
                else:
                    await self._refuse(arrival, MARKS[mark])
            return

    async def _without_refused(
        self, why: Refusal, batch: list[ImportChange], arranged: ImportBatch
    ) -> list[ImportChange]:
        """A batch without the changes that the log refuses. Raises the refusal where it is not of changes."""
        places: list[int] = []
        erased = why.state == "SY004" and why.said != ""
        if why.state == "SY001" or erased:
            places = msgspec.json.decode(why.said, type=list[int])
        elif why.state == "SY004":
            places = await self._backups.unremembered(arranged.head, as_arguments(arranged)[-1])
        if not places:
            raise why
        for place in places:
            await self._refuse(batch[place - 1], REASONS[why.state], hold=not erased)
        return [arrival for place, arrival in enumerate(batch, 1) if place not in places]

    async def _hold(self, one: RefusedRow) -> None:
        """Holds what cannot be written, as it would be if its device pushed it, unless it was written since."""
        assert one.kept is not None
        if one.kept.known and await self._feeds.known([(one.kept.user, one.kept.client, one.kept.content)]):
            return
        try:
            await self._feeds.hold(one.kept, one.code, self._most)
        except Refusal as why:
            if why.state != "SY006":
                raise
            self._passage.counts.held[one.table] -= 1
            self._passage.counts.refused[one.table] += 1
            detail = "so much of this user is held already: raise SYNCD_MAX_HELD or SYNCD_MAX_HELD_BYTES"
            self._passage.tell(RefusedRow(one.where, one.table, "held_full", detail))

    async def _refuse(self, arrival: ImportChange, code: str, *, hold: bool = True) -> None:
        keep = kept(arrival.found, arrival.row.c) if hold and self._passage.origin.legacy else None
        one = RefusedRow(arrival.where, arrival.line.table, code, ERROR_CODES[code].text, keep)
        self.refused.add(arrival.line.eventId)
        self._passage.tell(one)
        if keep is None:
            self._passage.counts.refused[one.table] += 1
        else:
            self._passage.counts.held[one.table] += 1
            await self._hold(one)

    async def _ready(self, batch: Iterable[ImportChange]) -> None:
        """Makes personal spaces, and finds out where feeds stand that are new here."""
        new = {arrival.feed: arrival.line for arrival in batch if arrival.feed not in self._heads}
        if not new:
            return
        await self._own({line.userId: line.createdAt for line in new.values() if line.spaceId.startswith("_personal:")})
        found = await self._feeds.heads(list(new))
        self._heads |= {feed: found.get(feed, 0) for feed in new}

    async def _own(self, users: dict[str, str]) -> None:
        """Makes the personal spaces of users, with the time of the first row."""
        made = [
            Space(f"_personal:{user}", "Personal", since, [Member(user, "owner", since)])
            for user, since in users.items()
            if user not in self._personal
        ]
        if made:
            await self._backups.put_back(msgspec.json.encode(made).decode(), None, made[0].createdAt)
            self._personal.update(users)

    async def _move(self, batch: Sequence[ImportChange]) -> None:
        """Moves records that a new change moves out of their author's personal space, before it is written: killed in
        between, the same again does both. What was written in a personal space goes to where its record is."""
        if not self._passage.origin.legacy:
            return
        personal = await self._feeds.personal([arrival.owned for arrival in batch])
        follow(batch, personal)
        if moves := moves_of(batch, personal):
            await self._own({move["u"]: move["at"] for move in moves})
            await self._feeds.move(moves, LARGEST_RECORD)
            for move in moves:  # both feeds went on
                self._heads.pop((move["s"], move["a"]), None)
                self._heads.pop((f"_personal:{move['u']}", move["a"]), None)


def _parts(arrivals: list[ImportChange]) -> list[list[ImportChange]]:
    """A portion in batches of a bounded size and of few feeds each: a feed costs the log a look at the whole batch."""
    parts: list[list[ImportChange]] = []
    size = BATCH_BYTES
    for arrival in sorted(arrivals, key=lambda one: one.feed):
        if size >= BATCH_BYTES or len(parts[-1]) == BATCH_CHANGES:
            parts.append([])
            size = 0
        parts[-1].append(arrival)
        size += arrival.size
    return parts
