"""JSON values as PostgreSQL can give them back: what could not come back unchanged is refused here. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import msgspec

from syncd.core.pieces import PIECE, holds

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
# Where a text may be cut: an escape begins, and it is no pair's second half.
_CUT = re.compile(rb"(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u")
# Stands for half a pair; nobody writes it like that.
HALF = rb"\ufFfE"
_NESTED = b"{["
_NUMBER = re.compile(r"-?\d+(?:\.(\d*))?(?:[eE]([+-]?)0*(\d+))?", re.ASCII)
DIGITS = 16383  # what a numeric of PostgreSQL keeps after the point
WIDEST = 400  # of those that no number but zero can have without writing them

# Without an exponent a shorter number is within a double; with one of four digits, a shorter one has not too many.
LONG, LONGER = 300, 6000
_AS_DIGIT = bytes.maketrans(b"123456789.", b"0000000000")
_AS_SQUARE = bytes.maketrans(b"{}", b"[]")
_AS_COMMA = bytes.maketrans(b"{}[]:", b",,,,,")
_NO_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
_DOUBLES = msgspec.json.Decoder(list[float])
_TOO_FAR = "a number beyond the range of a double cannot be stored"
# Of numbers that are zero or very long, with commas between: any but an ordinary zero.
_NO_ZERO = re.compile(rb"(?:^|,)-?[0.]*[1-9]|[eE](?:-0*[1-9][0-9]{2}|\+?0*[1-9][0-9]{4})|(?:^|,)[^,]{%d}" % WIDEST)


class InvalidValue(ValueError):
    """A JSON value that would not come back with its meaning unchanged; the text says why."""


def check_text(raw: bytes) -> None:
    """Refuses escapes that no UTF-8 text can hold: \\u0000 and lone surrogates. `raw` is JSON text.

    Like all here it goes over the text as a whole, a few times, and never over its parts in Python: who sends the worst
    there is must not hold up everybody else.
    """
    if not holds(raw, b"\\u"):
        return
    escapes = raw.replace(b"\\\\", b"__") if holds(raw, b"\\\\") else raw
    if holds(escapes, b"\\u0000"):
        raise InvalidValue("\\u0000 cannot be stored")
    if (holds(escapes, b"\\ud") or holds(escapes, b"\\uD")) and any(
        _SURROGATE.search(_PAIR.sub(b"", piece)) for piece in _pieces(escapes)
    ):
        raise InvalidValue("a lone surrogate is not text")


def without_halves(raw: bytes) -> bytes:
    """JSON text that our parser reads, though there are lone surrogates in it: with HALF for each of them, and other
    escapes of backslashes and pairs replaced by what is as long."""
    if b"\\u" not in raw:
        return raw
    pieces = _pieces(raw.replace(b"\\\\", b"__"))
    return b"".join(_SURROGATE.sub(rb"\\ufFfE", _PAIR.sub(rb"\\u0041\\u0041", piece)) for piece in pieces)


def _pieces(escapes: bytes) -> Iterator[bytes]:
    """A text, of whose backslashes each begins an escape, in pieces that end between two escapes of no pair."""
    start = 0
    while start < len(escapes):
        cut = _CUT.search(escapes, start + PIECE)
        end = cut.start() if cut else len(escapes)
        yield escapes[start:end]
        start = end


def check_value(raw: bytes, max_depth: int) -> None:
    """Refuses numbers beyond the range of a double and nesting deeper than `max_depth`. `raw` is valid JSON."""
    first = raw[0]
    if first in b'"tfn':
        return
    if first in _NESTED:
        _check_nested(raw, max_depth)
    elif len(raw) > LONG or b"e" in raw or b"E" in raw:
        _check_number(raw.decode())


def _check_number(text: str) -> None:
    value = float(text)
    if math.isinf(value) or (value == 0.0 and any(c in "123456789" for c in re.split("[eE]", text)[0])):
        raise InvalidValue(_TOO_FAR)
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


def _check_nested(raw: bytes, max_depth: int) -> None:
    bare = _without_strings(raw)
    if bare.count(b"{") + bare.count(b"[") > max_depth and _is_deeper(bare, max_depth):
        raise InvalidValue(f"nested deeper than {max_depth}")
    words = bare.replace(b"true", b"").replace(b"false", b"").replace(b"null", b"")
    if b"e" in words or b"E" in words or b"0" * LONG in words.translate(_AS_DIGIT):
        _check_numbers(words)


def _check_numbers(words: bytes) -> None:
    """`words`: JSON of numbers alone."""
    numbers = [number for number in words.translate(_AS_COMMA, b" \t\r\n").split(b",") if number]
    try:
        values = _DOUBLES.decode(b"[%b]" % b",".join(numbers))
    except msgspec.ValidationError:
        raise InvalidValue(_TOO_FAR) from None
    odd = {number for number, value in zip(numbers, values, strict=True) if not value or number[LONGER:]}
    if _NO_ZERO.search(b",".join(odd)):
        for number in odd:
            _check_number(number.decode())


def _without_strings(raw: bytes) -> bytes:
    """JSON without what is in its strings."""
    if b'"' not in raw:
        return raw
    if b"\\" in raw:
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(raw.split(b'"')[::2])


def _is_deeper(bare: bytes, most: int) -> bool:
    """Whether arrays and objects lie in one another deeper than `most`: the innermost are taken out so many times."""
    left = bare.translate(_AS_SQUARE, _NO_BRACKETS)
    for _ in range(most):
        left = left.replace(b"[]", b"")
        if not left:
            return False
    return True
