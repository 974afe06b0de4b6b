"""Queries, what is counted of them and what they include: the cases of tests/vectors/queries.json."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from syncd_client import (
    EVERY_SPACE,
    AsyncReplica,
    InvalidQuery,
    Record,
    Replica,
    aggregate,
    and_,
    group_by,
    include,
    not_,
    or_,
)
from syncd_client.data.order import same
from syncd_client.data.values import parse

from tests.support.vectors import vectors

VECTORS = vectors("queries")
Open = Callable[..., Replica]


def named(part: str) -> Any:
    cases = VECTORS[part]
    return pytest.mark.parametrize("case", cases, ids=[case.get("name", str(case)) for case in cases])


INDEXES = {"kinds": ["x", "n", ("x", "n")], "tasks": ["owner", ("done", "priority"), "priority", "title", "deletedAt"]}


@pytest.fixture(scope="module", params=[None, INDEXES], ids=["without indexes", "with indexes"])
def filled(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Any:
    path = tmp_path_factory.mktemp("queries") / "replica.db"
    with Replica(path, app="app", durability="normal", indexes=request.param) as replica:
        for record in VECTORS["records"]:
            place = {"space": record.get("space")}
            replica.put(record["table"], record["id"], record["fields"], **place)
            if record.get("deleted"):
                replica.delete(record["table"], record["id"], **place)
        yield replica


def condition(where: Any) -> Any:
    """A list that begins with a word is what that word makes of the rest."""
    if isinstance(where, list) and where and isinstance(where[0], str):
        return {"and": and_, "or": or_, "not": not_}[where[0]](*map(condition, where[1:]))
    return [tuple(triple) for triple in where] if isinstance(where, list) else where


def ask(replica: Replica, asked: Any) -> list[Record]:
    space = EVERY_SPACE if asked.get("space") == "*" else asked.get("space")
    more = {name: asked[name] for name in ("order", "limit", "offset", "deleted") if name in asked}
    if "after" in asked:
        own = None if space == EVERY_SPACE else space
        table, id = asked["after"] if isinstance(asked["after"], list) else (asked["table"], asked["after"])
        more["after"] = replica.get(table, id, space=own, deleted=True)
    return replica.query(asked["table"], condition(asked.get("where", [])), space=space, **more)


@named("queries")
def test_it_answers(filled: Replica, case: Any) -> None:
    assert [record.id for record in ask(filled, case)] == case["expect"]


def repeated(parts: list[Any]) -> str:
    """Texts, each followed by how often it stands there."""
    return "".join(text * int(times) for text, times in zip(parts[::2], parts[1::2], strict=True))


@named("patterns")
def test_a_text_is_of_a_pattern_in_time(case: Any) -> None:
    where = and_({"x": {"like": repeated(case["like"])}})
    started = time.process_time()
    assert where.holds({"x": repeated(case["text"])}) is case["holds"]
    assert time.process_time() - started < 2


@named("refused")
def test_what_is_no_query_is_refused(filled: Replica, case: Any) -> None:
    with pytest.raises(InvalidQuery):
        ask(filled, {"table": "tasks", **case})


@named("aggregates")
def test_it_comes_to(filled: Replica, case: Any) -> None:
    records = ask(filled, case["query"])
    by = case.get("by")
    found = aggregate(records, case["measures"]) if by is None else group_by(records, by, case["measures"])
    assert same(found, parse(json.dumps(case["expect"]))), found


@named("refusedAggregates")
def test_what_is_no_measure_is_refused(case: Any) -> None:
    with pytest.raises(InvalidQuery):
        group_by([], case["by"], case["measures"]) if "by" in case else aggregate([], case["measures"])


def included(related: Any) -> Any:
    match related:
        case None:
            return None
        case Record():
            return related.id
        case _:
            return [record.id for record in related]


@named("includes")
def test_it_includes(filled: Replica, case: Any) -> None:
    related = {
        name: {**how, **{word: ask(filled, how[word]) for word in ("one", "many") if word in how}}
        for name, how in case["related"].items()
    }
    records = include(ask(filled, case["query"]), related)
    found = [{"id": one.id, **{name: included(it) for name, it in one.included.items()}} for one in records]
    assert found == case["expect"]
    assert [dict(one) for one in records] == [dict(one) for one in ask(filled, case["query"])]


@pytest.mark.parametrize("how", [
    {}, {"one": []}, {"by": "x"}, {"one": 1, "by": "x"}, {"one": [], "many": [], "by": "x"}, {"many": [{}], "by": "x"},
    {"many": [], "by": 1}, {"many": [], "by": "x", "limit": -1}, {"many": [], "by": "x", "order": "x"}, 1,
    {"many": [], "by": "x", "limit": 1.5}, {"many": [], "by": "x", "limit": True},
])  # fmt: skip
def test_what_is_related_to_nothing_is_refused(how: Any) -> None:
    with pytest.raises(InvalidQuery):
        include([], {"name": how})


@pytest.mark.parametrize("order", ["x", "-x", ["x", "-n"], ["-x", "n"], "n", "-missing", "x.k", "-x.k", 'x"'])
@pytest.mark.parametrize("where", [(), {"n": (">=", 5)}, {"x": ("!=", None)}])
def test_pages_make_up_the_whole(filled: Replica, order: Any, where: Any) -> None:
    whole = filled.query("kinds", where, order=order)
    for limit in (1, 4, 30):
        found: list[Record] = []
        while page := filled.query("kinds", where, order=order, limit=limit, after=found[-1] if found else None):
            found += page
        assert [record.id for record in found] == [record.id for record in whole]


def test_there_may_be_many_conditions(filled: Replica) -> None:
    some = filled.query("kinds", or_(*({"n": n} for n in range(3000))))
    assert [record["n"] for record in some] == list(range(31))
    assert [record["n"] for record in filled.query("kinds", [("n", "!=", n) for n in range(5, 3000)])] == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert [record["n"] for record in filled.query("kinds", [("n", ">=", n - 3000) for n in range(3004)])] == list(
        range(3, 31)
    )


def nested(times: int, make: Callable[..., Any]) -> Any:
    where: Any = {"n": 3}
    for _ in range(times):
        where = make(where)
    return where


WAYS: dict[str, Callable[..., Any]] = {
    "not": not_,
    "or": or_,
    "and": lambda part: and_(part, {"n": 3}),
    "or of and": lambda part: and_(or_(part, {"n": 4}), {"n": {"<": 4}}),
    "not of or": lambda part: not_(or_(not_(part), {"n": 4})),
}


@pytest.mark.parametrize("make", WAYS.values(), ids=list(WAYS))
def test_conditions_may_be_nested(filled: Replica, make: Callable[..., Any]) -> None:
    for times in (2, 4, 8, 9, 10, 30):
        wanted = [3] if make is not not_ or times % 2 == 0 else [n for n in range(31) if n != 3]
        assert [record["n"] for record in filled.query("kinds", nested(times, make))] == wanted


@pytest.mark.parametrize("make", [not_, or_, and_])
def test_but_not_without_end(filled: Replica, make: Callable[..., Any]) -> None:
    assert filled.query("kinds", nested(100, make))
    for times in (101, 2000):
        with pytest.raises(InvalidQuery):
            nested(times, make)


def test_conditions_side_by_side_in_one_another(filled: Replica) -> None:
    where = and_(
        *(or_(*(and_(*({"n": {"between": [k, k + 1]}} for k in range(90))) for _ in range(90))) for _ in range(3))
    )
    assert filled.query("kinds", where) == []


@pytest.mark.parametrize("where", [None, 5, b"", {1}, [5], ["abc"], [None], [{"n": 1}], [("n", "=")], [[1, "=", 1]]])
def test_what_is_no_condition_is_refused(filled: Replica, where: Any) -> None:
    with pytest.raises(InvalidQuery):
        filled.query("kinds", where)


def test_an_order_has_so_many_terms(filled: Replica) -> None:
    assert len(filled.query("kinds", order=["n"] * 64)) == 31
    with pytest.raises(InvalidQuery):
        filled.query("kinds", order=["n"] * 65)


def test_a_page_begins_behind_a_record_of_its_table(filled: Replica) -> None:
    for after in ("k01", {"id": "k01"}, filled.get("tasks", "t1")):
        with pytest.raises(InvalidQuery):
            filled.query("kinds", after=after)


def test_what_a_query_was_given_may_change_afterwards() -> None:
    tags = ["a"]
    where = or_({"tags": ("in", [tags])})
    tags.append("b")
    assert where.holds({"tags": ["a"]})
    assert not where.holds({"tags": ["a", "b"]})


async def test_an_async_replica_pages_too(tmp_path: Path) -> None:
    async with AsyncReplica(tmp_path / "replica.db", app="app") as replica:
        north = replica.in_("north")
        for n in range(3):
            await north.put("t", f"{n}", {"n": n})
        (first,) = await north.query("t", not_({"n": 0}), order="n", limit=1)
        assert [record["n"] for record in await north.query("t", order="n", after=first)] == [2]
        assert await replica.query("t") == []
