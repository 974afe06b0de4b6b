"""Searches through large texts: the same as at once, and never through much of one at a time."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.core.errors import TooLarge
from syncd.core.pieces import PIECE, holds, more_than
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
