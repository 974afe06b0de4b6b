"""JSON values as PostgreSQL can give them back: what could not come back unchanged is refused here. Pure."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_NESTED = b"{["
_NUMBER = re.compile(r"-?\d+(?:\.(\d*))?(?:[eE]([+-]?)0*(\d+))?", re.ASCII)
DIGITS = 16383  # what a numeric of PostgreSQL keeps after the point
WIDEST = 400  # of those that no number but zero can have without writing them


class InvalidValue(ValueError):
    """A JSON value that would not come back with its meaning unchanged; the text says why."""


def check_text(raw: bytes) -> None:
    """Refuses escapes that no UTF-8 text can hold: \\u0000 and lone surrogates. `raw` is JSON text."""
    if b"\\u" not in raw:
        return
    expected = -1  # where the low half of a surrogate pair has to stand
    for escape in _ESCAPE.finditer(raw):
        code = int(escape[1], 16) if escape[1] else -1
        if expected >= 0 and (escape.start() != expected or not 0xDC00 <= code <= 0xDFFF):
            raise InvalidValue("a lone surrogate is not text")
        if code == 0:
            raise InvalidValue("\\u0000 cannot be stored")
        if expected < 0 and 0xDC00 <= code <= 0xDFFF:
            raise InvalidValue("a lone surrogate is not text")
        expected = escape.end() if 0xD800 <= code <= 0xDBFF else -1
    if expected >= 0:
        raise InvalidValue("a lone surrogate is not text")


def check_value(raw: bytes, max_depth: int) -> None:
    """Refuses numbers beyond the range of a double and nesting deeper than `max_depth`. `raw` is valid JSON."""
    first = raw[0]
    if first in b'"tfn':
        return
    if first in _NESTED:
        _check_nested(raw, max_depth)
    elif len(raw) > 15 or b"e" in raw or b"E" in raw:
        _check_number(raw.decode())


def _check_number(text: str) -> None:
    value = float(text)
    if math.isinf(value) or (value == 0.0 and any(c in "123456789" for c in re.split("[eE]", text)[0])):
        raise InvalidValue("a number beyond the range of a double cannot be stored")
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise InvalidValue("not a number")
    fraction, sign, exponent = found.groups()
    places = len(fraction or "")
    if exponent is not None:
        power = int(exponent) if len(exponent) < 6 else DIGITS + 1
        places = DIGITS + 1 if power > DIGITS else places + (power if sign == "-" else -power)
        if value == 0.0 and places > len(text) + WIDEST:  # a few bytes would come back as thousands
            places = DIGITS + 1
    if places > DIGITS:
        raise InvalidValue(f"a number with more than {DIGITS:,} digits after the point cannot be stored")


def _number(text: str) -> int:
    _check_number(text)
    return 0


def _check_nested(raw: bytes, max_depth: int) -> None:
    try:
        value = json.loads(raw, parse_int=_number, parse_float=_number)
    except RecursionError:
        raise InvalidValue(f"nested deeper than {max_depth}") from None
    if raw.count(b"{") + raw.count(b"[") > max_depth and _depth(value) > max_depth:
        raise InvalidValue(f"nested deeper than {max_depth}")


def _depth(value: Any) -> int:
    """How many arrays and objects lie in one another, counted level by level, so that no stack grows."""
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, dict | list)]:
        depth += 1
        level = [child for v in level for child in (v.values() if isinstance(v, dict) else v)]
    return depth
