"""How slowly a body may come: what moves is kept, what does not is ended."""

from __future__ import annotations

import pytest

from syncd.edge.pace import GRACE, SLOWEST, STANDSTILL, Arrival


def ends(rate: float, size: int, every: float = 0.5, pause: tuple[float, float] = (0, 0)) -> float | None:
    """When a body of that size that comes at that rate is ended, if it is; it stands still during `pause`."""
    arrival, now = Arrival(100.0), 0.0
    while arrival.size < size:
        if arrival.left(100.0 + now) <= 0:
            return now
        now += every
        if not pause[0] <= now < pause[1]:
            arrival.came(int(rate * every), 100.0 + now)
    return None


@pytest.mark.parametrize("rate", [SLOWEST + 100, 1_000, 15_000, 1e6])
def test_a_line_that_moves_brings_any_body(rate: float) -> None:
    assert ends(rate, 10 << 20) is None


@pytest.mark.parametrize("rate", [0, 2, 20, SLOWEST / 2])
def test_a_line_that_hardly_moves_is_ended_soon(rate: float) -> None:
    end = ends(rate, 10 << 20)
    assert end is not None
    assert GRACE <= end <= 2 * GRACE + 1


def test_a_small_body_may_take_the_grace() -> None:
    assert ends(20, 180) is None


def test_what_came_quickly_may_stand_still_for_a_while_but_not_for_ever() -> None:
    assert ends(15_000, 600_000, pause=(10, 9 + STANDSTILL)) is None
    assert ends(15_000, 600_000, pause=(10, 12 + STANDSTILL)) == pytest.approx(9.5 + STANDSTILL, abs=1)


def test_no_bytes_are_no_progress() -> None:
    arrival = Arrival(0.0)
    arrival.came(1_000_000, 0.0)
    arrival.came(0, 29.0)
    assert arrival.left(29.0) == STANDSTILL - 29.0
