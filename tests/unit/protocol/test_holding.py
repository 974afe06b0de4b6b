"""What a push of the first generation cannot write: what is kept of it, by which name, and what a pull asks for."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from syncd.protocol.first_generation import LegacyStamps, push_body
from syncd.protocol.holding import UNKNOWN, Holding, Sent
from syncd.protocol.normalize import Limits, normalize_change
from syncd.protocol.pull_messages import PAGE_BYTES, PullRequest

AT = "2026-01-01T10:00:00.000000Z"


def change(**members: Any) -> dict[str, Any]:
    return {"table": "t", "id": "r", "op": "insert", "data": {"n": 1}, **members}


def held(*changes: dict[str, Any], user: str = "ann", space: str = "s", version: int | None = None) -> Any:
    """What the log is told of a push, all of whose changes are refused."""
    body = json.dumps({"changes": changes}).encode()
    holding = Holding(Sent(body, version, Limits()), user)
    for place, one in enumerate(push_body(body).changes):
        normalized = normalize_change(one, place + 1, "phone", LegacyStamps(), Limits())
        holding.refuse(place, "not_a_writer", one, normalized, space)
    return holding.head()["put"]


def test_what_is_held_is_the_change_as_it_came_with_its_place() -> None:
    (row,) = held(change(changeId="c"))
    assert {name: row[name] for name in "wstr"} == {"w": "not_a_writer", "s": "s", "t": "t", "r": "r"}
    assert json.loads(row["d"]) == change(changeId="c")
    assert row["k"].startswith("\x01")


def test_a_change_carries_the_schema_version_of_its_push_where_it_has_none() -> None:
    rows = held(change(changeId="c"), change(changeId="d", schemaVersion=2), version=7)
    assert [json.loads(row["d"]) for row in rows] == [
        change(changeId="c", schemaVersion=7), change(changeId="d", schemaVersion=2),
    ]  # fmt: skip


def test_a_change_that_comes_again_is_held_once() -> None:
    named, dated, unknown = change(changeId="c"), change(data={"n": 1, "updatedAt": AT}), change()
    for one in (named, dated):
        rows = held(one, one)
        assert rows == held(one)
        assert len(rows) == 1
    rows = held(unknown, unknown, unknown)
    assert rows == held(unknown, unknown, unknown), "of a push that is sent again each has its name"
    assert len({row["k"] for row in rows}) == 3, "in one push each is a change of its own"
    assert all(row["k"].startswith(UNKNOWN) for row in rows)
    assert not {row["k"] for row in held(change(data={"n": 2}))} & {row["k"] for row in rows}


@pytest.mark.parametrize(("space", "kept"), [
    ("s", "s"), ("a\n", None), ("x" * 256, None), ("_personal:" + "u" * 250, "_personal:" + "u" * 250),
])  # fmt: skip
def test_the_space_is_kept_where_it_can_be_one_and_the_own_one_always(space: str, kept: str | None) -> None:
    assert [row["s"] for row in held(change(), user="u" * 250, space=space)] == [kept]


def test_a_space_that_nobody_has_heard_of_is_made_once_and_where_it_may_be() -> None:
    bounds = {"hour": 5}
    holding = Holding(
        Sent(b"", None, Limits(make_spaces=True, space_bounds=bounds, held_changes=3, held_bytes=9)), "ann"
    )
    assert holding.head() == {"most": [3, 9]}
    spaces = ["s", "s", "_personal:bob", "a\n", "q"]
    assert [holding.make(space) for space in spaces] == [True, False, False, False, True]
    assert holding.head() == {"most": [3, 9], "own": ["q", "s"], "bounds": bounds}
    closed = Holding(Sent(b"", None, Limits(make_spaces=False)), "ann")
    assert not closed.make("s")
    assert "own" not in closed.head()


def test_changes_of_exactly_the_largest_size_are_no_larger() -> None:
    raws = [json.dumps(change(data={"n": "x" * n})).encode() for n in (10, 11, 12)]
    body = b'{"changes":[%b]}' % b",".join(raws)
    most = len(raws[1])
    assert Sent(body, None, Limits(max_change=most)).too_large == {2}
    assert Sent(body, None, Limits(max_change=len(body))).too_large == set()
    sent = Sent(body, None, Limits())
    sent.let_go()
    assert (sent.raws, sent.unstorable) == (raws, set())
    sent.let_go()
    assert sent.raws == []


def test_only_the_change_with_text_that_no_store_can_hold_is_named() -> None:
    body = json.dumps({"changes": [change(), change(data={"n": "a\0"}), change(id="\ud800")]}).encode()
    assert Sent(body, None, Limits()).unstorable == {1, 2}


def test_a_pull_tells_the_log_what_is_asked_and_nothing_that_goes_without_saying() -> None:
    page = {"limit": 1000, "bytes": PAGE_BYTES}
    assert PullRequest("app").how() == page | {"legacy": True}
    asked = PullRequest("app", tables=("a", "b"), limit=5, history=True, plain=False, bytes=9)
    assert asked.how() == {"limit": 5, "bytes": 9, "tables": ("a", "b"), "history": True}
    assert msgspec.json.decode(msgspec.json.encode(asked.how()))["tables"] == ["a", "b"]
