"""Where a listing of the past goes on: given out as a text, and of what comes back only what could be one is taken."""

from __future__ import annotations

import base64
import string
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.errors import Malformed
from syncd.core.ids import STEPS
from syncd.protocol.page_token import MAX_LENGTH, PageToken, read_bookmark

LAST = (1 << 63) - 1
ids = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20).filter(lambda s: s not in STEPS)
seqs = st.integers(0, LAST)


def written(*members: Any, spaces: int = 0) -> str:
    raw = msgspec.json.encode(members) + b" " * spaces
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def refused(text: str) -> None:
    with pytest.raises(Malformed) as why:
        read_bookmark(text)
    assert (why.value.code, why.value.detail) == ("invalid_request", "after is not from an answer of this server.")
    assert [(fault.pointer, fault.detail) for fault in why.value.faults] == [("/after", "is none of ours")]


@given(seqs, ids, ids, seqs)
def test_a_bookmark_comes_back_as_it_was(seq: int, table: str, record: str, start: int) -> None:
    bookmark = PageToken(seq, table, record, start)
    text = bookmark.text()
    assert set(text) <= set(string.ascii_letters + string.digits + "-_")
    assert read_bookmark(text) == bookmark


def test_one_of_before_names_no_start() -> None:
    assert read_bookmark(written(7, "t", "r")) == PageToken(7, "t", "r", 0)


@pytest.mark.parametrize("members", [(0, "t", "r", 0), (LAST, "t", "r", LAST), (1, "t" * 255, "\U0001f600" * 255, 0)])
def test_bounds_are_within(members: Any) -> None:
    assert read_bookmark(PageToken(*members).text()) == PageToken(*members)


@pytest.mark.parametrize(
    "members",
    [(-1, "t", "r"), (LAST + 1, "t", "r"), (1, "t", "r", -1), (1, "t", "r", LAST + 1), (1, "", "r"), (1, "t", ""),
     (1, "t" * 256, "r"), (1, "t", "r" * 256), (1, "a\nb", "r"), (1, "t", "a\nb"), (1, "t"), ("1", "t", "r"),
     (1, 2, "r"),
     (1, "..", "r"), (1, "t", "..")],
    ids=str,
)  # fmt: skip
def test_what_no_listing_could_have_told_is_refused(members: Any) -> None:
    refused(written(*members))


@pytest.mark.parametrize("text", ["", "x", "é", "====", "a b", "AA==AA", "[1,2]", "+/+/"])
def test_any_other_text_is_refused(text: str) -> None:
    refused(text)


def test_it_is_spelled_for_addresses() -> None:
    text = PageToken(1, "\u07ff\u07fe\u07bf", "??>>~~", 1).text()
    assert {*"-_"} & {*text}
    assert not {*"+/="} & {*text}
    refused(f"{text[:4]}!{text[4:]}")
    refused(f"{text[:4]}\n{text[4:]}")


def test_a_text_is_looked_at_up_to_its_greatest_length() -> None:
    members = (1, "t", "r")
    short = len(msgspec.json.encode(members))
    fits = written(*members, spaces=MAX_LENGTH * 3 // 4 - short)
    assert len(fits) == MAX_LENGTH
    assert read_bookmark(fits) == PageToken(*members)
    refused(written(*members, spaces=MAX_LENGTH * 3 // 4 - short + 1))
