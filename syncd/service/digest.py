"""Digests: what a device compares its replica with, and what of it is otherwise here."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import msgspec

from syncd.core.errors import CursorLost
from syncd.core.principal import Principal
from syncd.protocol import cursor as cursors
from syncd.protocol.cursor import Cursor
from syncd.store.digest import DigestPage, Digests
from syncd.store.pool import Refusal

# A fold of so many records takes some 15 ms. What is left over is reckoned with at every reading, so it is bounded too.
CHUNK = LAG = 500
# How long one request folds. A feed of 100,000 records is folded in a few of them, once.
SECONDS = 1.0
# Between two folds: others have their turn, and who is folded for by somebody else looks again.
PAUSE = 0.002
MAX_DIFFERENCES, PAGE_BYTES = 1000, 2 * 1024 * 1024


class Inquiry(NamedTuple):
    """What is asked about: the feeds of an app, or one of them. `since` None: wherever the device stands."""

    app: str
    since: str | None = None
    tables: tuple[str, ...] = ()
    space: str | None = None

    def call(self, caller: Principal, key: bytes) -> dict[str, Any]:
        """As sync_digest takes it. Raises BadCursor."""
        call: dict[str, Any] = {**caller.head(), "app": self.app, "lag": LAG, "chunk": CHUNK}
        if self.since is not None:
            call["since"] = self._position(caller, key)
        if self.tables:
            call["tables"] = self.tables
        return call if self.space is None else {**call, "space": self.space}

    def _position(self, caller: Principal, key: bytes) -> dict[str, Any]:
        at = cursors.decode(self.since or "", key, caller.user, self.app, self.tables)
        return at.since() if isinstance(at, Cursor) else {}


class DeviceBucket(NamedTuple):
    """What a device has in a bucket: all its live records there, as (table, id, digest)."""

    bucket: int
    records: list[tuple[str, str, str]]

    def call(self) -> dict[str, Any]:
        return {"bucket": self.bucket, "records": self.records, "limit": MAX_DIFFERENCES, "bytes": PAGE_BYTES}


async def digests(store: Digests, key: bytes, caller: Principal, inquiry: Inquiry) -> bytes:
    """The digests of feeds as JSON text. Raises SyncdError: bad_cursor, cursor_lost,
    space_not_found, busy, database_unavailable."""
    call = inquiry.call(caller, key)
    page = await _ask(store, call)
    lists = msgspec.json.encode(page.behind or []), msgspec.json.encode(page.unready or [])
    return b'{"spaces":[%b],"behind":%b,"unready":%b}' % ((page.body or "").encode(), *lists)


async def differences(store: Digests, key: bytes, caller: Principal, inquiry: Inquiry, held: DeviceBucket) -> bytes:
    """What a device has not as it is here, as JSON text. Raises what `digests` does, and digest_behind."""
    page = await _ask(store, {**inquiry.call(caller, key), **held.call()})
    more = b"true" if page.more else b"false"
    facts = (msgspec.json.encode(inquiry.space), page.seq or 0, (page.body or "").encode(), (page.gone or "").encode())
    return b'{"spaceId":%b,"seq":%d,"changes":[%b],"gone":%b,"hasMore":%b}' % (*facts, more)


async def _ask(store: Digests, call: dict[str, Any]) -> DigestPage:
    wanted = msgspec.json.encode({name: value for name, value in call.items() if name != "records"})
    await _fold(store, wanted)
    try:
        page = await store.ask(msgspec.json.encode(call))
    except Refusal as why:
        raise why.as_code() from None
    if page.trouble:
        raise CursorLost
    return page


async def _fold(store: Digests, call: bytes) -> None:
    """Folds for as long as one request may take."""
    loop = asyncio.get_running_loop()
    until = loop.time() + SECONDS
    more = await store.fold(call)
    while more and loop.time() < until:
        await asyncio.sleep(PAUSE)
        more = await store.fold(call)
