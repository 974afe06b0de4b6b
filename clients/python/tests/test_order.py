"""Ordered lists: the cases of tests/vectors/order.json, as TypeScript has them, and lists of many."""

from __future__ import annotations

from typing import Any

import pytest
from syncd_client import InvalidWrite
from syncd_client.data.record import Record
from syncd_client.order import between, in_order, is_rank, place, ranks_between

from tests.support.vectors import vectors

CASES = vectors("order")


def put(ranks: list[Any], index: int) -> list[Any]:
    """The ranks after something was put at `index`, itself included."""
    placed = place(ranks, index)
    after = [placed.moved.get(at, held) for at, held in enumerate(ranks)]
    return [*after[:index], placed.rank, *after[index:]]


def record(id: str, rank: Any, space: str = "") -> Record:
    return Record("cards", space, id, {"rank": rank})


@pytest.mark.parametrize("case", CASES["isRank"], ids=lambda case: ascii(case["value"]))
def test_what_is_a_rank(case: Any) -> None:
    assert is_rank(case["value"]) is case["holds"]


@pytest.mark.parametrize("case", CASES["between"], ids=lambda case: f"{case['low']}-{case['high']}")
def test_between(case: Any) -> None:
    assert between(case["low"], case["high"]) == case["expect"]


@pytest.mark.parametrize("case", CASES["refused"], ids=ascii)
def test_there_is_nothing_between(case: Any) -> None:
    with pytest.raises(InvalidWrite):
        between(case["low"], case["high"])


@pytest.mark.parametrize(
    "case", CASES["ranksBetween"], ids=lambda case: f"{case['low']}-{case['high']}-{case['count']}"
)
def test_several_between(case: Any) -> None:
    assert ranks_between(case["low"], case["high"], case["count"]) == case["expect"]


@pytest.mark.parametrize("case", CASES["place"], ids=lambda case: case["name"])
def test_a_place(case: Any) -> None:
    placed = place(case["ranks"], case["index"])
    assert (placed.rank, {str(at): rank for at, rank in placed.moved.items()}) == (case["rank"], case["moved"])


@pytest.mark.parametrize("case", CASES["inOrder"], ids=lambda case: case["name"])
def test_in_order(case: Any) -> None:
    records = [record(one["id"], one.get("rank"), one.get("space", "")) for one in case["records"]]
    found = in_order(records, lambda one: one["rank"])
    assert [f"{one.id} {one.space}" if one.space else one.id for one in found] == case["expect"]


def test_a_list_has_room_wherever_something_is_put() -> None:
    ranks: list[Any] = []
    for step in range(400):
        ranks = put(ranks, step * 7919 % (len(ranks) + 1))
    assert all(map(is_rank, ranks))
    assert ranks == sorted(set(ranks))


@pytest.mark.parametrize("index", range(9))
def test_what_was_put_somewhere_is_shown_there_also_among_equal_ranks_and_those_that_have_none(index: int) -> None:
    after = [
        record(f"{at:02}", rank) for at, rank in enumerate(put(["a0", "a1", "a1", "a1", "a2", None, "!", 7], index))
    ]
    assert in_order(after, lambda one: one["rank"]) == after


def test_a_rank_that_another_device_made_very_long_holds_nobody_up() -> None:
    long = f"a0{'z' * 100_000}1"
    rank = between(long, "a1")
    assert is_rank(rank)
    assert long < rank < "a1"
