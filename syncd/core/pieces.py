"""Long work, piece by piece: nobody else works while one goes through all of a text, or of a list, at once. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

# What a search goes through at once: less than a millisecond.
PIECE = 256 * 1024
# So many items are little work.
FEW = 16
# What is called between two pieces of work that is done beside others'; None where there are no others.
RESTING: ContextVar[Callable[[], None] | None] = ContextVar("RESTING", default=None)


def holds(text: bytes, mark: bytes) -> bool:
    """Whether a text has a mark in it."""
    if len(text) <= PIECE:
        return mark in text
    reach = PIECE + len(mark) - 1
    return any(text.find(mark, start, start + reach) >= 0 for start in in_turns(range(0, len(text), PIECE), 1))


def more_than(text: bytes, mark: bytes, most: int) -> bool:
    """Whether a text has a mark more than `most` times; the mark must not overlap with itself."""
    found, reach = 0, PIECE + len(mark) - 1
    for start in in_turns(range(0, len(text), PIECE), 1):
        found += text.count(mark, start, start + reach)
        if found > most:
            return True
    return False


def rest() -> None:
    """Rests, where others wait for their turn."""
    if (resting := RESTING.get()) is not None:
        resting()


def in_turns(items: Iterable[T], few: int = FEW) -> Iterable[T]:
    """The items; where the work is done beside others', with a rest before each `few` of them."""
    resting = RESTING.get()
    return items if resting is None else _with_rests(items, resting, few)


def empty(items: list[Any]) -> None:
    """Takes all out of a list, a few at a time: to let go of many at once takes nearly as long as to make them."""
    for _ in in_turns(range(0, len(items), FEW)):
        del items[-FEW:]


def _with_rests(items: Iterable[T], resting: Callable[[], None], few: int) -> Iterator[T]:
    for n, item in enumerate(items):
        if n % few == 0:
            resting()
        yield item
