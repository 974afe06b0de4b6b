"""Searches through large texts: the same as at once, and never through much of one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from syncd.core.errors import TooLarge
from syncd.core.pieces import FEW, PIECE, RESTING, empty, holds, in_turns, more_than
from syncd.core.values import check_text
from syncd.protocol.large import push_in
from syncd.protocol.messages import MOST_COMMAS
from syncd.protocol.normalize import Limits


class Searched(bytes):
    """A text that knows how much of it the longest search went through, and how much all of them."""

    longest = all = 0

    def _note(self, start: int, end: int | None) -> None:
        size = max(0, min(len(self), len(self) if end is None else end) - start)
        self.longest, self.all = max(self.longest, size), self.all + size

    def count(self, mark: Any, start: Any = 0, end: Any = None) -> int:
        self._note(start, end)
        return super().count(mark, start, len(self) if end is None else end)

    def find(self, mark: Any, start: Any = 0, end: Any = None) -> int:
        self._note(start, end)
        return super().find(mark, start, len(self) if end is None else end)

    def __contains__(self, mark: Any) -> bool:
        self._note(0, None)
        return super().__contains__(mark)


@pytest.mark.parametrize("at", [0, PIECE - 3, PIECE - 2, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE - 3])
def test_a_mark_is_found_once_wherever_it_lies(at: int) -> None:
    text = b" " * at + b"abc" + b" " * (3 * PIECE - 3 - at)
    assert holds(text, b"abc")
    assert not holds(text, b"abd")
    assert more_than(text, b"abc", 0)
    assert not more_than(text, b"abc", 1)


def test_short_texts_are_searched_too() -> None:
    assert holds(b"abc", b"b")
    assert not holds(b"", b"b")
    assert more_than(b"a,b,c", b",", 1)
    assert not more_than(b"a,b,c", b",", 2)
    assert not more_than(b"", b",", 0)


def test_a_large_push_is_searched_in_small_pieces_and_no_further_than_it_takes() -> None:
    text = Searched(b'{"changes":[{"x":[%s1]}]}' % (b"1," * 5_000_000))
    with pytest.raises(TooLarge):
        push_in(text, Limits(), False)
    assert 0 < text.longest <= PIECE + 1
    # All members, and as many commas as there may be.
    assert text.all < len(text) + 2 * MOST_COMMAS + 2 * PIECE + len(text) // PIECE


def test_a_large_text_is_searched_for_escapes_in_small_pieces() -> None:
    text = Searched(b"x" * (10 << 20))
    check_text(text)
    assert 0 < text.longest <= PIECE + 1


@pytest.fixture
def rests() -> Iterator[list[int]]:
    """Work that is done beside others'. One entry for each rest; a test may put in what it wants to see then."""
    taken: list[int] = []
    token = RESTING.set(lambda: taken.append(len(taken)))
    yield taken
    RESTING.reset(token)


@pytest.mark.parametrize(("count", "few", "times"), [(0, 16, 0), (1, 16, 1), (16, 16, 1), (17, 16, 2), (5, 1, 5)])
def test_beside_others_work_rests_before_each_few_items(rests: list[int], count: int, few: int, times: int) -> None:
    assert list(in_turns(range(count), few)) == list(range(count))
    assert len(rests) == times
    rests.clear()
    assert list(in_turns(range(FEW + 1))) == list(range(FEW + 1))
    assert len(rests) == 2


def test_where_there_are_no_others_nothing_rests() -> None:
    items = [1, 2]
    assert in_turns(items) is items


@pytest.mark.parametrize(("size", "times"), [(PIECE, 0), (PIECE + 1, 2), (3 * PIECE, 3)])
def test_a_search_rests_before_each_piece(rests: list[int], size: int, times: int) -> None:
    assert not holds(b" " * size, b"a")
    assert len(rests) == times
    rests.clear()
    assert not more_than(b" " * size, b"a", 0)
    assert len(rests) == max(times, 1)


def test_a_list_is_let_go_of_a_few_items_at_a_time() -> None:
    items = list(range(2 * FEW + 3))
    left: list[int] = []
    token = RESTING.set(lambda: left.append(len(items)))
    empty(items)
    RESTING.reset(token)
    assert (items, left[0]) == ([], 2 * FEW + 3)
    empty(items)
    assert items == []
