"""Instants in microseconds since 1970, and the clock that stamps. Pure: the time is an argument."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from functools import lru_cache

EPOCH = 0
LATEST = 253_402_300_799_999_999  # 9999-12-31T23:59:59.999999Z
MAX_AHEAD = 60_000_000  # a stamp further ahead of the wall clock than this (60 s) is of a clock that was wrong
SECOND = 1_000_000

_ZERO = datetime(1970, 1, 1)
_FIRST_DAY = date(1970, 1, 1).toordinal()
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)


@lru_cache(maxsize=8192)
def parse_instant(text: str) -> int:
    """An RFC 3339 instant in microseconds since 1970; any offset, never before the epoch.

    A leap second is the last microsecond before it.
    Raises ValueError when `text` is not one (an instant without an offset is not).
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 instant: {text!r}")
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = match.groups()
    if second == "60":
        second, fraction = "59", "999999"
    if hour > "23" or minute > "59" or second > "59" or (hours or "0") > "23" or (minutes or "0") > "59":
        raise ValueError(f"not an RFC 3339 instant: {text!r}")
    days = date(int(year), int(month), int(day)).toordinal() - _FIRST_DAY
    offset = (int(hours or 0) * 60 + int(minutes or 0)) * (-60 if sign == "-" else 60)
    seconds = days * 86_400 + int(hour) * 3_600 + int(minute) * 60 + int(second) - offset
    micros = seconds * 1_000_000 + int((fraction or "")[:6].ljust(6, "0"))
    return min(max(micros, EPOCH), LATEST)


def format_instant(micros: int) -> str:
    """The 27 characters that the wire carries: UTC with microseconds."""
    return (_ZERO + timedelta(microseconds=micros)).isoformat(timespec="microseconds") + "Z"


def tick(last: int, wall: int) -> int:
    """The stamp of a new write: milliseconds of wall time with a counter in the three digits below.

    `last` is the stamp given last and `wall` the wall clock, both in microseconds. The answer is greater than `last`
    where that is of this second. A clock that was set right counts from then on: what a write overwrites keeps the
    write later.
    """
    now = wall - wall % 1000
    return min(last + 1 if now <= last < now + SECOND else now, LATEST)
