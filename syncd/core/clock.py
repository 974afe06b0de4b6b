"""Instants as the wire writes them: RFC 3339 text to microseconds since 1970 and back. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_TEXT = "1970-01-01T00:00:00.000000Z"
LAST = (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)

_RFC3339 = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}):(\d{2})(?:\.(\d+))?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)


def parse_instant(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 instant; digits beyond microseconds are cut off.

    An instant before 1970 is the epoch, the weakest stamp; a leap second is the last microsecond before it.
    Raises ValueError for anything that is not an RFC 3339 date-time with an offset.
    """
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError("not an RFC 3339 instant such as 2026-01-01T10:05:00.123Z")
    day, minute, second, fraction, offset = found.groups()
    micros = (fraction or "")[:6].ljust(6, "0")
    if second == "60":
        second, micros = "59", "999999"
    try:
        moment = datetime.fromisoformat(f"{day}T{minute}:{second}.{micros}{offset.upper()}")
        since = moment - EPOCH
    except (ValueError, OverflowError):
        raise ValueError("not an instant that exists") from None
    return min(max((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds, 0), LAST)


_OURS = re.compile(r"(?:19[7-9]|[2-9]\d\d)\d-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:[0-5]\d\.\d{3}(?:\d{3})?Z", re.ASCII)


def canonical_instant(text: str) -> tuple[str, int]:
    """An instant's canonical text and its microseconds: the same as parsing and formatting it, and quicker for what
    clients mostly send, which is canonical already or has milliseconds. Raises ValueError."""
    if _OURS.fullmatch(text):
        try:
            since = datetime.fromisoformat(text) - EPOCH
        except ValueError:
            pass  # the other way says what is wrong with it
        else:
            micros = (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds
            return text if len(text) == 27 else f"{text[:-1]}000Z", micros
    micros = parse_instant(text)
    return format_instant(micros), micros


def moment_of(micros: int) -> datetime:
    """An instant of so many microseconds since 1970, in UTC."""
    return EPOCH + timedelta(microseconds=micros)


def format_instant(micros: int) -> str:
    """The canonical 27 characters of an instant, so that text order is time order: 2026-01-01T10:05:00.123456Z."""
    moment = moment_of(micros)
    return f"{moment.isoformat(timespec='microseconds')[:26]}Z"
