"""Large bodies are read in a thread: nobody else's request waits for the end of that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from syncd.store.turns import Turns

T = TypeVar("T")

# A batch of a thousand rows is less. Reading a body of so many bytes, or with so many members, takes up to 50 ms.
SMALL, LARGE = 64 * 1024, 512 * 1024
MOST_MEMBERS = 15_000
# What the first generation sends has to be looked at member by member, which takes some eight times as long.
LEGACY_SMALL, LEGACY_MEMBERS = 12 * 1024, 1_500
PATIENCE = 30.0
# Python runs one thread at a time: a second one would be no faster, and the loop have its turn after both.
PLACES = 1


class Aside:
    """Performs in a thread what takes long, of one user after the other. One of a process."""

    def __init__(self) -> None:
        self._turns = Turns(PLACES)

    async def __call__(self, apart: bool, work: Callable[..., T], *arguments: object) -> T:
        """`work(*arguments)`, in a thread where `apart`. Raises Busy, TooMany, and what `work` raises."""
        if not apart:
            return work(*arguments)
        async with self._turns.place(PATIENCE):
            return await asyncio.to_thread(work, *arguments)


aside = Aside()


def is_large(body: bytes, legacy: bool = False) -> bool:
    """Whether a JSON text takes long to read: by its size, or by its members, as far as they can be counted quickly.
    `legacy`: it is from a client of the first generation."""
    small, most = (LEGACY_SMALL, LEGACY_MEMBERS) if legacy else (SMALL, MOST_MEMBERS)
    if not small < len(body) <= LARGE:
        return len(body) > LARGE
    members = body.count(b'":')
    # Where most colons stand behind something else, members may be written with spaces before theirs.
    return members > most or body.count(b":") > 3 * members + 1000
