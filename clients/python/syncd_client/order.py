"""Lists whose order people change. A record has its place as a rank: a text that sorts, with room for another before it
and after it. So who moves a record writes that record alone.

Ranks are the keys of fractional indexing, after David Greenspan (CC0): a whole number, whose first letter says how many
digits it has, and the digits of a fraction. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from .data.record import Record
from .errors import InvalidWrite

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VALUES = {digit: value for value, digit in enumerate(_DIGITS)}
_HEADS = _DIGITS[10:]
_FIRST = "a0"
_SMALLEST = "A" + "0" * 26
_FORM = re.compile(r"[A-Za-z][0-9A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Placed:
    """The rank of what is put somewhere, and new ones of those (by their index) that get or make room for it."""

    rank: str
    moved: Mapping[int, str]


def is_rank(value: object) -> TypeGuard[str]:
    """Whether a value is a rank."""
    if not isinstance(value, str) or not _FORM.fullmatch(value):
        return False
    length = _whole_length(value)
    return len(value) >= length and value != _SMALLEST and not (len(value) > length and value.endswith("0"))


def between(low: str | None, high: str | None) -> str:
    """A rank after `low` and before `high`, of which None is no bound. Raises InvalidWrite where there is none."""
    for bound in (low, high):
        if bound is not None and not is_rank(bound):
            raise InvalidWrite(f"{str(bound)[:99]} is no rank.")
    if low is None:
        return _FIRST if high is None else _before(high)
    whole = _whole_of(low)
    following = _increment(whole)
    if high is None:
        return following or whole + _middle(low[len(whole) :], None)
    if low >= high:
        raise InvalidWrite("there is no rank between these two, as the first is not before the second.")
    if _whole_of(high) == whole:
        return whole + _middle(low[len(whole) :], high[len(whole) :])
    return following if following and following < high else whole + _middle(low[len(whole) :], None)


def ranks_between(low: str | None, high: str | None, count: int) -> list[str]:
    """So many ranks after `low` and before `high`, short ones, in order: for a list that is new, say."""
    if count < 1:
        return []
    one = between(low, high)
    if low is not None and high is not None:
        half = count // 2
        return [*ranks_between(low, one, half), one, *ranks_between(one, high, count - half - 1)]
    ranks = [one]
    while len(ranks) < count:
        ranks.append(between(ranks[-1], None) if high is None else between(None, ranks[-1]))
    return ranks if high is None else ranks[::-1]


def place(ranks: Sequence[object], index: int) -> Placed:
    """The rank of what is put at `index` among `ranks`, which are in order (see `in_order`) and without it.

    Devices that were apart may have made one rank twice. There is no room between the two, so those behind move on.
    Records without a rank stand last; those of them that are to stand before this one get ranks.
    """
    start = end = at = max(0, min(index, len(ranks)))
    while start > 0 and not is_rank(ranks[start - 1]):
        start -= 1
    low = _rank_at(ranks, start - 1)
    while low and (_rank_at(ranks, end) or "~") <= low:
        end += 1
    made = ranks_between(low, _rank_at(ranks, end), end - start + 1)
    rank = made.pop(at - start)
    return Placed(rank, {start + step: key for step, key in enumerate(made)})


def _rank_at(ranks: Sequence[object], index: int) -> str | None:
    rank = ranks[index] if 0 <= index < len(ranks) else None
    return rank if is_rank(rank) else None


def in_order(records: Iterable[Record], rank_of: Callable[[Record], Any]) -> list[Record]:
    """Records as every device shows them: by rank, and by id (then space) where ranks are equal.

    Those whose rank is missing, or is none, come last. `rank_of`: what a record has as its rank.
    """

    def key(record: Record) -> tuple[str, str, str]:
        rank = rank_of(record)
        return (rank if is_rank(rank) else "~", record.id, record.space or "")

    return sorted(records, key=key)


def _whole_length(rank: str) -> int:
    """How many characters the whole number of a rank has, with its first letter."""
    head = _HEADS.index(rank[0])
    return 27 - head if head < 26 else head - 24


def _whole_of(rank: str) -> str:
    return rank[: _whole_length(rank)]


def _before(high: str) -> str:
    whole = _whole_of(high)
    if whole == _SMALLEST:
        return whole + _middle("", high[len(whole) :])
    if whole < high:
        return whole
    less = _decrement(whole)
    # The smallest whole number alone is no rank: there would be nothing before it.
    return less + _middle("", None) if less == _SMALLEST else less


def _increment(whole: str) -> str | None:
    """The next whole number; None after the greatest."""
    kept = whole[0] + whole[1:].rstrip("z")
    if len(kept) > 1:
        return _stepped(kept, 1) + "0" * (len(whole) - len(kept))
    if kept == "z":
        return None
    head = _stepped(kept, 1)
    return head + "0" * (_whole_length(head) - 1)


def _decrement(whole: str) -> str:
    """The whole number before one that is not the smallest."""
    kept = whole[0] + whole[1:].rstrip("0")
    if len(kept) > 1:
        return _stepped(kept, -1) + "z" * (len(whole) - len(kept))
    head = _stepped(kept, -1)
    return head + "z" * (_whole_length(head) - 1)


def _stepped(text: str, by: int) -> str:
    """With another last character: the next one, or that before. As a head, `a` comes after `Z`."""
    return text[:-1] + _DIGITS[_VALUES[text[-1]] + by]


def _middle(low: str, high: str | None) -> str:
    """The digits of a fraction between two, `low` < `high`, neither with a 0 at its end; None is 1."""
    at = 0
    while high is not None and (low[at : at + 1] or "0") == high[at]:
        at += 1
    made, upper = ["" if high is None else high[:at]], high
    while True:
        start = _VALUES[low[at]] if at < len(low) else 0
        end = len(_DIGITS) if upper is None else _VALUES[upper[at]]
        if end - start > 1:
            return "".join(made) + _DIGITS[(start + end + 1) // 2]
        if upper is not None and len(upper) > at + 1:
            return "".join(made) + upper[at]
        made.append(_DIGITS[start])
        at, upper = at + 1, None
