"""G5, G19: one engine of the first generation pushes with the least of its collections' cursors, as text, and takes the
answer's for all of them. Whatever it has for cursors, and whenever it pushes, it comes to hold all there is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from tests.support.legacy_devices import FIRST, TextEngine
from tests.support.wire import Device, Json, ahead, edit, unique

Make = Callable[..., Device]
TABLES = ("s", "t", "u")


def of(table: str, record: str) -> Json:
    return {**edit(record, 1, n=1), "table": table}


@pytest.fixture
def engine(device: Make) -> TextEngine:
    made = TextEngine(device(unique("ann"), "old", legacy=True))
    made.tables = TABLES
    return made


@pytest.fixture
def other(device: Make, engine: TextEngine) -> Device:
    return device(engine.wire.user, "other")


def pull_all(engine: TextEngine, table: str) -> None:
    """All pages of a collection, as that engine pulls when nothing comes between."""
    for _ in range(100):
        before = engine.cursors.get(table)
        engine.pull(table)
        if engine.cursors[table] == before:
            return
    raise AssertionError("pages without end")


def held(engine: TextEngine) -> dict[str, set[str]]:
    return {table: set(engine.records.get(table, {})) for table in TABLES}


def test_a_push_between_two_pages_leaves_nothing_out(engine: TextEngine, other: Device) -> None:
    """The small collection is whole, of the large one a page is there: the push must not say that all is."""
    for n in range(30):
        other.write(of("t", f"t{n}"))
    other.write(of("s", "s0"))
    engine.tables, engine.page = ("s", "t"), {"limit": 1}
    pull_all(engine, "s")
    engine.pull("t")
    engine.insert("s", "mine", n=2)
    engine.push("s")
    for table in TABLES:
        pull_all(engine, table)
    assert held(engine) == {"s": {"s0", "mine"}, "t": {f"t{n}" for n in range(30)}, "u": set()}


def test_in_any_order_of_pulls_and_pushes(engine: TextEngine, other: Device) -> None:
    """With pages that are cut, from the first pull on and after it was up to date."""
    numbers, engine.page = count(), {"limit": 1}
    for round_, order in enumerate(("stu", "tsu", "sst", "uts", "ttt", "sus", "")):
        for _ in range(14):
            n = next(numbers)
            other.write(of(TABLES[n % 3], f"r{n}"))
        for place, table in enumerate(order):
            engine.pull(table)
            if place == round_ % 3:
                engine.insert("u", f"own{round_}", n=1)
                engine.push("u")
    for table in TABLES:
        pull_all(engine, table)
    own, wrote = {f"own{n}" for n in range(6)}, range(next(numbers))
    made = {table: {f"r{n}" for n in wrote if TABLES[n % 3] == table} for table in TABLES}
    assert held(engine) == {**made, "u": made["u"] | own}


def test_a_cursor_of_a_page_that_was_cut_is_less_than_any_other_and_more_than_the_one_before(
    engine: TextEngine, other: Device
) -> None:
    """So it is what is pushed with; and who keeps the greatest of a collection comes to keep it."""
    old = engine.wire
    finished = old.drain(FIRST, collection="s")[1]
    for n in range(30):
        other.write(of("t", f"t{n}"))
    newer = old.drain(FIRST, collection="s")[1]
    for first in (FIRST, finished, "2020-01-01T00:00:00.000Z"):
        cursors = [first]
        while (page := old.pull(cursors[-1], collection="t", limit=1))["hasMore"]:
            cursors.append(page["syncedUntil"])
        assert len(cursors) > 1
        assert cursors == sorted(set(cursors))
        assert all(cursor < newer for cursor in cursors[1:])
        assert page["syncedUntil"] > newer


@pytest.mark.parametrize("since", [ahead(120), "2999-01-01T00:00:00.000Z", "garbage"], ids=["120s", "2999", "garbage"])
def test_an_instant_ahead_of_the_clock_is_the_beginning(engine: TextEngine, other: Device, since: str) -> None:
    """Nobody has seen what is still to come, nor is it known what such a device has of its other collections."""
    for table in TABLES:
        other.write(of(table, f"{table}0"))
    engine.cursors = dict.fromkeys(TABLES, since)
    engine.pull("s")
    assert engine.cursors["s"][:27] < ahead(0)
    other.write(of("t", "t1"))
    engine.pull("s")
    engine.insert("s", "mine", n=1)
    engine.push("s")
    for table in TABLES:
        engine.pull(table)
    assert held(engine) == {"s": {"s0", "mine"}, "t": {"t0", "t1"}, "u": {"u0"}}
    engine.wire.drain(engine.cursors["s"])
    assert engine.wire.pull(engine.cursors["t"])["serverChanges"] == []


@pytest.mark.parametrize("since", [ahead(120), "2999-01-01T00:00:00.000Z"], ids=["120s", "2999"])
def test_a_push_with_one_is_answered_from_the_beginning(engine: TextEngine, other: Device, since: str) -> None:
    other.write(of("t", "t0"))
    answer = engine.wire.push({**of("s", "mine"), "changeId": None}, since=since, pull=True)
    assert {change["id"] for change in answer["serverChanges"]} >= {"t0"}
    assert answer["syncedUntil"][:27] < ahead(1)
    assert engine.wire.pull(answer["syncedUntil"])["serverChanges"] == []
