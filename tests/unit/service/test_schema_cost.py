"""What judging a value may cost is known before it is begun: a schema is the operator's, a value anybody's."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from syncd.core.clock import EPOCH
from syncd.core.principal import Principal
from syncd.protocol.messages import PushBody, decode
from syncd.protocol.normalize import Limits
from syncd.protocol.pull_messages import PullRequest
from syncd.protocol.push_decision import PushDecision
from syncd.service import schema_limits
from syncd.service.checks import Checks
from syncd.service.proposed import ProposedChange
from syncd.service.rules import Rules
from syncd.service.schema_checks import new_faults
from syncd.service.schema_cost import FEW_STEPS, MOST_STEPS, SchemaCost
from syncd.service.schema_patterns import states_of
from syncd.service.table_schema import TableSchema
from syncd.store.rules import Seen
from tests.support.wire import edit

Json = dict[str, Any]
# Each takes the value at its end: all parts are asked about each item.
WIDE: Json = {"anyOf": [{"minimum": 10**6 + n} for n in range(1900)] + [{"type": "integer"}]}
HUNDRED: Json = {"anyOf": [{"minimum": 10**6 + n} for n in range(100)] + [{"type": "integer"}]}
MIXED: Json = {"enum": [n if n % 2 else f"x{n}" for n in range(300)]}
NESTED: Json = {"anyOf": [{"items": {"minimum": 10**6 + n}} for n in range(300)] + [{"items": {}}]}
SHARED: Json = {f"n{n}": {"type": "integer", "maximum": n} for n in range(40)}


def of_a(schema: Json) -> Json:
    return {"type": "object", "properties": {"a": schema}}


def proposed(**fields: Any) -> ProposedChange:
    return ProposedChange("app", "t", "r", "s", "update", fields, "c", None, None, None, EPOCH)


def seen(record: Json | None) -> Seen:
    return Seen("owner", "s", record, None, False)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"items": WIDE}, list(range(2_000))),
        ({"items": HUNDRED}, list(range(13_000))),
        ({"items": MIXED}, [299] * 2_000),
        ({"items": {"items": {"items": HUNDRED}}}, [[list(range(13_000))]]),
        (NESTED, list(range(10_000))),
        ({"items": {"const": 1}}, [1] * 40_000),
        ({"items": {"allOf": [{"properties": {"b": HUNDRED}}]}}, [{"b": n} for n in range(10_000)]),
        ({"additionalProperties": HUNDRED}, {f"n{n}": n for n in range(13_000)}),
        ({"patternProperties": {f"^a[x-z]*{n}": {} for n in range(30)}}, {f"axyz{n}": n for n in range(30_000)}),
        ({"propertyNames": {"anyOf": HUNDRED["anyOf"]}}, {f"n{n}": n for n in range(13_000)}),
        ({"contains": {"const": 1}, "allOf": [{"contains": {"const": n}} for n in range(30)]}, [2] * 2_000),
        ({"items": {"dependentRequired": {f"a{n}": ["b"] for n in range(500)}}}, [{}] * 30_000),
        ({"dependentSchemas": {"b": {"properties": {"b": {"items": HUNDRED}}}}}, {"b": list(range(13_000))}),
        ({"prefixItems": [{"items": HUNDRED}], "items": HUNDRED}, [list(range(13_000))]),
        ({"not": {"items": {"not": HUNDRED}}}, list(range(13_000))),
        ({"pattern": "a[ab]{400}c"}, "ab" * 32_000),
        ({"items": {"pattern": "(?:[ab]a){200,400}c"}}, ["ab" * 32_000]),
    ],
)
def test_what_takes_too_long_is_not_begun(schema: Json, value: Any) -> None:
    table = TableSchema(of_a(schema))
    table._fields = table._whole = None  # nobody asks them
    assert not table.takes_alone({"a": value}, frozenset())
    for faults in (table.faults({"a": value}), table.faults_of_fields({"a": value})):
        assert [(fault.field, fault.of_a_field) for fault in faults] == [("a", True)]
        assert f"takes {MOST_STEPS:,} steps at most" in faults[0].say()


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "array", "items": {"type": "integer"}}, list(range(150_000))),
        ({"type": "string", "pattern": "^[^\\x00]*$"}, "a, b. " * 160_000),
        ({"type": "string", "maxLength": 10**6, "pattern": "^#[0-9a-f]{6}$"}, "x" * 64_000),
        ({"type": "string", "format": "email"}, "a@" * 32_000),
        ({"items": {"enum": ["a", "b", None]}}, ["b"] * 100_000),
        ({"items": {"enum": [f"v{n}" for n in range(2_000)]}}, ["v7"] * 200_000),
        ({"items": {"type": "object", "required": ["x", "y"], "additionalProperties": False,
                    "properties": {"x": {"type": "number", "minimum": 0}, "y": {"type": "number"}}}},
         [{"x": 1, "y": 2}] * 60_000),
        ({"items": {"properties": SHARED}}, [dict.fromkeys(SHARED, 0)] * 2_000),
        (WIDE, 7), (MIXED, "x4"), ({"uniqueItems": True}, list(range(100_000))),
    ],
)  # fmt: skip
def test_ordinary_values_are_judged(schema: Json, value: Any) -> None:
    table = TableSchema(of_a(schema))
    assert table.cost.steps({"a": value}) <= MOST_STEPS


def nested(depth: int) -> list[Any]:
    """Lists of lists, each put together otherwise, without anything in them."""
    made: list[list[Any]] = [[[]]]
    for n in range(1, depth):
        made.append([[left, *right] for k in range(n) for left in made[k] for right in made[n - 1 - k]])
    return list(made[-1])


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"uniqueItems": True}, [2**63 + n for n in range(2_500)]),
        ({"uniqueItems": True}, [10**30 + n for n in range(2_000)]),
        ({"uniqueItems": True}, [2**60 + n for n in range(2_000)]),
        ({"uniqueItems": True}, [{"id": 10**30 + n} for n in range(2_000)]),
        ({"items": {"uniqueItems": True}}, [[n, 10**30 + n] * 1_000 for n in range(2)]),
        ({"uniqueItems": True}, nested(9)),
        ({"items": {"enum": list(range(2_000))}}, [1999.0] * 3_000),
        ({"items": {"enum": list(range(2_000))}}, [10**24] * 3_000),
        ({"items": {"enum": [n + 0.5 for n in range(500)]}}, [1] * 3_000),
        ({"items": {"multipleOf": 0.01}}, [1e308] * 10_000),
        ({"items": {"multipleOf": 0.01}}, [2.5e-300] * 10_000),
        ({"items": {"multipleOf": 0.01}}, [19.99] * 100_000),
        ({"items": {"anyOf": [{"minimum": 10**301 + n} for n in range(100)] + [{}]}}, [10**299] * 1_000),
        ({"items": {"anyOf": [{"maximum": -(n + 0.5)} for n in range(100)] + [{}]}}, [2.5e-300] * 1_000),
        ({"pattern": "\\b\\w+\\d\\b"}, "é" * 1_000_000),
    ],
)
def test_numbers_count_what_they_take_to_be_compared(schema: Json, value: Any) -> None:
    table = TableSchema(of_a(schema))
    table._fields = table._whole = None  # nobody asks them
    assert [fault.field for fault in table.faults({"a": value})] == ["a"]
    text = json.dumps(value, separators=(",", ":")).encode()
    register = SimpleNamespace(value=text)
    assert table.cost.at_most({"a": register}) > FEW_STEPS
    assert table.cost.at_most_of(len(text), 1) > FEW_STEPS


def test_of_fields_that_are_judged_each_by_itself_each_counts_for_itself() -> None:
    """Together they take several passes, of which each is short."""
    table = TableSchema({"additionalProperties": {"items": HUNDRED}, "required": ["b1"]})
    fields = {f"b{n}": list(range(3_000)) for n in range(8)}
    passes = list[list[str]]()

    class Counted:
        def is_valid(self, piece: Json, of: Any = table._fields) -> bool:
            assert table.cost.steps(piece) <= MOST_STEPS
            passes.append(list(piece))
            return bool(of.is_valid(piece))

    table._fields = Counted()
    assert table.takes_alone(fields, frozenset())
    assert [name for piece in passes for name in piece] == list(fields)
    assert 1 < len(passes) < len(fields)
    assert table.faults(fields) == []
    assert [fault.say() for fault in table.faults(fields | {"b5": [*range(3_000), "x"]})] == []
    assert [fault.field for fault in table.faults(fields | {"b5": [{}] * 20_000})] == ["b5"]


def test_a_fault_is_looked_for_in_passes_that_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    table = TableSchema({"patternProperties": {"^b": {"items": HUNDRED}}, "additionalProperties": False})
    fields = {f"b{n}": list(range(3_000)) for n in range(8)} | {"c": 1}
    judge = table._finder._judge

    def checked(part: Any, value: Any, rule: Any) -> bool:
        if isinstance(value, dict):
            assert SchemaCost(part).steps(value) <= MOST_STEPS
        return judge(part, value, rule)

    monkeypatch.setattr(table._finder, "_judge", checked)
    assert [fault.say() for fault in table.faults(fields)] == ["c: is no field of this table"]


def test_of_a_record_that_is_too_much_already_the_change_alone_is_judged() -> None:
    """One from before there was the schema can be edited, and becomes no larger."""
    whole = {**of_a({"items": WIDE}), "required": ["a"], "minProperties": 1}
    whole["properties"] |= {"title": {"type": "string"}}
    for schema in (whole, {word: said for word, said in whole.items() if word != "minProperties"}):
        table, large = TableSchema(schema), list(range(2_000))
        old = seen({"a": large})
        assert new_faults(table, proposed(title="x"), old) == []
        assert [fault.field for fault in new_faults(table, proposed(title=1), old)] == ["title"]
        assert [fault.field for fault in new_faults(table, proposed(a=[*large, 1]), old)] == ["a"]
        assert new_faults(table, proposed(a=[1]), old) == []
        assert [fault.field for fault in new_faults(table, proposed(a=large), seen({"a": [1]}))] == ["a"]


def test_where_the_whole_record_is_judged_the_sum_counts() -> None:
    """Else what depends on other fields could be passed by with a record that grew little by little."""
    schema = {"additionalProperties": {"items": HUNDRED}, "dependentRequired": {"b": ["c"]}}
    table = TableSchema(schema)
    stood = {f"b{n}": list(range(3_000)) for n in range(3)}
    assert [fault.field for fault in new_faults(table, proposed(b3=list(range(4_000))), seen(stood))] == ["b3"]


def test_an_item_counts_with_all_parts_that_meet_there() -> None:
    """Not with those of other fields."""
    fields = {f"f{n}": {"type": "string"} for n in range(900)}
    cost = SchemaCost({"properties": {**fields, "a": {"items": HUNDRED}}})
    assert cost.fields["f1"].item < 5 < 200 < cost.fields["a"].item < 500
    assert cost.others.item < 5
    assert cost.narrow() == []
    below = SchemaCost({"allOf": [{"properties": {"a": {"items": HUNDRED}}} for _ in range(10)]})
    assert below.fields["a"].item > 8 * cost.fields["a"].item
    assert [name for name, _ in below.narrow()] == ["a"]
    left = SchemaCost({"allOf": [{"properties": {"a": {"items": HUNDRED}}}], "unevaluatedProperties": False})
    assert left.fields["a"].item > 1.5 * cost.fields["a"].item


def test_of_a_schema_whose_parts_meet_in_too_many_ways_all_count() -> None:
    schema: Json = {"type": "integer"}
    for _ in range(12):
        names = {f"n{n}": {} for n in range(100)}
        schema = {"properties": {**names, "n0": schema}, "patternProperties": {"^n": {"properties": names}}}
    began = time.thread_time()
    cost = SchemaCost(schema)
    assert cost.others.item > 2_000
    assert time.thread_time() - began < 5


@pytest.mark.parametrize(
    ("pattern", "states"),
    [
        ("abc", 3), ("^a+$", 1), ("(ab){3}", 6), ("(a{2}b){3,5}", 15), ("[a-z]{4}", 4), ("[\\]a]{2}", 2), ("a{,}", 4),
        ("\\w{2}", 6), ("\\p{Lu}{2}", 6), ("\\x{10}b", 2), ("é{4}", 12), ("[^a]", 3), (".{3}", 9), ("a{2,", 4),
        ("(", 0), ("[a", 1), ("\\", 1), (")", 1), ("[a&&[b]]{2}", 2), ("((a{9}){9}){9}", 729), ("\\.\\d", 4),
    ],
)  # fmt: skip
def test_what_a_pattern_repeats_counts_so_often(pattern: str, states: int) -> None:
    assert states_of(pattern) == states


def test_what_is_said_of_a_length_is_no_less_than_what_is_counted() -> None:
    cost = SchemaCost(of_a({"items": MIXED, "pattern": "x{40}"}))

    class Text:
        value = b'[[],[[1,2]],{"b":[3]},"x,y"]'

    counted = cost.steps({"a": [[], [[1, 2]], {"b": [3]}, "x,y"]})
    assert counted <= cost.at_most({"a": Text()})
    assert counted <= cost.record + cost.at_most_of(len(Text.value), 1)
    assert FEW_STEPS < MOST_STEPS


@pytest.mark.alone
@pytest.mark.parametrize(
    ("schema", "item"),
    [
        (WIDE, 7), (HUNDRED, 7), (MIXED, 299), ({"enum": [{"b": [n]} for n in range(300)]}, {"b": [299]}),
        ({"anyOf": [{"const": [1] * 9 + [n]} for n in range(300)]}, [1] * 9 + [299]),
        ({"dependentRequired": {f"a{n}": ["b"] for n in range(500)}}, {}),
        ({"dependentSchemas": {f"a{n}": True for n in range(500)}}, {"z": 1}),
        ({"oneOf": [{"type": "string", "pattern": f"^a{n}"} for n in range(100)] + [{"maxLength": 9}]}, "b7"),
        ({"pattern": "a[ab]{100}c"}, "abbabaabab" * 20), ({"pattern": "(\\w|b)*a\\w{20}[0-1]"}, "abbabaabab" * 20),
        ({"allOf": [{"contains": {"const": n}} for n in range(9)], "unevaluatedItems": {}}, list(range(9))),
        ({"format": "idn-hostname"}, ("é" * 20 + ".") * 9), ({"type": "integer"}, 1),
    ],
)  # fmt: skip
def test_what_is_begun_ends_soon(schema: Json, item: Any) -> None:
    """The most items that are judged by a schema. Meant are 40 ms."""
    table = TableSchema(of_a({"items": schema}))
    one = table.cost.steps({"a": [item]})
    value = [item] * min(int(MOST_STEPS / one), 500_000)
    assert table.cost.steps({"a": value}) <= 2 * MOST_STEPS
    began = time.thread_time()
    table._fields.is_valid({"a": value})
    assert time.thread_time() - began < 2


def test_parts_are_put_in_place_of_their_names_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each list of parts was made anew for each part of it: 1,900 took a minute."""
    made, replaced = 0, schema_limits._replaced

    def counted(path: Any, places: Any) -> Any:
        nonlocal made
        made += 1
        return replaced(path, places)

    monkeypatch.setattr(schema_limits, "_replaced", counted)
    assert schema_limits.without_refs(of_a({"items": HUNDRED})) == of_a({"items": HUNDRED})
    assert made < 2 * len(HUNDRED["anyOf"])


@pytest.mark.parametrize(("items", "beside"), [(100, False), (4_000, True)])
def test_what_a_wide_schema_is_asked_is_judged_beside_the_loop(items: int, beside: bool) -> None:
    """20 kB were judged on it, as they are few bytes."""
    table, threads = TableSchema(of_a({"items": HUNDRED})), set[bool]()

    class Noted:
        def is_valid(self, piece: Json, of: Any = table._fields) -> bool:
            threads.add(threading.current_thread() is threading.main_thread())
            return bool(of.is_valid(piece))

    table._fields = Noted()
    change = edit("r", a=list(range(items)))
    message = decode(json.dumps({"changes": [change]}).encode(), PushBody)
    work = PushDecision(Principal("ada"), "c1", PullRequest("app", plain=False), message, Limits())
    current: Any = SimpleNamespace(current={("app", "t"): table}, unread={})
    asyncio.run(Checks(current, Rules([]), None)(work))  # type: ignore[arg-type]
    assert threads == {not beside}
    assert work.left == [0]
