"""The look at all sockets goes on, whatever one of them does."""

from __future__ import annotations

import asyncio
from typing import Any

from syncd.core.errors import DatabaseUnavailable
from syncd.edge.admission import Admission
from syncd.edge.live_deps import LiveDeps
from syncd.edge.sockets import SWEEP_EVERY, Sockets


class Looked:
    """Stands where a socket would, and fails when it is looked at, or not."""

    def __init__(self, *, fails: bool) -> None:
        self.fails, self.looks = fails, 0

    def look(self, now: float, wall: float) -> None:
        self.looks += 1
        if self.fails:
            raise RuntimeError


def open_admission() -> Admission:
    return Admission(per_user=0, per_address=0, frames=0, origins=())


def nobody() -> LiveDeps:
    raise DatabaseUnavailable


async def test_one_that_cannot_be_looked_at_keeps_no_other_from_it() -> None:
    sockets, state = Sockets(nobody, open_admission(), 1024), type("State", (), {"connections": set()})()
    sockets(None, state, None)
    bad, good = Looked(fails=True), Looked(fails=False)
    places: set[Any] = {bad, good}
    sockets.open = places
    try:
        for _ in range(600):
            if min(bad.looks, good.looks) >= 2:
                return
            await asyncio.sleep(SWEEP_EVERY / 10)
        raise AssertionError((bad.looks, good.looks))
    finally:  # else it goes on looking, and failing, as long as the session's loop turns
        assert sockets._sweeper is not None
        sockets._sweeper.cancel()
