"""How many of the numbers for names and spaces are used up."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from syncd.store.pool import Pool


class NumbersUsed(NamedTuple):
    """Of `core.numbers.ALL` of each."""

    names: int
    spaces: int


async def used(pool: Pool) -> NumbersUsed:
    """As they are now. Raises Busy, DatabaseUnavailable."""
    return NumbersUsed(*(await pool.fetch("numbers_used"))[0])
