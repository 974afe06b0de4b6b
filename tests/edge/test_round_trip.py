"""G15 by fuzzing: a value comes back with its meaning unchanged, or the push is refused; and nothing is ever a 5xx."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.drawn import drawn, examples
from tests.support.wire import Device, edit, unique

Make = Callable[..., Device]
texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)
numbers = (
    st.integers()
    | st.integers(-(10**300), 10**300)
    | st.sampled_from(
        [2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**18 + 1, 0.1, 5e-324, 1.7976931348623157e308, -0.0, 1e16, 1e22]
    )
    | st.floats(allow_nan=False, allow_infinity=False)
)
scalars = st.none() | st.booleans() | numbers | texts
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=10
)
anything = st.recursive(
    scalars | st.text(max_size=5) | st.sampled_from([float("inf"), float("nan"), "\ud800", "2026-01-01T00:00:00Z"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def exact(text: str) -> Any:
    """JSON as it is meant: numbers by their digits, not by what a double makes of them."""
    return json.loads(text, parse_float=lambda t: Decimal(t).normalize(), parse_int=lambda t: Decimal(t))


@drawn
@settings(max_examples=examples(60))
@given(st.lists(documents, min_size=1, max_size=6), st.booleans())
def test_values_come_back_with_their_meaning(device: Make, values: list[Any], ascii_only: bool) -> None:
    writer = device(unique("faithful"))
    changes = [{**edit(f"r{i}", v=None), "actor": value} for i, value in enumerate(values)]
    for change, value in zip(changes, values, strict=True):
        change["fields"]["v"]["value"] = value
    text = json.dumps({"changes": changes}, ensure_ascii=ascii_only)
    answer = writer.request("POST", "/sync/app", content=text.encode(), headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    for query, member in ((writer.ask(), "data"), (writer.ask(history=1), "actor")):
        received = {c["id"]: c for c in exact(query.text)["serverChanges"]}
        for i, value in enumerate(values):
            sent = exact(json.dumps(value))
            assert received[f"r{i}"]["fields"]["v"]["value"] == sent
            if member == "actor":
                assert received[f"r{i}"]["actor"] == sent
    again = writer.request("POST", "/sync/app", content=text.encode(), headers={"content-type": "application/json"})
    assert {r["status"] for r in again.json()["results"]} == {"duplicate"}


@drawn
@settings(max_examples=examples(25))
@given(st.lists(st.tuples(documents, st.booleans()), min_size=1, max_size=4))
def test_a_legacy_change_of_any_value_is_recognised(device: Make, values: list[tuple[Any, bool]]) -> None:
    writer = device(unique("legacy"))
    changes = [
        {"table": "t", "id": f"r{i}", "op": "insert", "data": {"v": value, "updatedAt": "2026-01-01T00:00:00Z"}}
        if whole
        else edit(f"r{i}", change_id=None, v=value)
        for i, (value, whole) in enumerate(values)
    ]
    first, second = (writer.push(*changes)["results"] for _ in range(2))
    assert [r["status"] for r in first] == ["applied"] * len(values)
    assert [(r["status"], r["seq"], r["eventId"]) for r in second] == [
        ("duplicate", r["seq"], r["eventId"]) for r in first
    ]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in inner for place in places(child, (*path, key)))]


BODY = {
    "clientId": "c1",
    "since": "",
    "atomic": False,
    "pull": True,
    "schemaVersion": 1,
    "changes": [
        {
            "changeId": "k1",
            "table": "t",
            "id": "a",
            "op": "insert",
            "data": {"x": 1, "updatedAt": "2026-01-01T00:00:00Z"},
            "origin": "user",
        },
        {
            "changeId": "k2",
            "table": "t",
            "id": "a",
            "op": "update",
            "fields": {"x": {"value": [1], "at": "2026-01-01T00:00:01Z"}},
            "actor": {},
        },
        {
            "table": "t",
            "id": "b",
            "op": "delete",
            "deletedAt": "2026-01-01T00:00:02Z",
            "spaceId": "nowhere",
            "schemaVersion": 1,
        },
    ],
}


@drawn
@settings(max_examples=examples(120))
@given(st.data())
def test_a_mutated_push_is_never_a_5xx(device: Make, data: st.DataObject) -> None:
    body: Any = copy.deepcopy(BODY)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(body)))
        new = data.draw(anything)
        if not path:
            body = new
            break
        holder = body
        for key in path[:-1]:
            holder = holder[key]
        match data.draw(st.sampled_from(["put", "remove", "add"])):
            case "remove":
                del holder[path[-1]]
            case "add" if isinstance(holder, dict):
                holder[data.draw(st.text(max_size=4))] = new
            case _:
                holder[path[-1]] = new
    sent = json.dumps(body).encode()
    writer = device("fuzz", app="fuzz")
    before = writer.pull(history=1, limit=10_000)["serverChanges"]
    answer = writer.request("POST", "/sync/fuzz", content=sent, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400, 413, 422), (answer.status_code, answer.text, sent)
    if answer.status_code == 200:
        assert len(answer.json()["results"]) == len(body.get("changes", [])) if isinstance(body, dict) else True
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] in (
            "malformed_json",
            "invalid_request",
            "invalid_change",
            "invalid_value",
            "empty_change",
            "bad_cursor",
            "atomic_rejected",
            "too_many_changes",
        )
        assert writer.pull(history=1, limit=10_000)["serverChanges"] == before


@drawn
@settings(max_examples=examples(60))
@given(st.data())
def test_a_push_with_a_mutated_byte_is_never_a_5xx(device: Make, data: st.DataObject) -> None:
    body = bytearray(json.dumps(BODY).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    writer = device("fuzz", app="bytes")
    answer = writer.request("POST", "/sync/bytes", content=bytes(body), headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400, 413, 422), (answer.status_code, answer.text, bytes(body))
