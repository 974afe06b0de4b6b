"""The first generation's log, `sync_changes` in a PostgreSQL of its own, read through one cursor in one snapshot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from syncd.core.ids import fault_in_client
from syncd.core.values import InvalidValue, check_text
from syncd.postgres.statements import statement
from syncd.protocol.first_generation import client_of, deletion
from syncd.protocol.messages import IncomingChange, IncomingRegister
from syncd.protocol.normalize import string_in
from syncd.transfer.sources.foreign import UNTIMED, ForeignChange, ForeignRow, UnreadableRow, instant

# Rows and bytes that are read at a time; how many rows that is, is known of those before.
MOST_ROWS, MOST_BYTES, FIRST_ROWS = 5000, 16 << 20, 100
# What the log calls a device that its row does not name.
UNNAMED = "first-generation"
NULL = Raw(b"null")
NEEDED = ("id", "app_id", "table_name", "record_id", "user_id", "space_id", "op", "data", "created_at")


class LogRow(msgspec.Struct, gc=False):
    """A row as row_to_json writes it. `field_meta` or `field_timestamps`: {field: instant or {at, clientId}}."""

    id: str | int
    app_id: str
    table_name: str
    record_id: str
    user_id: str
    op: str
    created_at: str | int | float | None = None
    data: dict[str, Raw] | None = None
    space_id: str | None = None
    went_to: str | None = None
    field_meta: Raw = NULL
    field_timestamps: Raw = NULL
    client_id: str | None = None
    schema_version: int | None = None
    actor: Raw | UnsetType = UNSET
    origin: str | None = None


class FieldMeta(msgspec.Struct, gc=False):
    """What a row says of one field: its instant under one of three names, and its device."""

    at: Any = None
    updatedAt: Any = None
    timestamp: Any = None
    clientId: Any = None


_ROW = msgspec.json.Decoder(LogRow)
_META = msgspec.json.Decoder(FieldMeta)
_TIMES = msgspec.json.Decoder(dict[str, Raw])


class LogTotals(NamedTuple):
    """How many rows there are to read, and the last created_at of them."""

    rows: int
    newest: str | None


class Author(NamedTuple):
    """A writer in a shared space, and the time of the first write."""

    space: str
    user: str
    since: str


class LogLine(NamedTuple):
    """A row of the log, as JSON text in `content`."""

    id: str
    table: str
    content: str


class Extent(NamedTuple):
    """How much there is; `newest`: the last created_at."""

    total: int
    newest: str | None
    authors: list[Author]


class LegacyLog:
    """One snapshot of the log, from `since` (RFC 3339; the rows' own created_at) on; None: all of it."""

    legacy = True

    def __init__(self, connection: Any, table: str, since: str | None) -> None:
        self._connection, self._table, self._since = connection, table, since
        self.name = "the first-generation log"

    @classmethod
    async def begin(cls, connection: Any, table: str, since: str | None) -> LegacyLog:
        """Finds the table (`sync_changes`, `public.sync_changes`). Raises Unreadable for what is not such a log."""
        quoted = await connection.fetchval("SELECT to_regclass($1)::text", table)
        if quoted is None:
            raise UnreadableRow("no_table", f"there is no table {table} in it: name it with --table SCHEMA.TABLE")
        rows = await connection.fetch(statement("legacy_log_columns"), quoted)
        there = {row[0] for row in rows}
        if missing := [name for name in NEEDED if name not in there]:
            raise UnreadableRow("no_table", f"{quoted} lacks {', '.join(missing)}: it is no first-generation log")
        return cls(connection, quoted, since)

    async def extent(self) -> Extent:
        """Counts, and who wrote in which shared space."""
        totals = LogTotals(*await self._connection.fetchrow(self._query("legacy_log_extent"), self._since))
        authors = await self._connection.fetch(self._query("legacy_log_authors"))
        return Extent(totals.rows, totals.newest, [Author(*row) for row in authors])

    async def rows(self) -> AsyncIterator[list[ForeignRow]]:
        """By created_at, then id: the order in which a reader of the old log saw them."""
        cursor = await self._connection.cursor(self._query("legacy_log_rows"), self._since)
        count = FIRST_ROWS
        while lines := [LogLine(*row) for row in await cursor.fetch(count)]:
            yield [ForeignRow(f"row {line.id}", line.table, line.content) for line in lines]
            size = sum(len(line.content) for line in lines) // len(lines) + 1
            count = max(1, min(MOST_ROWS, 2 * count, MOST_BYTES // size))

    def changes(self, row: ForeignRow) -> list[ForeignChange]:
        """The change of a row, and one more for each other device that its field_meta names."""
        text = row.content
        try:
            raw = text.encode()
            check_text(raw)
            found = _ROW.decode(raw)
        except InvalidValue as why:
            raise UnreadableRow("invalid_value", str(why)) from None
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as why:
            raise UnreadableRow("invalid_row", f"no change of the first generation: {why}") from None
        return _changes(found)

    def _query(self, name: str) -> str:
        return statement(name).replace("elsewhere.sync_changes", self._table)


def _changes(row: LogRow) -> list[ForeignChange]:
    if row.op not in ("insert", "update", "delete"):
        raise UnreadableRow("invalid_row", "op is not insert, update or delete")
    created = UNTIMED if row.created_at is None else instant(row.created_at, "created_at")
    own = UNNAMED if not row.client_id else client_of(row.client_id, row.user_id)
    writers: dict[str, dict[str, IncomingRegister]] = {own: {}}
    data = {name: deletion(value) if name == "deletedAt" else value for name, value in (row.data or {}).items()}
    times = _times(row.field_meta) or _times(row.field_timestamps)
    if row.op == "update" and not data:
        return []  # as the server takes one: there is nothing to write
    written = _said(data, created, "updatedAt", "createdAt") if row.op == "insert" else created
    deleted = _said(data, created, "deletedAt")
    for name, meta in times.items():
        if name == "deletedAt" and row.op == "delete":
            deleted = _stamp(bytes(meta), created)[0]
    for name, value in data.items():
        time = times.get(name)
        if row.op == "delete" and (time is None or name == "deletedAt"):
            continue  # a copy of the record as it was; only what has a time of its own was written
        at, client = (written, None) if time is None else _stamp(bytes(time), created)
        writers.setdefault(client or own, {})[name] = IncomingRegister(value, at)
    if row.op == "insert" and not data:
        writers[own]["deletedAt"] = IncomingRegister(Raw(b"null"), written)  # a record without fields is there, too
    found = []
    for client, fields in writers.items():
        if fields or (row.op == "delete" and client == own) or len(writers) == 1:
            op = row.op if client == own else "update"
            found.append(_found(row, created, client, op, fields, deleted))
    return found


def _said(data: dict[str, Raw], created: str, *names: str) -> str:
    """The first of these fields that is an instant, by which the device dated the row; else when that was created."""
    for name in names:
        # A text field of that name that is no instant is only data.
        with suppress(UnreadableRow):
            if text := string_in(data.get(name)):
                return instant(text, name)
    return created


def _times(said: Raw) -> dict[str, Raw]:
    """The times of fields; none where that is no object."""
    try:
        return _TIMES.decode(said)
    except msgspec.MsgspecError:
        return {}


def _stamp(meta: bytes, created: str) -> tuple[str, str | None]:
    """When a field was written, and by which device if that is said; without a time, when the row was created."""
    at, client = _meta(meta)
    return at or created, client


@lru_cache(1024)  # the fields of a row mostly share theirs
def _meta(text: bytes) -> tuple[str | None, str | None]:
    """The instant and the device of a field's time, None for what it does not say."""
    try:
        read = _META.decode(text)
    except msgspec.MsgspecError:
        read = FieldMeta(msgspec.json.decode(text))
    client = read.clientId if isinstance(read.clientId, str) and not fault_in_client(read.clientId) else None
    for at in (read.at, read.updatedAt, read.timestamp):
        with suppress(UnreadableRow):
            return instant(at, ""), client
    return None, client


def _found(
    row: LogRow, created: str, client: str, op: str, fields: dict[str, IncomingRegister], deleted: str
) -> ForeignChange:
    unsaid = isinstance(row.actor, UnsetType) or bytes(row.actor) == b"null"  # a column that is null
    actor = UNSET if unsaid else row.actor
    change = IncomingChange(
        row.table_name, row.record_id, op,  # type: ignore[arg-type]
        fields=fields, deletedAt=deleted if op == "delete" else None,
        schemaVersion=row.schema_version, actor=actor, origin=row.origin,
    )  # fmt: skip
    return ForeignChange(row.app_id, row.user_id, row.space_id, client, created, change, row.went_to)
