"""When a silent device is asked, and when it is taken for gone."""

from __future__ import annotations

import pytest

from syncd.edge.heartbeat import STALLED_AFTER, Heartbeat
from syncd.edge.incoming_frames import text_header

INTERVAL = 20.0


def asked(*, behind: bool = False) -> Heartbeat:
    """One that was pinged at 100, when it had taken 50 of 60 bytes or all of them; the ping ends at 66."""
    watch = Heartbeat(10.0)
    watch.ask(100.0, 50 if behind else 60, 66, behind)
    return watch


@pytest.mark.parametrize(("now", "gone"), [(120.5, False), (120.6, True)])
def test_who_took_the_ping_has_an_interval_to_answer(now: float, gone: bool) -> None:
    watch = asked()
    assert not watch.gone(100.5, INTERVAL, 66, False, 0.0)
    assert watch.gone(now, INTERVAL, 66, False, 0.0) is gone


def test_who_answered_is_not_asked_any_more() -> None:
    watch = asked()
    assert watch.asked
    watch.came(110.0)
    assert not watch.asked
    assert watch.heard == 110.0


def test_the_time_to_answer_begins_when_the_ping_was_taken() -> None:
    watch = asked(behind=True)
    for at, taken in ((150.0, 55), (190.0, 60), (230.0, 65)):
        assert not watch.gone(at, INTERVAL, taken, False, 0.0)  # bytes move before the ping
    assert not watch.gone(240.0, INTERVAL, 66, False, 0.0)
    assert not watch.gone(230.0 + STALLED_AFTER * INTERVAL, INTERVAL, 66, False, 0.0)
    assert watch.gone(240.1 + STALLED_AFTER * INTERVAL, INTERVAL, 66, False, 0.0)


def test_what_waits_and_does_not_move_ends_it() -> None:
    watch = Heartbeat(10.0)
    watch.filled(100.0)
    most = 100.0 + STALLED_AFTER * INTERVAL
    assert not watch.gone(most, INTERVAL, 0, True, 0.0)
    assert watch.gone(most + 0.1, INTERVAL, 0, True, 0.0)


def test_a_page_on_its_way_gives_the_answer_its_time() -> None:
    """A proxy took the ping: it is the device's answer that lies behind the page."""
    watch = asked(behind=True)
    for at in range(101, 400):
        watch.gone(float(at), INTERVAL, at, False, 300.0)
    assert not watch.gone(100.0 + STALLED_AFTER * INTERVAL + 300.0, INTERVAL, 401, False, 300.0)
    assert watch.gone(100.1 + STALLED_AFTER * INTERVAL + 300.0, INTERVAL, 402, False, 300.0)


@pytest.mark.parametrize(
    ("size", "header"),
    [(125, "7d"), (126, "7e007e"), (65535, "7effff"), (65536, "7f0000000000010000")],
)
def test_the_head_of_a_frame_has_the_shortest_length_that_holds_it(size: int, header: str) -> None:
    assert text_header(size, False).hex() == f"81{header}"
    assert text_header(size, True).hex() == f"c1{header}"
