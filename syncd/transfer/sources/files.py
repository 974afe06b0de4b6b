"""Files as origins: SQLite, CSV and lines of JSON, each read as a stream."""

from __future__ import annotations

import asyncio
import csv
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from syncd.core.values import InvalidValue, check_text
from syncd.transfer.sources.foreign import ForeignChange, ForeignRow, UnreadableRow
from syncd.transfer.sources.tables import Columns, found

MOST_ROWS, MOST_BYTES = 5000, 16 << 20
LONGEST = 16 << 20
# Views only where they are named: they would bring their tables' rows again.
TABLES = """SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
            OR type = 'view' AND ?"""
_LINE = msgspec.json.Decoder(dict[str, Raw])


class Unread(NamedTuple):
    """The content of a row that the file's own format spoils."""

    code: str
    detail: str


class File:
    """A file whose rows come from `_read`, in a thread: no file waits for the database, nor it for the file."""

    legacy = False

    def __init__(self, path: Path, columns: Columns) -> None:
        self.path, self.columns, self.name = path, columns, str(path)

    async def rows(self) -> AsyncIterator[list[ForeignRow]]:
        """Its rows in the order of the file. Raises Unreadable for what is not such a file."""
        reading = self._read()
        while rows := await asyncio.to_thread(_some, reading):
            yield rows

    def changes(self, row: ForeignRow) -> list[ForeignChange]:
        """An insert of the row's record. Raises Unreadable."""
        if isinstance(row.content, Unread):
            raise UnreadableRow(*row.content)
        return found(self.columns, row.table, self._values(row.content))

    def _values(self, content: Any) -> dict[str, Any]:
        return dict(content)

    def _read(self) -> Iterator[ForeignRow]:
        raise NotImplementedError

    def _check(self, there: Sequence[str], where: str) -> None:
        """Refuses a file that lacks a column, or has one twice."""
        for name in self.columns.needed():
            if name not in there:
                names = ", ".join(there[:20])
                raise UnreadableRow(
                    "no_column", f"{where} has no column {name}; it has {names}: name it with --id-column …"
                )
        if twice := [name for name in there if list(there).count(name) > 1]:
            raise UnreadableRow("no_column", f"{where} has the column {twice[0]} twice: rename one of them")


def _some(reading: Iterator[ForeignRow]) -> list[ForeignRow]:
    """The next rows: a bounded number, and not much more than a bounded size."""
    rows: list[ForeignRow] = []
    size = 0
    for row in reading:
        rows.append(row)
        size += _size(row.content)
        if len(rows) == MOST_ROWS or size >= MOST_BYTES:
            break
    return rows


def _size(content: Any) -> int:
    if isinstance(content, bytes):
        return len(content)
    if isinstance(content, list):
        return sum(len(value) for _, value in content if isinstance(value, str | bytes))
    return 0


class Csv(File):
    """Comma-separated values (RFC 4180), the first line names the columns. Values are text."""

    def __init__(self, path: Path, columns: Columns, table: str, delimiter: str = ",", encoding: str = "utf-8") -> None:
        super().__init__(path, columns)
        self._table, self._delimiter = table, delimiter
        self._encoding = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding

    def _read(self) -> Iterator[ForeignRow]:
        csv.field_size_limit(LONGEST)
        # What is not in its encoding becomes surrogates, which no value may have: the row is refused, not the file.
        with self.path.open(newline="", encoding=self._encoding, errors="surrogateescape") as file:
            reader = csv.reader(file, delimiter=self._delimiter, strict=True)
            try:
                header = next(reader, [])
            except csv.Error as why:
                raise UnreadableRow("invalid_row", f"{self.name}, line 1: {why}") from None
            self._check(header, f"{self.name}, line 1")
            while True:
                line = reader.line_num + 1
                try:
                    values = next(reader)
                except StopIteration:
                    return
                except csv.Error as why:
                    yield ForeignRow(f"line {line}", self._table, Unread("invalid_row", f"{why}"))
                    continue
                if not values:
                    continue
                content: Any = list(zip(header, values, strict=False))
                if len(values) != len(header):
                    content = Unread("invalid_row", f"has {len(values)} columns, the first line {len(header)}")
                yield ForeignRow(f"line {line}", self._table, content)


class Ndjson(File):
    """An object a line; the members are the columns."""

    def __init__(self, path: Path, columns: Columns, table: str) -> None:
        super().__init__(path, columns)
        self._table = table

    def _read(self) -> Iterator[ForeignRow]:
        with self.path.open("rb") as file:
            number = 0
            while text := file.readline(LONGEST + 1):
                number += 1
                content: Any = text.removeprefix(b"\xef\xbb\xbf") if number == 1 else text
                if len(text) > LONGEST:
                    while text and not text.endswith(b"\n"):
                        text = file.readline(LONGEST + 1)
                    content = Unread("change_too_large", f"longer than {LONGEST:,} bytes")
                elif not content.strip():
                    continue
                yield ForeignRow(f"line {number}", self._table, content)

    def _values(self, content: Any) -> dict[str, Any]:
        try:
            content.decode()
            check_text(content)
            return _LINE.decode(content)
        except UnicodeDecodeError as why:
            raise UnreadableRow("invalid_value", f"byte {why.start + 1} is not UTF-8") from None
        except InvalidValue as why:
            raise UnreadableRow("invalid_value", str(why)) from None
        except (msgspec.MsgspecError, RecursionError) as why:
            raise UnreadableRow("invalid_row", f"not an object in JSON: {why}") from None


class Sqlite(File):
    """Tables of a database, read in one snapshot each time. BLOB values become base64 text."""

    def __init__(self, path: Path, columns: Columns, tables: Sequence[str]) -> None:
        super().__init__(path, columns)
        self._tables = list(tables)

    def _read(self) -> Iterator[ForeignRow]:
        try:
            connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False, isolation_level=None
            )
            try:
                connection.execute("BEGIN")
                yield from self._tables_of(connection)
            finally:
                connection.close()
        except sqlite3.Error as why:
            raise UnreadableRow("invalid_row", f"{self.name} cannot be read as a SQLite database: {why}") from None

    def _tables_of(self, connection: sqlite3.Connection) -> Iterator[ForeignRow]:
        there = [str(row[0]) for row in connection.execute(TABLES, (bool(self._tables),))]
        for table in self._tables or there:
            if table not in there:
                raise UnreadableRow("no_table", f"{self.name} has no table {table}; it has {', '.join(there)}")
            # Text that is not UTF-8 is refused with its row, not with the file.
            connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
            cursor = connection.execute(f'SELECT * FROM "{table.replace(chr(34), chr(34) * 2)}"')
            names = [str(column[0]) for column in cursor.description]
            self._check(names, f"{self.name}, table {table}")
            at = names.index(self.columns.id)
            for number, values in enumerate(cursor, 1):
                identity = values[at] if isinstance(values[at], int | str) else f"number {number}"
                yield ForeignRow(f"{table} {identity}", table, list(zip(names, values, strict=True)))
