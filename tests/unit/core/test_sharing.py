"""What users may do to each other: which bounds there are, and what is said where one is met."""

from __future__ import annotations

import pytest

from syncd.core.sharing import UNBOUNDED, Sharing, told

EVERY = {"owned": 1, "joined": 2, "added": 3, "made": 4, "members": 5, "blocks": 6}
WITH_THEM = {"renamed": 4, "links": 5}


def test_bounds_are_those_that_are_set() -> None:
    assert UNBOUNDED.bounds() == {}
    assert Sharing(ask=True).bounds() == {}
    assert Sharing(ask=True, **EVERY).bounds() == {**EVERY, **WITH_THEM}
    assert Sharing(members=0).bounds() == {"members": 0, "links": 0}, "none at all is a bound"


def test_without_a_word_nobody_is_asked() -> None:
    assert UNBOUNDED.ask is False


@pytest.mark.parametrize(("name", "sentence"), [
    ("made", "You made as many spaces as one user may in an hour (7)."),
    ("renamed", "You renamed as many spaces as one user may in an hour (7)."),
    ("links", "You made as many links to spaces as one user may in an hour (7)."),
    ("joining", "As many users joined by the links of one user as may in an hour (7)."),
    ("joins", "You joined as many spaces by links as one user may in an hour (7)."),
    ("space_links", "This space has as many links in force as one may (7). Withdraw one first."),
    ("members", "You added as many members to spaces as one user may in an hour (7)."),
    ("owned", "You own as many spaces as one user may (7). Delete or leave one first."),
    ("joined", "You are in as many spaces as one user may be (7). Leave one first."),
    ("blocks", "You block as many users as one may (7). Unblock one first."),
])  # fmt: skip
def test_who_meets_a_bound_is_told_which_and_what_to_do(name: str, sentence: str) -> None:
    assert told(name, 7) == sentence


@pytest.mark.parametrize("name", ["added", "ask", ""])
def test_of_other_names_nothing_is_said(name: str) -> None:
    assert told(name, 7) is None
