"""Export: the log as lines, counted and hashed, and the manifest that ends it. Bytes are made in the database."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC
from typing import IO, Any, Literal, NamedTuple, cast

import msgspec

from syncd.core.clock import format_instant
from syncd.protocol.export_format import FORMAT, Folded
from syncd.store.backup import PAGE_ROWS, ExportFeed, ExportPage, Snapshot

Format = Literal["ndjson", "zip"]
# Lines come separated by U+001E. A line break can only be white space between a value's tokens.
LINES = bytes.maketrans(b"\x1e\n\r", b"\n  ")
EVENTS, MANIFEST = "events.jsonl", "manifest.json"
# So that the same content gives the same archive.
NO_DATE = (1980, 1, 1, 0, 0, 0)
# Level 1 packs 200 MB/s to a fifth, level 6 a third of that to a sixth.
LEVEL = 1


class Scope(NamedTuple):
    """Whose changes. `user`: one author's; else a space's or (`all`) everything, with the key that signs cursors."""

    name: Literal["user", "space", "all"]
    user: str | None = None
    space: str | None = None
    key: bytes | None = None


class ExportTally:
    """What has gone out: lines, their hash, and the apps (as JSON texts) they are of."""

    def __init__(self) -> None:
        self.events = 0
        self.apps: set[str] = set()
        self._hash = hashlib.sha256()

    def add(self, lines: bytes, events: int) -> None:
        self._hash.update(lines)
        self.events += events

    def digest(self) -> str:
        """The hash of all lines so far, as hexadecimal digits."""
        return self._hash.hexdigest()


class Piece(NamedTuple):
    """Whole lines of one feed; `after`: the seq to go on from, should it be interrupted here."""

    lines: bytes
    events: int
    feed: int
    after: int


async def pieces(
    snapshot: Snapshot, feeds: Sequence[ExportFeed], *, feed: int = 0, after: int = 0
) -> AsyncGenerator[Piece]:
    """The lines of all feeds, some at a time, from the `feed`-th on and there after a seq. It has to be closed."""
    pages = _pages(snapshot, feeds, feed, after)

    async def following() -> tuple[int, ExportPage] | None:
        return await anext(pages, None)

    # The database is at the next page while this one is sent. One that nobody wants any more is cancelled, and its
    # query with it, before the connection is given back.
    coming = asyncio.create_task(following())
    try:
        while (found := await coming) is not None:
            coming = asyncio.create_task(following())
            await asyncio.sleep(0)  # so that it has asked before this one is looked at
            n, page = found
            lines = page.body.translate(LINES) + b"\n" if page.body else b""
            yield Piece(lines, page.events, n, page.upto)
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await pages.aclose()


async def _pages(
    snapshot: Snapshot, feeds: Sequence[ExportFeed], feed: int, after: int
) -> AsyncGenerator[tuple[int, ExportPage]]:
    for n in range(feed, len(feeds)):
        rows = PAGE_ROWS
        while after < feeds[n].head:
            page = await snapshot.page(feeds[n], after, rows)
            yield n, page
            # The next changes are about as large: to look at many more than fit is to read them twice, or ten times.
            rows = (page.upto - after) * 5 // 4 + 50
            after = page.upto
        after = 0


async def manifest(
    tally: ExportTally, scope: Scope, made: str, spaces: AsyncIterator[str], horizons: str | None = None,
    blocked: str | None = None,
) -> AsyncIterator[bytes]:  # fmt: skip
    """The manifest as JSON text, in pieces, for a user may be in many spaces. `made`: an instant; `horizons`,
    `blocked`: what was folded, and whom users block, as JSON text."""
    head: dict[str, Any] = {
        "formatVersion": FORMAT, "scope": scope.name, "userId": scope.user, "createdAt": made,
        "eventCount": tally.events, "eventsSha256": tally.digest(),
        "apps": [msgspec.Raw(app.encode()) for app in sorted(tally.apps)],
    }  # fmt: skip
    if scope.key is not None:
        head["cursorKey"] = base64.b64encode(scope.key).decode()
    if horizons is not None:
        head["folded"] = msgspec.Raw(horizons.encode())
    if blocked is not None:
        head["blocks"] = msgspec.Raw(blocked.encode())
    yield msgspec.json.encode(head)[:-1] + b',"spaces":['
    digest = hashlib.sha256(b"[")
    comma = b""
    async for space in spaces:
        text = comma + space.encode()
        digest.update(text)
        yield text
        comma = b","
    digest.update(b"]")
    yield b'],"spacesSha256":"%s"}' % digest.hexdigest().encode()


async def ndjson(events: AsyncGenerator[bytes], ending: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """One change a line, then a line with the manifest."""
    async with aclosing(events):
        async for lines in events:
            yield lines
    yield b'{"manifest":'
    async for text in ending:
        yield text
    yield b"}\n"


class ZipArchive:
    """A zip that is written forwards only: sizes follow the data, and may be more than 4 GB."""

    def __init__(self) -> None:
        self._made = bytearray()
        self._zip = zipfile.ZipFile(cast(IO[bytes], _Forwards(self._made)), "w", zipfile.ZIP_DEFLATED)
        self._entry: Any = None

    def begin(self, name: str) -> bytes:
        """The next entry."""
        self._close_entry()
        info = zipfile.ZipInfo(name, NO_DATE)
        info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o600 << 16
        info._compresslevel = LEVEL  # type: ignore[attr-defined]
        self._entry = self._zip.open(info, "w", force_zip64=True)
        return self._taken()

    def write(self, data: bytes) -> bytes:
        """Data of the entry, and what of the archive came of it."""
        self._entry.write(data)
        return self._taken()

    def end(self) -> bytes:
        """The end of the archive."""
        self._close_entry()
        self._zip.close()
        return self._taken()

    def _close_entry(self) -> None:
        if self._entry is not None:
            self._entry.close()
            self._entry = None

    def _taken(self) -> bytes:
        data = bytes(self._made)
        self._made.clear()
        return data


class _Forwards:
    """A file that can be written and nothing else, as zipfile wants it to stream."""

    def __init__(self, made: bytearray) -> None:
        self._made = made

    def write(self, data: bytes) -> int:
        self._made += data
        return len(data)

    def flush(self) -> None: ...


async def zipped(events: AsyncGenerator[bytes], ending: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """events.jsonl and manifest.json in a zip. Packing happens in a thread: it takes longer than anything else."""
    archive = ZipArchive()
    yield archive.begin(EVENTS)
    async with aclosing(events):
        async for lines in events:
            if packed := await asyncio.to_thread(archive.write, lines):
                yield packed
    yield archive.begin(MANIFEST)
    async for text in ending:
        yield archive.write(text)
    yield archive.write(b"\n") + archive.end()


async def export(snapshot: Snapshot, scope: Scope, form: Format) -> AsyncGenerator[bytes]:
    """An export of what a snapshot shows, in constant memory."""
    tally = ExportTally()
    feeds = await snapshot.feeds(scope.space)
    spaces = snapshot.spaces() if scope.user is not None else snapshot.spaces_whole(scope.space)

    async def events() -> AsyncGenerator[bytes]:
        async with aclosing(pieces(snapshot, feeds)) as found:
            async for piece in found:
                if piece.events:
                    tally.add(piece.lines, piece.events)
                    tally.apps.add(feeds[piece.feed].app)
                    yield piece.lines

    async def ending() -> AsyncIterator[bytes]:
        horizons, blocked = await folded(snapshot, scope, feeds), await blocks(snapshot, scope)
        async for text in manifest(tally, scope, instant(snapshot), spaces, horizons, blocked):
            yield text

    async with aclosing(ndjson(events(), ending()) if form == "ndjson" else zipped(events(), ending())) as written:
        async for data in written:
            yield data


async def folded(snapshot: Snapshot, scope: Scope, feeds: Sequence[ExportFeed]) -> str | None:
    """How far the feeds of an export were folded, as JSON text. It may have gone further than they are exported."""
    if (text := await snapshot.folded(scope.space)) is None:
        return None
    heads = {(msgspec.json.decode(feed.space_id), msgspec.json.decode(feed.app)): feed.head for feed in feeds}
    found = []
    for feed in msgspec.json.decode(text, type=list[Folded]):
        if head := heads.get((feed.space_id, feed.app_id)):
            feed.head, feed.horizon, feed.forgotten = head, min(feed.horizon, head), min(feed.forgotten, head)
            found.append(feed)
    return msgspec.json.encode(found).decode() if found else None


async def blocks(snapshot: Snapshot, scope: Scope) -> str | None:
    """Whom users block, as JSON text, of an export of everything."""
    return await snapshot.blocks() if scope.name == "all" else None


def instant(snapshot: Snapshot) -> str:
    """When a snapshot was taken."""
    made = snapshot.made.astimezone(UTC)
    return format_instant(int(made.timestamp()) * 1_000_000 + made.microsecond)
