"""What seems too much to judge by its size is counted before it is refused, and nothing is left without a bound."""

from __future__ import annotations

import asyncio
import json
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from syncd.core.principal import Principal
from syncd.protocol.messages import PushBody, decode
from syncd.protocol.normalize import Limits
from syncd.protocol.pull_messages import PullRequest
from syncd.protocol.push_decision import PushDecision
from syncd.service.checks import Checks
from syncd.service.rules import Rules
from syncd.service.schema_cost import FEW_STEPS, MOST_STEPS, SchemaCost
from syncd.service.schema_places import MeetingParts
from syncd.service.table_schema import TableSchema
from syncd.store.rules import SeenRow
from tests.support.wire import edit

Json = dict[str, Any]
WIDE: Json = {"anyOf": [{"minimum": 10**6 + n} for n in range(1900)] + [{"type": "integer"}]}


def of_a(schema: Json) -> Json:
    return {"type": "object", "properties": {"a": schema}}


DATED: Json = {"properties": {"date": {"pattern": "^\\d{4}-\\d{2}-\\d{2}$"}, "note": {"type": "string"}}}
UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
KINDS: list[Json] = [
    {
        "required": ["type"],
        "properties": {"type": {"const": f"k{n}"}, "text": {"type": "string"}},
        "additionalProperties": False,
    }
    for n in range(14)
]


def closed(members: Json) -> Json:
    return {"allOf": [{"properties": {"id": {}}}], "properties": members, "unevaluatedProperties": False}


DOCUMENT = closed({"of": {"items": closed({"of": {"items": closed({"of": {"items": closed({"text": {}})}})}})}})


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"items": DATED}, [{"date": "2026-01-01", "note": "some words, of a note"}] * 800),
        ({"items": {"properties": {"id": {"pattern": UUID}}}}, [{"id": "0" * 36, "text": "some words " * 40}] * 200),
        ({"pattern": "^.{0,1000}$"}, "x" * 1_000),
        ({"pattern": UUID}, "x" * 500_000),
        ({"items": {"oneOf": KINDS}}, [{"type": "k3", "text": "a, b, c, d, e. " * 12}] * 2_500),
        (DOCUMENT, {"of": [{"of": [{"of": [{"id": "t", "text": "some words"}] * 3}] * 10}] * 50}),
        ({"items": {"minimum": 0}}, [n + 0.25 for n in range(50_000)]),
        ({"items": {"minimum": 0}}, [1_764_000_000_000_000_000 + n for n in range(20_000)]),
        ({"uniqueItems": True}, [{"id": n, "name": f"x{n}"} for n in range(5_000)]),
        ({"items": {"enum": list(range(2_000))}}, [1_999] * 50_000),
    ],
)
def test_what_seems_much_by_its_size_is_counted_before_it_is_refused(schema: Json, value: Any) -> None:
    table = TableSchema(of_a(schema))
    assert table.cost.steps({"a": value}) <= MOST_STEPS
    table.faults({"a": value})


def test_a_value_is_gone_through_once_to_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, steps_of = 0, MeetingParts.steps_of

    def noted(place: MeetingParts, value: Any) -> float:
        nonlocal asked
        asked += 1
        return steps_of(place, value)

    monkeypatch.setattr(MeetingParts, "steps_of", noted)
    cost, asked = SchemaCost(of_a({"items": DATED})), 0
    assert cost._counted({"a": [{"date": "2026-01-01", "note": "x"}] * 500}) <= MOST_STEPS
    assert asked == 2 + 3 * 500
    cost, asked = SchemaCost(of_a({"items": WIDE})), 0
    assert cost._counted({"a": [1] * 100_000}) > MOST_STEPS
    assert asked < 2_000


def test_names_of_members_and_what_is_compared_are_no_parts_of_a_schema() -> None:
    """A property named `pattern` made a table unreadable whose parts meet in too many ways."""
    names = ("pattern", "enum", "items", "$ref", "uniqueItems", "const", "dependentSchemas", "prefixItems", "format")
    named = {name: {"default": {"pattern": 1}} for name in names}
    schema: Json = {
        "properties": {"kind": {"enum": [{"pattern": [1], "enum": 7}]}, **named},
        "patternProperties": {"^enum$": {"const": {"pattern": 1}}},
        "dependentSchemas": {"pattern": {"examples": [{"enum": 3}]}},
        "oneOf": [
            {"properties": {"kind": {"const": f"k{n}"}, **{f"f{n}_{k}": {} for k in range(28)}}} for n in range(62)
        ],
    }  # fmt: skip
    table = TableSchema(schema)
    assert list(table.cost.fields) == []
    assert table.cost.others.item > 1_000
    assert table.faults({"kind": {"pattern": [1], "enum": 7}, "pattern": "x"})


def test_where_a_cost_cannot_be_known_little_is_taken_and_much_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError(0)

    monkeypatch.setattr("syncd.service.schema_cost._top", broken)
    monkeypatch.setattr("syncd.service.schema_cost.counted", broken)
    table = TableSchema(of_a({"items": {"type": "integer"}}))
    assert table.takes_alone({"a": [1, 2, 3], "b": "x"}, frozenset())
    assert [fault.field for fault in table.faults({"a": list(range(100_000))})] == ["a"]
    register = SimpleNamespace(value=b"[" + b"1," * 100_000 + b"1]")
    assert table.cost.at_most({"a": register}) > FEW_STEPS


def test_lists_of_objects_are_tried_before_a_schema_is_in_force() -> None:
    of_many = {"properties": {f"n{n}": {"pattern": "a[ab]{9}c"} for n in range(9)}}
    assert [name for name, _ in SchemaCost(of_a({"items": of_many})).narrow()] == ["a"]
    assert SchemaCost(of_a({"items": DATED})).narrow() == []


def test_a_refusal_names_the_bound_of_what_is_refused() -> None:
    table = TableSchema({"properties": {"a": {"pattern": "a[ab]{400}c"}, "b": {"items": {"pattern": "a[ab]{400}c"}}}})
    [text] = table.faults({"a": "ab" * 32_000})
    assert text.say().endswith("steps at most: texts of 2,487 characters")
    [items] = table.faults({"b": ["ab" * 32_000]})
    assert "steps at most: lists of " in items.say()
    assert "texts" not in items.say()


def test_a_record_counts_for_each_change_that_judges_it() -> None:
    """Small changes of one large record were judged on the loop, all of them in one piece."""
    table = TableSchema({**of_a({"items": {}}), "minProperties": 1})
    record, threads = {f"f{n}": [{"k": n}] * 40 for n in range(50)}, set[bool]()

    class Threads:
        def is_valid(self, piece: Json, of: Any = table._whole) -> bool:
            threads.add(threading.current_thread() is threading.main_thread())
            return bool(of.is_valid(piece))

    class OneRecord:
        async def seen(self, caller: Any, app: Any, keys: Any) -> list[SeenRow]:
            return [SeenRow("owner", key[0], json.dumps(record), False, False) for key in keys]

    for changes, beside in ((1, False), (100, True)):
        threads.clear()
        table._whole = Threads()
        body = json.dumps({"changes": [edit("r", a=[n]) for n in range(changes)]})
        message = decode(body.encode(), PushBody)
        work = PushDecision(Principal("ada"), "c1", PullRequest("app", plain=False), message, Limits())
        current: Any = SimpleNamespace(current={("app", "t"): table}, unread={})
        asyncio.run(Checks(current, Rules([]), OneRecord())(work))  # type: ignore[arg-type]
        assert threads == {not beside}
        assert len(work.left) == changes
