"""Searches through large texts, piece by piece: nobody else works while one goes through all of a text at once.
Pure."""

from __future__ import annotations

# What a search goes through at once: less than a millisecond.
PIECE = 256 * 1024


def holds(text: bytes, mark: bytes) -> bool:
    """Whether a text has a mark in it."""
    if len(text) <= PIECE:
        return mark in text
    reach = PIECE + len(mark) - 1
    return any(text.find(mark, start, start + reach) >= 0 for start in range(0, len(text), PIECE))


def more_than(text: bytes, mark: bytes, most: int) -> bool:
    """Whether a text has a mark more than `most` times; the mark must not overlap with itself."""
    found, reach = 0, PIECE + len(mark) - 1
    for start in range(0, len(text), PIECE):
        found += text.count(mark, start, start + reach)
        if found > most:
            return True
    return False
