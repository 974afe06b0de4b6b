"""JSON values: checked and copied when they are written, and read back as the numbers that they were."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any

from ..errors import InvalidWrite

MAX_DEPTH = 64
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_LARGEST = int(1.7976931348623157e308)
_EXACT = 16  # so many digits fit a double and are an integer to everybody
_SMALL = 10 ** (_EXACT - 1)
_INT64 = 2**63
_POWER = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d(?:\.\d+)?e\+\d+')


def dump(value: Any) -> str:
    """JSON text, compact, never NaN. A large double is written out with `.0`, so that it stays one on its way."""
    text = _ENCODER.encode(value)
    return _POWER.sub(_write_out, text) if "e+" in text else text


def _write_out(match: re.Match[str]) -> str:
    text = match[0]
    return text if text.startswith('"') else f"{Decimal(text):f}.0"


def parse(text: str | bytes) -> Any:
    """Reads JSON. Raises ValueError.

    A server gives a double such as 1e23 back in digits. They are that double where they are how it is printed, and
    the integer that they spell where they are not, or where that is the same number and an integer of 64 bits.
    """
    return json.loads(text, parse_int=_read_integer)


def _read_integer(text: str) -> int | float:
    return int(text) if len(text) <= _EXACT else normal(int(text))


def normal(number: int) -> int | float:
    """An integer as it is read: the double that is printed so, else all its digits."""
    if -_SMALL < number < _SMALL:
        return number
    try:
        double = float(number)
    except OverflowError:
        return number
    same = int(double) == number
    return double if not (same and abs(number) < _INT64) and int(Decimal(repr(double))) == number else number


def take(value: Any, field: str) -> Any:
    """A copy of an application's value, if the server would take it. Raises InvalidWrite, which names the field.

    `field` "": it is only looked for, so that it may hold text that is nowhere.
    """
    return _take(value, field, field, 1)


def _take(value: Any, path: str, field: str, depth: int) -> Any:
    match value:
        case None | bool():
            return value
        case str():
            return check_text(value, path, field)
        case int() | float():
            if (isinstance(value, float) and not math.isfinite(value)) or abs(value) > _LARGEST:
                raise InvalidWrite(f"{path} is a number that JSON or a double cannot hold.", field=field)
            return value if isinstance(value, float) else normal(value)
        case list():
            _check_depth(depth, path, field)
            return [_take(item, f"{path}[{index}]", field, depth + 1) for index, item in enumerate(value)]
        case dict():
            _check_depth(depth, path, field)
            return {
                _key(key, path, field): _take(item, f"{path}.{key}", field, depth + 1) for key, item in value.items()
            }
        case _:
            raise InvalidWrite(f"{path} is a {type(value).__name__}, which is not JSON.", field=field)


def _check_depth(depth: int, path: str, field: str) -> None:
    if depth > MAX_DEPTH:
        raise InvalidWrite(f"{path} is nested deeper than {MAX_DEPTH} levels.", field=field)


def _key(key: object, path: str, field: str) -> str:
    if not isinstance(key, str):
        raise InvalidWrite(f"{path} has a key that is a {type(key).__name__}; keys of JSON are text.", field=field)
    return check_text(key, path, field)


def check_text(text: str, path: str, field: str) -> str:
    """Text that can be stored, if there is a `field` to store it in. Raises InvalidWrite."""
    if not field:
        return text
    if "\0" in text:
        raise InvalidWrite(f"{path} has a \\u0000, which PostgreSQL cannot hold.", field=field)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidWrite(f"{path} has a lone surrogate, which UTF-8 cannot hold.", field=field) from None
    return text
