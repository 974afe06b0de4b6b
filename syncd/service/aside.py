"""Large bodies are read in a thread: nobody else's request waits for the end of that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from syncd.core.pieces import RESTING
from syncd.store.turns import Turns

T = TypeVar("T")

# A batch of a thousand rows is less. Reading a body of so many bytes, or with so many members, takes up to 50 ms.
SMALL, LARGE = 64 * 1024, 512 * 1024
MOST_MEMBERS = 15_000
# What the first generation sends has to be looked at member by member, which takes some eight times as long.
LEGACY_SMALL, LEGACY_MEMBERS = 12 * 1024, 1_500
# Where one of its changes is at fault the others are found mark by mark, whatever else there is; a member has some six.
LEGACY_MARKS, _MARKS = 12_000, b'[]{},:"'
PATIENCE = 30.0
# Python runs one thread at a time: a second one would be no faster, and the loop have its turn after both.
PLACES = 1
# The loop lets go of Python's lock at each call to the network or the database, some ten times a request, and waits
# each time for a thread that works. So a thread that has worked so long, and was kept waiting for more than this share
# of it, by the loop that is, rests as long as that took, but no longer than a piece of work takes: it keeps the place.
WORK, WAITED, LONGEST = 0.001, 0.05, 0.05


class Rests:
    """Rests between pieces of work, where somebody else works too."""

    def __init__(self) -> None:
        self._began, self._worked = time.monotonic(), time.thread_time()

    def __call__(self) -> None:
        took = time.monotonic() - self._began
        if took < WORK:
            return
        if time.thread_time() - self._worked < took * (1 - WAITED):
            time.sleep(min(took, LONGEST))
        self._began, self._worked = time.monotonic(), time.thread_time()


async def beside(work: Callable[..., T], *arguments: object) -> T:
    """`work(*arguments)` in a thread that rests where others work, whoever else is at something of the kind."""
    return await asyncio.to_thread(_with_rests, work, *arguments)


def _with_rests(work: Callable[..., T], *arguments: object) -> T:
    RESTING.set(Rests())  # the thread has a context of its own for each call
    return work(*arguments)


class Aside:
    """Performs in a thread what takes long, of one user after the other. One of a process."""

    def __init__(self) -> None:
        self._turns = Turns(PLACES)

    async def __call__(self, apart: bool, work: Callable[..., T], *arguments: object) -> T:
        """`work(*arguments)`, in a thread where `apart`. Raises Busy, TooMany, and what `work` raises."""
        if not apart:
            return work(*arguments)
        async with self._turns.place(PATIENCE):
            return await beside(work, *arguments)


aside = Aside()


def is_large(body: bytes, legacy: bool = False) -> bool:
    """Whether a JSON text takes long to read: by its size, or by its members, as far as they can be counted quickly.
    `legacy`: it is from a client of the first generation."""
    small, most = (LEGACY_SMALL, LEGACY_MEMBERS) if legacy else (SMALL, MOST_MEMBERS)
    if not small < len(body) <= LARGE:
        return len(body) > LARGE
    if legacy and len(body) - len(body.translate(None, _MARKS)) > LEGACY_MARKS:
        return True
    members = body.count(b'":')
    # Where most colons stand behind something else, members may be written with spaces before theirs.
    return members > most or body.count(b":") > 3 * members + 1000
