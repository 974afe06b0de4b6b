"""Which stamps of a push are lowered or raised, and what is told of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import pytest

from tests.support.push_decisions import NOW, SKEW, at, called, change, push, settled


@pytest.mark.parametrize(
    ("own", "lowest"),
    [(-5, 0), (-1, 0), (0, 1), (SKEW - 1, SKEW), (SKEW, SKEW + 1), (SKEW + 1, 0)],
)
def test_a_lowered_stamp_is_above_what_its_device_wrote_before_unless_that_is_too_far_ahead(
    own: int, lowest: int
) -> None:
    work = push(change("c", micros=SKEW + 1))
    work.lower_stamps({"now": str(NOW), "own": str(NOW + own)}, SKEW)
    assert work.adjusted == {0: {"a": at(lowest)}}
    assert settled(work, "a")[0].at == {"a": at(lowest)}


def test_a_stamp_at_the_limit_stays() -> None:
    work = push(change("c", micros=SKEW))
    work.lower_stamps({"now": NOW, "own": 0}, SKEW)
    assert work.adjusted == {}
    assert settled(work, "a")[0].at is None


@pytest.mark.parametrize(("plain", "lowest"), [(False, 501), (True, 0)])
def test_what_was_overwritten_counts_for_devices_of_ours(plain: bool, lowest: int) -> None:
    fields = {"a": {"value": 1, "at": at(2 * SKEW), "base": at(500)}}
    work = push(change("c", fields=fields), plain=plain)
    work.lower_stamps({"now": NOW, "own": 0}, SKEW)
    assert work.adjusted == {0: {"a": at(lowest)}}


def test_what_was_refused_is_not_lowered_and_lifts_nothing() -> None:
    fields = {"a": {"value": 1, "at": at(2 * SKEW), "base": at(500)}}
    work = push(change("c", id="q", fields=fields), change("d", micros=3 * SKEW))
    work.leave_out({0}, "not_a_writer")
    work.lower_stamps({"now": NOW, "own": 0}, SKEW)
    assert work.adjusted == {1: {"a": at()}}


def test_a_stamp_that_is_another_value_s_is_raised_and_told() -> None:
    work = push(change("c", 1), change("d", 2), change("e", 3, table="u"), change("f", 4, spaceId="s2"))
    call = called(work)
    assert len(call.waves) == 2
    assert work.adjusted == {1: {"a": at(1)}}
    work.separate_stamps([(3, ["a"])])
    assert work.adjusted == {1: {"a": at(1)}, 2: {"a": at(1)}}
    assert [result.at for result in settled(work, "aada")] == [None, {"a": at(1)}, None, None]


def test_in_one_wave_nothing_is_kept_apart_unless_the_log_says_so() -> None:
    work = push(change("c", 1), change("d", 2, id="q"))
    called(work)
    assert work.adjusted == {}
    work.leave_out({0}, "not_a_writer")
    work.separate_stamps([(1, ["a"])])
    assert work.adjusted == {1: {"a": at(1)}}


def test_the_first_generation_s_stamps_are_not_raised() -> None:
    work = push(change("c", 1), change("d", 2), plain=True)
    called(work)
    work.separate_stamps([(1, ["a"])])
    assert work.adjusted == {}


def test_stamps_that_were_lowered_and_then_raised_are_told_together() -> None:
    two = {"a": {"value": 1, "at": at(2 * SKEW)}, "b": {"value": 1, "at": at(1)}}
    work = push(change("c", fields=two))
    work.lower_stamps({"now": NOW, "own": 0}, SKEW)
    assert work.adjusted == {0: {"a": at(2)}}
    work.separate_stamps([(1, ["b"])])
    assert work.adjusted == {0: {"a": at(2), "b": at(2)}}


@pytest.mark.parametrize("values", [range(1000), [i % 2 for i in range(1000)], [7] * 1000])
def test_a_thousand_writes_of_one_instant_are_dated_without_a_look_at_each_other(
    values: Sequence[int],
) -> None:
    steps = 0

    def count(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal steps
        steps += event == "line"
        return count

    work = push(*(change(f"c{i}", value) for i, value in enumerate(values)))
    sys.settrace(count)
    try:
        work.separate_stamps()
    finally:
        sys.settrace(None)
    assert steps < 200 * len(values)
