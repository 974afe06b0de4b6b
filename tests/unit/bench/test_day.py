"""The mixed day: which step holds, whose turn it is, and what the page says."""

from __future__ import annotations

from collections import Counter, deque
from pathlib import Path

import pytest

from bench import page
from bench.day import KINDS, SHARES, Crowd, Step, model
from bench.figures import Results
from bench.machine import NOBODY


def step(**other: float) -> Step:
    usual = {"rate": 100.0, "seconds": 2.0, "answered": 200, "refused": 0, "not_sent": 0, "p50": 2.0, "p99": 9.0}
    return Step(**{**usual, "by_kind": [1.0, 2.0, 3.0], "cpu": 0.5, "late": 1.0, **other})  # type: ignore[arg-type]


def test_a_step_holds_where_nothing_is_late_refused_or_left() -> None:
    assert step().held
    assert not any(step(**{name: 101}).held for name in ("p99", "refused", "not_sent"))


def test_each_kind_has_its_share() -> None:
    crowd, turns = Crowd(NOBODY), list[int]()

    class Asked:
        def __init__(self, kind: int) -> None:
            self.kind = kind

        def ask(self) -> None:
            turns.append(self.kind)

    crowd._free = [deque([Asked(kind)] * 1000) for kind in range(len(KINDS))]  # type: ignore[list-item]
    assert all(crowd._send(SHARES) for _ in range(1000))
    assert [Counter(turns)[kind] for kind in range(len(KINDS))] == [800, 150, 50]
    assert max(Counter(turns[at : at + 20])[2] for at in range(0, 1000, 20)) <= 2, "not one after the other"


COSTS = {"idle pull": 100.0, "push of one change": 200.0, "first sync": 5000.0}
CURVE = {"best": step()._asdict(), "cores": 1.25, "bytes_a_change": 600.0, "costs": COSTS}


def test_the_page_has_what_each_costs_and_what_a_core_carries() -> None:
    said = model(CURVE)
    assert "held **100 requests a second**" in said
    assert "| first sync | 5% | 5,000 µs | 200 |" in said
    assert "| the mixed day | 100% | 360 µs | 2,778 |" in said


@pytest.mark.parametrize("curves", [{}, {"day": CURVE}])
def test_it_is_written_between_the_marks(tmp_path: Path, curves: dict[str, object]) -> None:
    paths = tmp_path / "figures.md", tmp_path / "scaling.md"
    for path in paths:
        path.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    page.write(Results(made="2026-11-29T00:00:00Z", machine={"processors": 2}, curves=curves), *paths)
    text = paths[1].read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert ("old" in text) == (not curves)
