"""What PostgreSQL could not give back unchanged is refused, and nothing else."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core import values
from syncd.core.values import WIDEST, InvalidValue, check_text, check_value, without_halves

DEPTH = 64
texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**300), 10**300)
    | texts
    | st.floats(allow_nan=False, allow_infinity=False)
)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)


@given(documents, st.booleans())
def test_every_json_value_of_doubles_and_text_passes(value: Any, ascii_only: bool) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only).encode()
    check_text(raw)
    check_value(raw, DEPTH)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1e309", "1" * 310, "1e-999", "-1e-400", "0." + "0" * 400 + "1"])
@pytest.mark.parametrize("around", ["%s", "[%s]", '{"a":[1,%s]}'])
def test_a_number_beyond_a_double_is_refused_at_any_place(number: str, around: str) -> None:
    with pytest.raises(InvalidValue, match="range of a double"):
        check_value((around % number).encode(), DEPTH)


@pytest.mark.parametrize(
    "number", ["0e-99999", "1." + "0" * 16384, "0.1" + "3" * 16400, "0e99999", "0e9999999999", "0.0e-16383", "0e-500"]
)
@pytest.mark.parametrize("around", ["%s", "[%s]"])
def test_a_number_with_more_digits_than_the_database_keeps_is_refused(number: str, around: str) -> None:
    with pytest.raises(InvalidValue, match="digits after the point"):
        check_value((around % number).encode(), DEPTH)


@pytest.mark.parametrize(
    "number",
    ["0", "-0", "-0.0", "0.0", "0e5", "0e-5", "0E+0000000", "1E+2", "1e0000000000002", "5e-324",
     "2.2250738585072014e-308", "1.7976931348623157e308", "9007199254740993", "-9223372036854775809",
     "18446744073709551616", "9" * 308, "0." + "1" * 16000],
)  # fmt: skip
def test_a_number_within_a_double_passes_whatever_its_spelling(number: str) -> None:
    check_value(number.encode(), DEPTH)
    check_value(f"[{number}]".encode(), DEPTH)


@pytest.mark.parametrize(("within", "beyond"), [
    ("1." + "1" * 16383, "1." + "1" * 16384),
    ("1." + "0" * 16380 + "e-3", "1." + "0" * 16380 + "e-4"),
    ("1." + "0" * 16385 + "E+2", "1." + "0" * 16385 + "e1"),
    ("-1." + "0" * 16385 + "e002", "-1." + "0" * 16386 + "e+002"),
    # Of a zero so many as it has letters, and 400.
    ("0e-406", "0e-407"), ("-0e-407", "-0e-408"), ("0.0e-407", "0.0e-408"), ("0e-0407", "0e-0408"),
    ("0." + "0" * 400 + "e-407", "0." + "0" * 400 + "e-408"),
    ("0e16383", "0e16384"), ("0.0E+16383", "0.0E+16384"),
])  # fmt: skip
@pytest.mark.parametrize("around", ["%s", "[%s]", '{"a":[0,%s,1e5]}'])
def test_digits_after_the_point_end_exactly_there(within: str, beyond: str, around: str) -> None:
    check_value((around % within).encode(), DEPTH)
    with pytest.raises(InvalidValue, match="more than 16,383 digits after the point"):
        check_value((around % beyond).encode(), DEPTH)


@pytest.mark.parametrize(("within", "beyond"), [
    ("1" * 309, "2" * 309), ("-" + "1" * 309, "-" + "2" * 309), ("1.7976931348623158e308", "1.7976931348623159e308"),
    ("17976931348623157" + "0" * 292 + ".5", "18" + "0" * 307 + ".5"), ("3e-324", "2e-324"), ("0.0e0", "0.001e-400"),
])  # fmt: skip
@pytest.mark.parametrize("around", ["%s", "[%s]", '{"a":[0,%s,1]}', "[[], %s\n]"])
def test_the_range_of_a_double_ends_exactly_there(within: str, beyond: str, around: str) -> None:
    check_value((around % within).encode(), DEPTH)
    with pytest.raises(InvalidValue, match="beyond the range of a double"):
        check_value((around % beyond).encode(), DEPTH)


@pytest.mark.parametrize(
    "text", [r"\u0000", r"a\u0000b", r"\\\u0000", r"\\\\\u0000", r"\"\u0000", r"\n\u0000", r"\u0041\u0000"]
)
def test_an_escaped_nul_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="u0000"):
        check_text(f'"{text}"'.encode())


@pytest.mark.parametrize(
    "text", [r"\\u0000", r"\\\\u0000", r"\\\\\\u0000 \\u0000", r"\u0001", r"u0000", r"\\ud800", r"\"\\udc00"]
)
def test_a_backslash_that_is_escaped_starts_no_escape(text: str) -> None:
    raw = f'"{text}"'.encode()
    json.loads(raw)
    check_text(raw)


@pytest.mark.parametrize(
    "text",
    [r"\ud800", r"\udc00", r"\ud800a", r"a\udfff", r"\ud800\ud800", r"\ud800\ud800\udc00", r"\udc00\ud800",
     r"\ud83d\n\ude00", r"\ud83d\\ude00", r"\ud83d \ude00", r"\uD83D\u0041", r"\ud83d\ude00\ude00", r"\uDBFF"],
)  # fmt: skip
def test_half_a_surrogate_pair_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="lone surrogate"):
        check_text(f'{{"a":"{text}"}}'.encode())


@pytest.mark.parametrize(
    "text",
    [
        r"\ud83d\ude00",
        r"\uD83D\uDE00\uD83D\uDE00",
        r"\\\ud83d\ude00",
        r"\ud800\udc00",
        r"\udbff\udfff",
        r"\ue000\ud7ff",
    ],
)
def test_whole_surrogate_pairs_pass(text: str) -> None:
    check_text(f'"{text}"'.encode())


@given(
    st.lists(
        st.sampled_from(["\\\\", "\\u0000", "\\ud83d", "\\ude00", "\\u0041", "\\n", '\\"', "a", "u0000"]), max_size=8
    )
)
def test_the_check_of_text_agrees_with_the_decoder(parts: list[str]) -> None:
    raw = '"' + "".join(parts) + '"'
    text = json.loads(raw)
    bad = "\x00" in text or any("\ud800" <= c <= "\udfff" for c in text)
    try:
        check_text(raw.encode())
    except InvalidValue:
        assert bad
    else:
        assert not bad


@pytest.mark.parametrize(("text", "read"), [
    (r'"\ud800"', r'"\ufFfE"'), (r'"\\ud800"', '"__ud800"'), (r'"\\\ud800"', r'"__\ufFfE"'), ('"a"', '"a"'),
    (r'"\ud83d\ude00\ude00"', r'"\u0041\u0041\ufFfE"'), (r'"\u00e9\n"', r'"\u00e9\n"'),
])  # fmt: skip
def test_half_a_pair_is_read_as_a_mark_and_what_only_looks_like_one_is_not(text: str, read: str) -> None:
    found = without_halves(text.encode())
    assert (found.decode(), len(found)) == (read, len(text))
    json.loads(found)


@pytest.mark.parametrize(("depth", "passes"), [(1, True), (64, True), (65, False), (5000, False), (200_000, False)])
@pytest.mark.parametrize(("start", "end"), [("[", "]"), ('{"a":', "}")])
def test_nesting_ends_at_the_limit(depth: int, passes: bool, start: str, end: str) -> None:
    raw = (start * depth + "1" + end * depth).encode()
    if passes:
        check_value(raw, DEPTH)
    else:
        with pytest.raises(InvalidValue, match="deeper than 64"):
            check_value(raw, DEPTH)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_nesting_of_both_kinds_counts_together(most: int) -> None:
    for depth in range(1, 7):
        starts, ends = ("[", '{"a":') * 3, ("]", "}") * 3
        raw = ("".join(starts[:depth]) + "1" + "".join(reversed(ends[:depth]))).encode()
        if depth <= most:
            check_value(raw, most)
        else:
            with pytest.raises(InvalidValue, match=f"deeper than {most}"):
                check_value(raw, most)


def test_brackets_in_text_and_beside_each_other_are_not_depth() -> None:
    check_value(json.dumps(["[" * 200, "{" * 200]).encode(), DEPTH)
    check_value(json.dumps([[] for _ in range(200)]).encode(), DEPTH)


MANY = 20_000
WORST = {
    "ones": b"[" + b",".join([b"1"] * MANY) + b"]",
    "long numbers": b"[" + b",".join(b"%d" % (10**15 + n) for n in range(MANY)) + b"]",
    "exponents": b"[" + b",".join(b"%de100" % n for n in range(1, MANY)) + b"]",
    "far exponents": b"[" + b",".join(b"%de300" % n for n in range(1, MANY)) + b"]",
    "zeros": b"[" + b",".join(b"0e%d" % n for n in range(1, 9999)) + b"]",
    "arrays": b"[" + b",".join([b"[]"] * MANY) + b"]",
    "deep arrays": b"[" + b",".join([b"[" * 60 + b"]" * 60] * 300) + b"]",
    "members": b"{" + b",".join(b'"%d":0' % n for n in range(MANY)) + b"}",
    "escapes": b'["' + rb"\u00e9" * MANY + b'"]',
    "pairs": b'["' + rb"\ud83d\ude00" * MANY + b'"]',
    "backslashes": b'["' + rb"\\" * MANY + rb"\u00e9" + b'"]',
}


@pytest.mark.parametrize("raw", WORST.values(), ids=WORST)
def test_the_work_on_a_text_does_not_grow_with_its_parts(raw: bytes) -> None:
    """Calls are counted: of Python's functions, and from them of others. One for each part took 250 ns a byte."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        check_text(raw)
        check_value(raw, DEPTH)
    finally:
        sys.setprofile(None)
    assert calls < 300


def test_numbers_are_looked_at_from_where_they_begin_alone() -> None:
    """A zero of 300 digits would be looked at from each of them to its end."""
    long = b"0." + b"0" * 2 * WIDEST
    numbers = b"0e-1,%b,0.0e-1" % long
    assert values._NO_ZERO.match(long)
    assert [at for at in range(1, len(numbers)) if values._NO_ZERO.match(numbers, at)] == [numbers.index(b",")]
