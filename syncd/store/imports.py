"""What an import from elsewhere asks the database, for an operator: where feeds stand, and what records hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from syncd.store.pool import Pool


class StoredRecord(NamedTuple):
    """A record as the server has it, by its place from 1 among those that were asked for: registers as JSON text (None:
    no such record) and its last seq; `change`: the seq of the change that was asked for, None if the log lacks it."""

    place: int
    registers: str | None
    seq: int | None
    change: int | None


class PersonalRecord(NamedTuple):
    """A record of an author's personal space, by its place from 1; `moved_to`: where it went, None: it did not."""

    place: int
    moved_to: str | None


class KnownFeed(NamedTuple):
    """How far the feed of an app in a space stands."""

    space: str
    app: str
    head: int


class Keeping(Protocol):
    """A change to be held, and what tells it when it comes again."""

    @property
    def user(self) -> str: ...
    @property
    def client(self) -> str:
        """The device id that it is written under."""

    @property
    def app(self) -> str:
        """The app that it is of."""

    @property
    def content(self) -> str:
        """The change as JSON text."""

    def put(self, reason: str, most: tuple[int, int]) -> dict[str, Any]: ...


class Places(dict[str, int]):
    """Texts as they are met, each with its place from 1."""

    def __missing__(self, text: str) -> int:
        place = self[text] = len(self) + 1
        return place


# space, app, table, record, author, device, change id
Asked = tuple[str, str, str, str, str, str, str]

# author, app, table, record
Owned = tuple[str, str, str, str]


class Feeds:
    """Reads over a connection that row security does not bind."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def members_source(self) -> Literal["table", "external"]:
        """Where the server's memberships are kept: here, or outside; then they replace what came from there."""
        return "external" if (await self._pool.fetch("import_memberships"))[0][0] == "external" else "table"

    async def heads(self, feeds: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """The last seq of each (space, app) that there is."""
        spaces, apps = [feed[0] for feed in feeds], [feed[1] for feed in feeds]
        found = [KnownFeed(*row) for row in await self._pool.fetch("import_heads", spaces, apps)]
        return {(feed.space, feed.app): feed.head for feed in found}

    async def known(self, identities: Sequence[tuple[str, str, str]]) -> set[int]:
        """Which of (author, device, change id) the log has, by place from 0."""
        names = Places()
        columns = [[names[one[0]] for one in identities], [names[one[1]] for one in identities],
                   [one[2] for one in identities]]  # fmt: skip
        return {row[0] - 1 for row in await self._pool.fetch("import_known", list(names), *columns)}

    async def personal(self, records: Sequence[Owned]) -> dict[int, str | None]:
        """Which of the records are in their authors' personal spaces, by place from 0, and where they moved to."""
        columns = [list(column) for column in zip(*records, strict=True)] if records else [[]] * 4
        found = [PersonalRecord(*row) for row in await self._pool.fetch("import_personal", *columns)]
        return {record.place - 1: record.moved_to for record in found}

    async def move(self, moves: Sequence[dict[str, Any]], largest: int) -> None:
        """Moves records out of personal spaces; see sync_import_move."""
        await self._pool.fetch("import_move", msgspec.json.encode(moves).decode(), largest)

    async def hold(self, one: Keeping, reason: str, most: tuple[int, int]) -> None:
        """Holds a change, unless it is held. Raises Refusal with SY006 where its user has more than `most` held."""
        put = msgspec.json.encode(one.put(reason, most)).decode()
        await self._pool.fetch("import_hold", one.user, one.client, one.app, put)

    async def kept(self, some: Sequence[Keeping]) -> set[int]:
        """Which changes are held, by place from 0."""
        columns = [[one.user for one in some], [one.client for one in some], [one.app for one in some],
                   [one.content for one in some]]  # fmt: skip
        return {row[0] - 1 for row in await self._pool.fetch("import_kept", *columns)}

    async def held(self, asked: Sequence[Asked]) -> dict[int, StoredRecord]:
        """What there is of each, by place from 0."""
        names, spaces = Places(), Places()
        columns: list[list[Any]] = [[], [], [], [], [], [], []]
        for space, app, table, record, author, device, change in asked:
            values = (spaces[space], names[app], names[table], record, names[author], names[device], change)
            for column, value in zip(columns, values, strict=True):
                column.append(value)
        rows = await self._pool.fetch("import_records", list(names), list(spaces), *columns)
        found = [StoredRecord(*row) for row in rows]
        return {held.place - 1: held for held in found}
