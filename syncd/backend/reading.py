"""Reading from a backend: a record, or a space, as a user, now or as it was at a moment."""

from __future__ import annotations

import datetime
import json
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, overload

from syncd.backend.drivers import (
    AsyncDriver,
    SyncDriver,
    fetch_value,
    fetch_value_async,
    is_asynchronous,
    passing,
    word_of,
)  # fmt: skip
from syncd.backend.writing import NO_CALL, encoded
from syncd.core.errors import Malformed, NotFound, SyncdError
from syncd.postgres.statements import statement

REFUSED = "SY041"


class Record(NamedTuple):
    """A record. `fields`: its values by name; `registers`: the same with who wrote each and when, as a device is sent
    them; `seq`: of its last change; `complete`: False where a part of it is forgotten, as of a moment long ago."""

    table: str
    id: str
    fields: dict[str, Any]
    deleted: bool
    seq: int
    complete: bool
    registers: dict[str, dict[str, Any]]


class RecordList(NamedTuple):
    """Living records of a space, as of `seq` of its feed. `after`: to be given for the next ones of the same moment;
    None: that is all. `complete`: False where records are missing because their deletion is forgotten by now."""

    records: list[Record]
    seq: int
    complete: bool
    after: tuple[int, str, str] | None


class _ReadCall(NamedTuple):
    """Which records, and when."""

    space: str | None
    table: str | None
    id: str | None
    seq: int | None
    at: datetime.datetime | None
    limit: int | None
    after: tuple[int, str, str] | None

    def call(self) -> str:
        """As the database's function takes it. Raises Malformed."""
        if self.at is not None and self.at.tzinfo is None:
            raise Malformed("`at` needs a time zone: datetime.now(UTC), or a literal with one.")
        named: dict[str, Any] = {
            "spaceId": self.space, "table": self.table, "id": self.id, "seq": self.seq, "at": self.at,
            "limit": self.limit,
        }  # fmt: skip
        if self.after is not None:
            seq, table, id_ = self.after
            named |= {"seq": seq, "at": None, "after": {"table": table, "id": id_}}
        return encoded({name: value for name, value in named.items() if value is not None})


@overload
def read(
    connection: AsyncDriver, *, user: str, app: str, space: str | None = ..., table: str, id: str,
    seq: int | None = ..., at: datetime.datetime | None = ...,
) -> Coroutine[Any, Any, Record | None]: ...  # fmt: skip
@overload
def read(
    connection: SyncDriver, *, user: str, app: str, space: str | None = ..., table: str, id: str,
    seq: int | None = ..., at: datetime.datetime | None = ...,
) -> Record | None: ...  # fmt: skip
@overload
def read(
    connection: AsyncDriver, *, user: str, app: str, space: str | None = ..., table: str | None = ...,
    seq: int | None = ..., at: datetime.datetime | None = ..., limit: int | None = ...,
    after: tuple[int, str, str] | None = ...,
) -> Coroutine[Any, Any, RecordList]: ...  # fmt: skip
@overload
def read(
    connection: SyncDriver, *, user: str, app: str, space: str | None = ..., table: str | None = ...,
    seq: int | None = ..., at: datetime.datetime | None = ..., limit: int | None = ...,
    after: tuple[int, str, str] | None = ...,
) -> RecordList: ...  # fmt: skip
def read(
    connection: Any, *, user: str, app: str, space: str | None = None, table: str | None = None, id: str | None = None,
    seq: int | None = None, at: datetime.datetime | None = None, limit: int | None = None,
    after: tuple[int, str, str] | None = None,
) -> Any:  # fmt: skip
    """A record with `table` and `id`, None where there is none; else the living records of a space, of `table` alone
    where it is given, `limit` of them (1,000 at most) after `after`. Without `space`: of the user's personal space.

    As it is in the connection's transaction, or was after the change `seq` of its feed, or at an instant. Awaited as
    `write` is. Raises NotFound (space_not_found), Malformed, and SyncdError with history_gone where a moment is so long
    ago that the record is forgotten.
    """
    what = _ReadCall(space, table, id, seq, at, limit, after).call()
    arguments = (app, user, what)
    if is_asynchronous(connection):
        return _read_async(connection, arguments, one=id is not None)
    with _refusals():
        return _found(fetch_value(connection, statement("read"), arguments), one=id is not None)


async def _read_async(connection: Any, arguments: tuple[str, ...], *, one: bool) -> Any:
    with _refusals():
        return _found(await fetch_value_async(connection, statement("read"), arguments), one=one)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        word = word_of(error)
        if word is None:
            raise
        if word.state == REFUSED:
            raise _refusal(word.message) from error
        if word.state == NO_CALL:
            raise Malformed(f"{word.message}.") from error
        if why := passing(word):
            raise why from error
        raise


def _refusal(code: str) -> SyncdError:
    if code == "seq_ahead":
        return Malformed("`seq` is beyond the feed's last one.")
    return NotFound(code=code) if code.endswith("_not_found") else SyncdError(code=code)


def _found(text: str, *, one: bool) -> Any:
    found = json.loads(text)
    records = [_record(one) for one in found["records"]]
    if one:
        return records[0] if records else None
    after = found.get("after")
    place = None if after is None else (found["seq"], after["table"], after["id"])
    return RecordList(records, found.get("seq", 0), found["complete"], place)


def _record(wire: dict[str, Any]) -> Record:
    registers = wire["fields"]
    fields = {name: register["value"] for name, register in registers.items() if name != "deletedAt"}
    return Record(wire["table"], wire["id"], fields, wire["deleted"], wire["seq"], wire["complete"], registers)
