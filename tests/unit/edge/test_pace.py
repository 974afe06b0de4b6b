"""How slowly a body may come: what moves is kept, what does not is ended."""

from __future__ import annotations

import pytest

from syncd.edge.pace import (
    FIRST_ANSWER,
    FIRST_PAGE,
    GRACE,
    LARGEST_PAGE,
    SLOWEST_BODY,
    SMALLEST_PAGE,
    STANDSTILL,
    Arrival,
    PageSize,
    Window,
)


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


@pytest.mark.parametrize("rate", [SLOWEST_BODY + 100, 15_000, 1e6])
def test_a_line_that_moves_brings_any_body(rate: float) -> None:
    assert ends(rate, 10 << 20) is None


@pytest.mark.parametrize("rate", [0, 2, 20, SLOWEST_BODY / 2])
def test_a_line_that_hardly_moves_is_ended_soon(rate: float) -> None:
    end = ends(rate, 10 << 20)
    assert end is not None
    assert GRACE <= end <= 2 * GRACE + 1


def test_a_small_body_may_take_the_grace() -> None:
    assert ends(20, 180) is None


def test_what_came_quickly_may_stand_still_for_a_while_but_not_for_ever() -> None:
    assert ends(15_000, 600_000, pause=(10, 9 + STANDSTILL)) is None
    assert ends(15_000, 600_000, pause=(10, 12 + STANDSTILL)) == pytest.approx(9.5 + STANDSTILL, abs=1)


def test_what_came_quickly_buys_a_standstill_and_no_more() -> None:
    """All but the end at once, and then a byte now and then, would hold a body's place for hours."""
    arrival, now = Arrival(0.0), 0.0
    arrival.came(10_000_000, now)
    while arrival.left(now) > 0:
        now += 5.0
        arrival.came(1, now)
    assert now <= STANDSTILL + 5.0


def test_no_bytes_are_no_progress() -> None:
    arrival = Arrival(0.0)
    arrival.came(1_000_000, 0.0)
    arrival.came(0, 29.0)
    assert arrival.left(29.0) == STANDSTILL - 29.0


def settled(rate: float) -> list[int]:
    """The sizes of pages, one after the other, on a line of that rate."""
    size, found = PageSize(), list[int]()
    for _ in range(12):
        found.append(size.bytes)
        size.took(size.bytes, size.bytes / rate)
    return found


def test_pages_grow_on_a_good_line_to_the_largest() -> None:
    assert settled(1e7) == [FIRST_PAGE, 2 * FIRST_PAGE] + [LARGEST_PAGE] * 10


def test_pages_stay_as_they_begin_on_a_bad_line_and_shrink_on_a_worse_one() -> None:
    assert set(settled(15_000)) == {FIRST_PAGE}
    assert settled(3_000)[-1] == FIRST_PAGE // 4
    assert settled(10)[-1] == SMALLEST_PAGE


def test_small_pages_say_nothing_about_larger_ones() -> None:
    size = PageSize()
    for _ in range(5):
        size.took(1_000, 0.001)
    assert size.bytes == FIRST_PAGE


def test_no_more_than_two_pages_are_under_way() -> None:
    window = Window()
    first, _ = window.begin(FIRST_PAGE, 0.0), window.begin(FIRST_PAGE, 0.1)
    assert window.patience(0.2) == pytest.approx(FIRST_ANSWER - 0.1)
    window.came(first[0], 1.0)
    assert window.patience(1.0) > FIRST_ANSWER
    window.came(first[1], 5.4)
    assert window.patience(5.4) == 0
    assert window.size.bytes == FIRST_PAGE


def test_the_time_until_the_first_mark_is_the_way_and_not_the_page() -> None:
    window = Window()
    for turn in range(2):
        before, after = window.begin(window.size.bytes, turn * 10.0)
        window.came(before, turn * 10 + 4.0)
        window.came(after, turn * 10 + 4.2)
    assert window.size.bytes == LARGEST_PAGE


def test_one_answer_stands_for_what_was_before_it() -> None:
    window = Window()
    window.begin(FIRST_PAGE, 0.0)
    _, after = window.begin(FIRST_PAGE, 0.0)
    window.came(after, 0.3)
    assert window.patience(0.3) == 0
    assert not window.waits


def test_who_never_answers_is_waited_for_once() -> None:
    window = Window()
    for _ in range(2):
        window.begin(FIRST_PAGE, 0.0)
    assert window.patience(FIRST_ANSWER) == 0
    window.give_up()
    for _ in range(5):
        assert window.patience(9.0) == 0
        window.begin(FIRST_PAGE, 9.0)
    assert window.size.bytes == FIRST_PAGE
    window.came(b"b1", 10.0)
    window.begin(FIRST_PAGE, 10.0)
    assert window.waits


@pytest.mark.parametrize("mark", [b"", b"x", b"b", b"bx", b"e9", b"b-1", b"e" + b"1" * 120, "e²".encode()])
def test_an_answer_to_nothing_is_nothing(mark: bytes) -> None:
    window = Window()
    window.begin(FIRST_PAGE, 0.0)
    window.came(mark, 1.0)
    window.begin(FIRST_PAGE, 1.0)
    assert window.patience(1.0) > 0
    assert window.size.bytes == FIRST_PAGE


def test_who_answers_with_something_else_is_waited_for_once() -> None:
    window = Window()
    for _ in range(2):
        window.begin(FIRST_PAGE, 0.0)
        window.came(b"", 0.5)
    assert window.patience(FIRST_ANSWER) == 0
