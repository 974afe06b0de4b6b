"""Instants: RFC 3339 in, microseconds and 27 characters out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.clock import EPOCH, EPOCH_TEXT, LAST, canonical_instant, format_instant, parse_instant
from tests.support.vectors import vectors

VECTORS = vectors("clock")
instants = st.integers(0, LAST)
offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59)
MICROSECOND = timedelta(microseconds=1)


@pytest.mark.parametrize("vector", VECTORS["parse"], ids=lambda vector: vector["text"])
def test_the_server_reads_the_vectors_as_the_clients_do(vector: Any) -> None:
    assert parse_instant(vector["text"]) == vector["micros"]
    assert format_instant(vector["micros"]) == vector["canonical"]


@pytest.mark.parametrize("text", VECTORS["invalid"])
def test_the_server_refuses_what_the_clients_refuse(text: str) -> None:
    with pytest.raises(ValueError, match="instant"):
        parse_instant(text)


@given(instants)
def test_the_canonical_text_has_27_characters_and_means_the_same(micros: int) -> None:
    text = format_instant(micros)
    assert len(text) == 27
    assert text.endswith("Z")
    assert parse_instant(text) == micros


@given(instants, instants)
def test_canonical_texts_have_the_order_of_their_instants(a: int, b: int) -> None:
    assert (format_instant(a) < format_instant(b)) == (a < b)
    assert (format_instant(a) == format_instant(b)) == (a == b)


@given(st.datetimes(datetime(1971, 1, 1), datetime(9998, 12, 31)), offsets)
def test_an_offset_changes_the_text_and_not_the_instant(moment: datetime, minutes: int) -> None:
    there = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    text = there.isoformat(timespec="microseconds")
    assert parse_instant(text) == (there - EPOCH) // MICROSECOND


@given(instants, st.text("0123456789", min_size=1, max_size=30))
def test_digits_beyond_microseconds_are_cut_off(micros: int, more: str) -> None:
    assert parse_instant(f"{format_instant(micros)[:-1]}{more}Z") == micros


@given(instants.map(lambda micros: micros // 1_000_000 * 1_000_000), st.integers(0, 6))
def test_fewer_digits_are_filled_with_zeros(micros: int, digits: int) -> None:
    seconds = format_instant(micros)[:19]
    fraction = f".{'1' * digits}" if digits else ""
    assert parse_instant(f"{seconds}{fraction}Z") == micros + int(("1" * digits).ljust(6, "0"))


@given(st.datetimes(datetime(1, 1, 2), datetime(1969, 12, 31, 23, 59, 59, 999999)))
def test_before_1970_is_the_weakest_stamp(moment: datetime) -> None:
    text = f"{moment.isoformat(timespec='microseconds').zfill(26)}Z"
    assert parse_instant(text) == 0
    assert format_instant(0) == EPOCH_TEXT


def test_a_leap_second_stays_before_the_next_minute() -> None:
    leap = parse_instant("2016-12-31T23:59:60.500Z")
    assert parse_instant("2016-12-31T23:59:59.999Z") < leap < parse_instant("2017-01-01T00:00:00Z")


def test_the_year_9999_is_the_end() -> None:
    assert parse_instant("9999-12-31T23:59:59.999999Z") == LAST
    assert format_instant(LAST) == "9999-12-31T23:59:59.999999Z"
    for beyond in ("9999-12-31T23:59:59-00:01", "9999-12-31T23:59:59.9-23:59"):
        try:
            assert parse_instant(beyond) == LAST
        except ValueError:
            continue


@given(st.text(max_size=40))
def test_any_other_text_is_refused_with_a_value_error(text: str) -> None:
    try:
        micros = parse_instant(text)
    except ValueError:
        return
    assert 0 <= micros <= LAST


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)), st.integers(0, 26), st.characters())
def test_one_wrong_character_never_reaches_the_database(moment: datetime, place: int, character: str) -> None:
    text = format_instant((moment.replace(tzinfo=UTC) - EPOCH) // MICROSECOND)
    try:
        micros = parse_instant(text[:place] + character + text[place + 1 :])
    except ValueError:
        return
    assert 0 <= micros <= LAST


@given(st.text(max_size=30) | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.(\d{3}|\d{6})Z", fullmatch=True))
def test_the_quick_way_to_the_canonical_form_is_the_same_as_the_long_one(text: str) -> None:
    try:
        micros = parse_instant(text)
    except ValueError:
        with pytest.raises(ValueError, match="instant"):
            canonical_instant(text)
    else:
        assert canonical_instant(text) == (format_instant(micros), micros)
