"""What every foreign store is read into: a row as changes of one record, or why it is none. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import msgspec
from msgspec import Raw

from syncd.core.clock import EPOCH_TEXT, LAST, canonical_instant, format_instant
from syncd.core.values import InvalidValue, check_text
from syncd.protocol.messages import IncomingChange

# Milliseconds since 1970 have been more than this since 1973; seconds will not be for three thousand years.
FEWEST_MILLIS = 100_000_000_000


class UnreadableRow(ValueError):
    """A row that cannot be imported. `code` as a push would say it; the text is a sentence without the row's values."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


class ForeignChange(NamedTuple):
    """What one device wrote to a record. `space` None: the author's personal one; `created_at` RFC 3339. `went_to`: the
    space that the author wrote it in, too, so that it is one record there."""

    app: str
    user: str
    space: str | None
    client: str
    created_at: str
    change: IncomingChange
    went_to: str | None = None


class ForeignRow(NamedTuple):
    """A row of the source and what names it to people (`line 7`, `row 4f1c`): as read, not looked into yet."""

    where: str
    table: str
    content: Any


class Source(Protocol):
    """A store that is read from its start to its end, as often as wanted, always the same. `legacy`: whether devices
    of the first generation wrote it. Their records move, and what of theirs cannot be written is held."""

    name: str
    legacy: bool

    def rows(self) -> AsyncIterator[list[ForeignRow]]:
        """Its rows in the order they were written in, some thousand at a time."""

    def changes(self, row: ForeignRow) -> list[ForeignChange]:
        """What a row says, mostly one change. Raises Unreadable."""


def instant(value: object, what: str) -> str:
    """An instant as the log writes it, from RFC 3339 text, a date-time without an offset (UTC), or a number of
    milliseconds (or seconds) since 1970. Raises Unreadable."""
    try:
        if isinstance(value, str):
            return _text_instant(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            micros = round(value * (1000 if abs(value) >= FEWEST_MILLIS else 1_000_000))
            return format_instant(min(max(micros, 0), LAST))
    except (ValueError, OverflowError):
        pass
    raise UnreadableRow("invalid_instant", f"{what} is no instant: RFC 3339, or milliseconds since 1970")


@lru_cache(4096)  # the fields of a row mostly share theirs
def _text_instant(text: str) -> str:
    try:
        return canonical_instant(text)[0]
    except ValueError:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
        return format_instant(min(max((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds, 0), LAST))


def as_json(value: object, what: str) -> Raw:
    """A value as JSON text. Raises Unreadable for what JSON text cannot say."""
    try:
        raw = msgspec.json.encode(value)
        check_text(raw)
    except UnicodeEncodeError:
        raise UnreadableRow("invalid_value", f"{what} is not UTF-8") from None
    except InvalidValue as why:
        raise UnreadableRow("invalid_value", f"{what}: {why}") from None
    return Raw(raw)


UNTIMED = EPOCH_TEXT
