"""Writing from a backend: changes as a user, in the transaction of its own that is open.

They go the way of a push: the database decides by row security, orders them under the feed's lock, which is held until
the transaction ends, and tells those who listen when it commits.
"""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, overload

from syncd.backend.drivers import (
    AsyncDriver,
    DatabaseWord,
    SyncDriver,
    fetch_value,
    fetch_value_async,
    is_asynchronous,
    passing,
    word_of,
)  # fmt: skip
from syncd.core.error_codes import ERROR_CODES
from syncd.core.errors import Malformed, SyncdError
from syncd.core.values import InvalidValue, check_text
from syncd.postgres.statements import statement

REFUSED, NO_CALL = "SY040", "22023"
OnRefused = Literal["raise", "return"]


class Written(NamedTuple):
    """What became of one change. `status`: applied, duplicate (its id was written before) or rejected, with `code`, the
    `field` that is at fault where it is one, and `detail` for people. `at`: its stamp, as text; `seq`: its place in the
    feed of its `space`."""

    status: str
    change_id: str | None = None
    seq: int | None = None
    event_id: str | None = None
    space: str | None = None
    at: str | None = None
    code: str | None = None
    field: str | None = None
    detail: str | None = None


class WriteRefused(SyncdError):
    """Some changes may not be written, so none of the call was: roll the transaction back. `code`, `field` and `detail`
    are those of the first; `results` has all, in the order of the changes."""

    code = "invalid_change"

    def __init__(self, results: Sequence[Written]) -> None:
        self.results = list(results)
        self.place = next(i for i, one in enumerate(results) if one.status == "rejected")
        first = self.results[self.place]
        self.field = first.field
        where = f"Change {self.place}{f', {first.field}' if first.field else ''}"
        text = first.detail or ERROR_CODES[first.code or self.code].text
        super().__init__(f"{where}: {text}", code=first.code)


class WriteCall(NamedTuple):
    """The arguments of the database's function."""

    app: str
    user: str
    changes: str
    client: str
    on_refused: OnRefused
    changes_in_all: int


@overload
def write(
    connection: AsyncDriver, *, user: str, app: str, changes: Sequence[Mapping[str, Any]], client: str = ...,
    actor: Any = ..., on_refused: OnRefused = ...,
) -> Coroutine[Any, Any, list[Written]]: ...  # fmt: skip
@overload
def write(
    connection: SyncDriver, *, user: str, app: str, changes: Sequence[Mapping[str, Any]], client: str = ...,
    actor: Any = ..., on_refused: OnRefused = ...,
) -> list[Written]: ...  # fmt: skip
def write(
    connection: Any, *, user: str, app: str, changes: Sequence[Mapping[str, Any]], client: str = "backend",
    actor: Any = None, on_refused: OnRefused = "raise",
) -> Any:  # fmt: skip
    """Write changes as `user` in the connection's open transaction: they commit with it, or not at all.

    Awaited on a connection of asyncpg and an asynchronous one of psycopg; not on one of psycopg or Django. A change is
    `{"table", "id", "fields": {name: value}, "spaceId"?, "op"?, "changeId"?, "schemaVersion"?, "actor"?, "origin"?}`.
    Without `spaceId` it is in the user's personal space. Without `op` it makes the record where there is none. A change
    whose `changeId` was written before, by this `client` and user, is not written again. `actor`: of the changes that
    name none.

    Raises WriteRefused (unless `on_refused` is "return": then the others are written), Malformed, Busy.
    """
    call = _call(user, app, changes, client, actor, on_refused)
    if is_asynchronous(connection):
        return _write_async(connection, call)
    with _refusals(call.changes_in_all):
        return written(fetch_value(connection, statement("write"), call[:5]), call.changes_in_all)


async def _write_async(connection: Any, call: WriteCall) -> list[Written]:
    with _refusals(call.changes_in_all):
        return written(await fetch_value_async(connection, statement("write"), call[:5]), call.changes_in_all)


def _call(
    user: str, app: str, changes: Sequence[Mapping[str, Any]], client: str, actor: Any, on_refused: OnRefused
) -> WriteCall:
    if actor is not None:
        changes = [{"actor": actor, **change} for change in changes]
    return WriteCall(app, user, encoded(list(changes)), client, on_refused, len(changes))


def encoded(value: Any) -> str:
    """JSON text that the database can hold. Raises Malformed."""
    try:
        text = json.dumps(value, allow_nan=False, default=_plain)
        check_text(text.encode())
    except (TypeError, ValueError, InvalidValue) as why:
        raise Malformed(f"A value cannot be stored: {why}.", code="invalid_value") from None
    return text


def _plain(value: Any) -> str:
    """What JSON has no word for, and everybody writes in one way."""
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    raise TypeError(f"a {type(value).__name__} is no JSON value")


def written(text: str, count: int) -> list[Written]:
    """The results of a call, in order, of its answer or of what it raised as detail."""
    found = json.loads(text)
    if isinstance(found, dict):
        found = [found.get(str(place), {"status": "rejected"}) for place in range(1, count + 1)]
    return [
        Written(
            one["status"], one.get("changeId"), one.get("seq"), one.get("eventId"), one.get("spaceId"), one.get("at"),
            one.get("code"), one.get("field"), one.get("detail") or _text(one.get("code")),
        )
        for one in found
    ]  # fmt: skip


def _text(code: str | None) -> str | None:
    return ERROR_CODES[code].text if code in ERROR_CODES else None


@contextmanager
def _refusals(count: int) -> Iterator[None]:
    """What the database's function raises on purpose, as an error of ours; any other error as the driver has it."""
    try:
        yield
    except Exception as error:
        word = word_of(error)
        why = word and (refused(word, count) or passing(word))
        if why is None:
            raise
        raise why from error


def refused(word: DatabaseWord, count: int) -> SyncdError | None:
    """The error for what the database's function raised on purpose."""
    if word.state == REFUSED:
        return WriteRefused(written(word.detail, count))
    return Malformed(f"{word.message}.") if word.state == NO_CALL else None
