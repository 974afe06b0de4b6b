"""What goes wrong when, from a seed; and the shortest part of it that still shows a fault. Pure but for `fails`."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple


class Fault(NamedTuple):
    """`at`: seconds after the beginning. `target`: which of those that it can hit. `seconds`: how long it lasts."""

    at: float
    name: str
    target: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.at:6.2f} s  {self.name} of {self.target} for {self.seconds:.2f} s"


def planned(seed: int, seconds: float, names: Sequence[str], every: float = 2.0) -> list[Fault]:
    """Faults for so many seconds, one in `every` on average. Each name comes once before any comes twice."""
    chance = random.Random(seed)
    count = max(1, int(seconds / every))
    drawn: list[str] = []
    while len(drawn) < count:
        drawn += chance.sample(list(names), len(names))
    times = sorted(chance.uniform(0, seconds) for _ in range(count))
    return [
        Fault(round(at, 2), name, chance.randrange(1000), round(chance.uniform(0.3, 4), 2))
        for at, name in zip(times, drawn[:count], strict=True)
    ]


async def shortest(schedule: Sequence[Fault], fails: Callable[[list[Fault]], Awaitable[bool]]) -> list[Fault]:
    """The shortest part found that still fails, by leaving out halves, quarters, and so on to single faults.

    `fails` runs a schedule. Where it says no more what it could say, as time is up, what was found so far is it.
    """
    left, parts = list(schedule), 2
    while len(left) > 1:
        size = -(-len(left) // parts)
        for start in range(0, len(left), size):
            fewer = left[:start] + left[start + size :]
            if fewer and await fails(fewer):
                left, parts = fewer, max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(left), parts * 2)
    return left
