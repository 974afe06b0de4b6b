"""Indexes on fields: made, used, said and removed. What is answered by them is in test_queries.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from syncd_client import AsyncReplica, InvalidQuery, QueryPlan, Replica, or_
from syncd_client.store.indexes import held

Open = Callable[..., Replica]
INDEXES: dict[str, Any] = {"tasks": ["owner", ("done", "due"), "it's"], "'; DROP TABLE records; --": ["n"]}


def plan(replica: Replica, *asked: Any, **more: Any) -> tuple[tuple[str, ...] | None, bool, bool]:
    found: QueryPlan = replica.explain("tasks", *asked, **more)
    assert found.steps
    return found.index, found.sorted, found.decided


def test_a_query_is_answered_by_the_index_that_fits(open_replica: Open) -> None:
    replica = open_replica(indexes=INDEXES)
    assert plan(replica, {"owner": "ann"}) == (("owner",), True, True)
    assert plan(replica, {"owner": "ann"}, order="due") == (("owner",), False, True)
    assert plan(replica, {"owner": None}) == (("owner",), True, True)
    assert plan(replica, {"owner": "ann", "title": {"contains": "x"}}) == (("owner",), True, False)
    assert plan(replica, {"owner": {"between": ["a", "b"]}}) == (("owner",), False, True)
    assert plan(replica, {"done": False, "due": (">=", 5)}, order="due") == (("done", "due"), True, True)
    assert plan(replica, {"done": False}, order="-due") == (("done", "due"), True, True)
    assert plan(replica, order="owner") == (("owner",), True, True)
    assert plan(replica, {"it's": 1}, space="s") == (("it's",), True, True)
    assert plan(replica, {"title": "x"}) == (None, True, True)
    assert plan(replica, {"title": "x"}, order="title") == (None, False, True)
    assert plan(replica, or_({"title": "x"}, {"due": 1}), order="place.city") == (None, False, False)
    assert replica.explain("others", {"owner": "ann"}).index is None
    assert replica.explain("'; DROP TABLE records; --", {"n": 1}).index == ("n",)


def test_it_follows_what_is_written(open_replica: Open) -> None:
    replica = open_replica(indexes=INDEXES)
    for n in range(30):
        replica.put("tasks", f"t{n}", {"owner": f"u{n % 3}", "due": n, "it's": n})
    replica.patch("tasks", "t3", {"owner": "u1"})
    replica.delete("tasks", "t1")
    found = replica.query("tasks", {"owner": "u1"}, order="-due", limit=3)
    assert [record.id for record in found] == ["t28", "t25", "t22"]
    assert [record.id for record in replica.query("tasks", {"it's": 3})] == ["t3"]
    replica.undo()
    assert [record.id for record in replica.query("tasks", {"owner": "u1", "due": ("<", 5)})] == ["t1", "t3", "t4"]


def test_those_that_are_not_declared_any_more_are_removed(open_replica: Open) -> None:
    replica = open_replica(indexes=INDEXES)
    replica.close()
    replica = open_replica()
    assert plan(replica, {"owner": "ann"})[0] == ("owner",), "who declares none leaves them"
    replica.close()
    replica = open_replica(indexes={"tasks": ["due"]})
    assert (plan(replica, {"owner": "ann"})[0], plan(replica, {"due": 1})[0]) == (None, ("due",))
    replica.close()
    replica = open_replica(indexes={})
    with replica.store.read() as db:
        assert held(db) == {}
    assert plan(replica, {"due": 1})[0] is None


@pytest.mark.parametrize("indexes", [
    {"tasks": ["a.b"]}, {"tasks": ['a"']}, {"tasks": [""]}, {"tasks": [()]}, {"": ["a"]}, {"tasks": [("a", "..")]},
])  # fmt: skip
def test_what_can_be_no_index_is_refused_and_nothing_changes(open_replica: Open, tmp_path: Path, indexes: Any) -> None:
    open_replica(indexes={"tasks": ["due"]}).close()
    with pytest.raises(InvalidQuery):
        Replica(tmp_path / "replica.db", app="app", indexes=indexes)
    assert plan(open_replica(), {"due": 1})[0] == ("due",)


async def test_an_async_replica_has_them_too(tmp_path: Path) -> None:
    async with AsyncReplica(tmp_path / "replica.db", app="app", indexes=INDEXES) as replica:
        await replica.put("tasks", "t", {"owner": "ann"})
        assert (await replica.explain("tasks", {"owner": "ann"})).index == ("owner",)
        assert [record.id for record in await replica.query("tasks", {"owner": "ann"})] == ["t"]
