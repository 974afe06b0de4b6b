"""How many examples a test draws: the same some each time in `make test`, many more and new ones in `make soak`."""

from __future__ import annotations

import os

import pytest

SOAK = bool(os.environ.get("SYNCD_SOAK"))
MINUTES = int(float(os.environ.get("SOAK_MINUTES") or 60))

# For those whose every example is several requests to a real server. In `make soak` they run too.
drawn = pytest.mark.drawn


def examples(number: int) -> int:
    """`number` of them; three times as many for a planted fault (tools/mutants.py), and more in a long soak.

    A third of them in `make test`, which is the same third each time.
    """
    if SOAK:
        return number * max(3, MINUTES // 2)
    return number * 3 if "MUTANTS" in os.environ else max(1, number // 3)


def steps(number: int) -> int:
    """How long each is, for a state machine: twice as long in a soak."""
    return number * 2 if SOAK else number
