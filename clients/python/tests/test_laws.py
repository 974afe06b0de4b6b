"""Laws: of the merge over sets of changes, of the clock, of the ids, of JSON values."""

from __future__ import annotations

import functools
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from syncd_client import InvalidWrite, Register
from syncd_client.condition import Condition
from syncd_client.data.change import check_fields, check_id, read_change, write_change
from syncd_client.data.clock import LATEST, SECOND, format_instant, parse_instant, tick
from syncd_client.data.events import RecordKey, name_records
from syncd_client.data.merge import Registers, merge, overlay, wins
from syncd_client.data.order import same
from syncd_client.data.stamp import stamp_over
from syncd_client.data.values import MAX_DEPTH, dump
from syncd_client.store.ids import new_id

CLIENTS = st.sampled_from(["a", "ab", "B", "é", "\ufffd", "\U0001f600"])
STAMPS = st.tuples(st.integers(0, 5), CLIENTS)


def value_of(at: int, client: str, field: str) -> str:
    """No device writes a register twice with one stamp: the stamp decides the value."""
    return f"{field} of {client} at {at}"


@st.composite
def changes(draw: st.DrawFn) -> Registers:
    at, client = draw(STAMPS)
    fields = draw(st.sets(st.sampled_from(["x", "y", "deletedAt"]), min_size=1))
    return {field: Register(value_of(at, client, field), at, client) for field in fields}


def apply(*sets: list[Registers]) -> Registers:
    held: Registers = {}
    for one in sets:
        for registers in one:
            merge(held, registers)
    return held


@given(st.lists(changes()), st.randoms())
def test_the_merge_is_commutative(some: list[Registers], random: Any) -> None:
    shuffled = some[:]
    random.shuffle(shuffled)
    assert apply(shuffled) == apply(some)


@given(st.lists(changes()), st.lists(changes()))
def test_the_merge_is_idempotent(some: list[Registers], more: list[Registers]) -> None:
    assert apply(some, more, some) == apply(some, more)
    held = apply(some)
    assert not merge(held, apply(some))


@given(st.lists(changes()), st.lists(changes()), st.lists(changes()))
def test_the_merge_is_associative(one: list[Registers], two: list[Registers], three: list[Registers]) -> None:
    left, right = apply(one, two), apply(two, three)
    assert apply([left], three) == apply(one, [right]) == apply(one, two, three)


@given(st.lists(changes()), st.lists(changes()))
def test_the_overlay_shows_what_the_merge_will_hold(base: list[Registers], pending: list[Registers]) -> None:
    assert overlay(apply(base), pending) == apply(base, pending)


@pytest.mark.parametrize(("one", "other", "changed"), [
    ({"b": 1, "a": [2]}, {"a": [2], "b": 1}, False), (True, 1, True), (0, False, True), ([1], [1], False),
])  # fmt: skip
def test_what_is_the_same_value_to_json_is_no_change(one: Any, other: Any, changed: bool) -> None:
    for first, second in ((one, other), (other, one)):
        held = {"x": Register(first, 5, "me")}
        assert merge(held, {"x": Register(second, 5, "me")}) == changed
        assert json.dumps(held["x"].value) == json.dumps(second if changed else first)


@given(STAMPS, STAMPS)
def test_of_two_different_stamps_exactly_one_wins(one: tuple[int, str], other: tuple[int, str]) -> None:
    first, second = Register(1, *one), Register(2, *other)
    assert (wins(first, second) and wins(second, first)) == (one == other)
    assert wins(first, second) or wins(second, first)


@given(STAMPS, STAMPS)
def test_clients_are_ordered_by_their_utf8_bytes(one: tuple[int, str], other: tuple[int, str]) -> None:
    by_bytes = (one[0], one[1].encode()) >= (other[0], other[1].encode())
    assert wins(Register(1, *one), Register(2, *other)) == by_bytes


@given(st.integers(10, 20), st.integers(0, 9), st.lists(changes()))
def test_a_lowered_register_stands_for_the_one_that_was_sent(sent: int, at: int, others: list[Registers]) -> None:
    own, lowered = Register("v", sent, "me"), Register("v", at, "me", sent)
    assert wins(lowered, own)
    assert not wins(own, lowered)


@pytest.mark.parametrize(("sent", "at"), [
    # What the server lowered is not written again, and nothing is later than the last instant.
    ((None,), LATEST), ((LATEST,), LATEST - 1), ((LATEST, LATEST - 2), LATEST - 1), ((LATEST - 1,), LATEST),
    ((LATEST, LATEST - 1, LATEST - 3), LATEST - 2),
])  # fmt: skip
def test_at_the_last_instant_a_stamp_is_one_that_was_not_lowered(sent: tuple[int | None, ...], at: int) -> None:
    view = {f"f{n}": Register(0, 5, "me", lowered) for n, lowered in enumerate(sent)}
    assert stamp_over(view, view, LATEST) == at
    assert stamp_over(view, [*view, "new"], LATEST) == at


def test_records_are_named_once_and_the_personal_space_by_none() -> None:
    keys = [("t", "", "a"), ("u", "s", "b"), ("t", "", "a"), ("t", "s", "a")]
    assert name_records(keys) == (
        RecordKey(None, "t", "a"), RecordKey("s", "u", "b"), RecordKey("s", "t", "a"),
    )  # fmt: skip


INSTANTS = st.integers(0, LATEST)


@given(INSTANTS, INSTANTS)
def test_a_stamp_is_of_the_wall_clock_and_another_than_the_last(last: int, wall: int) -> None:
    assert 0 <= tick(last, wall) - (wall - wall % 1000) <= SECOND
    assert tick(last, wall) != last or last == LATEST


@given(st.integers(0, LATEST - SECOND), st.lists(st.integers(0, SECOND - 1000)))
def test_stamps_of_a_second_rise_whatever_the_wall_clock_does_in_it(start: int, steps: list[int]) -> None:
    stamps = list(functools.reduce(lambda all, step: [*all, tick(all[-1], start + step)], steps, [start]))
    assert all(later > earlier for earlier, later in itertools.pairwise(stamps))


@given(INSTANTS)
def test_an_instant_survives_its_text(micros: int) -> None:
    text = format_instant(micros)
    assert len(text) == 27
    assert parse_instant(text) == micros


@given(INSTANTS, INSTANTS)
def test_canonical_texts_are_ordered_like_their_instants(one: int, other: int) -> None:
    assert (format_instant(one) < format_instant(other)) == (one < other)


@given(st.integers(0, 2**47 * 1000), st.integers(0, 2**47 * 1000))
def test_ids_are_uuids_of_version_7_in_the_order_of_time(one: int, other: int) -> None:
    import uuid

    first, second = new_id(one), new_id(other)
    assert uuid.UUID(first).version == 7
    assert uuid.UUID(first).variant == uuid.RFC_4122
    assert first != new_id(one)
    if one // 1000 < other // 1000:
        assert first < second


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON)
def test_every_json_value_survives_the_wire_as_it_was(value: Any) -> None:
    check_fields({"x": value}, "s")
    body = write_change(
        change_id="c", space="s", table="t", record="r", op="update", values={"x": value}, at=1, extra={}
    )
    read = read_change(json.loads(body.encode()), "me").registers["x"]
    assert same(read.value, value)
    assert dump(read.value) == dump(value)


@given(JSON, JSON)
def test_equality_of_json_is_that_of_its_canonical_text(one: Any, other: Any) -> None:
    def canonical(value: Any) -> str:
        return json.dumps(value, sort_keys=True)

    if canonical(one) == canonical(other):
        assert same(one, other)
    assert same(one, other) == same(other, one)
    assert Condition("x", "!=", other).holds({"x": one}) != Condition("x", "=", other).holds({"x": one})


def nested(depth: int) -> Any:
    return functools.reduce(lambda inner, _: [inner], range(depth), "leaf")


def objects(depth: int) -> Any:
    return functools.reduce(lambda inner, _: {"a": inner}, range(depth), "leaf")


@pytest.mark.parametrize(
    "value",
    [
        *(float("nan"), float("inf"), -float("inf"), 10**309, -(10**400)),
        *("a\0b", "\ud800", {"\udc00": 1}, {"k\0": 1}, {1: 2}, (1, 2), {1}, b"x", object()),
        *(nested(MAX_DEPTH + 1), objects(MAX_DEPTH + 1), objects(MAX_DEPTH - 1) | {"b": nested(MAX_DEPTH)}),
        [[{"a": [float("nan")]}]],
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_what_the_server_would_refuse_is_refused_at_once_with_its_field(value: Any) -> None:
    with pytest.raises(InvalidWrite, match="title") as refused:
        check_fields({"good": 1, "title": value}, "s")
    assert refused.value.field == "title"


@pytest.mark.parametrize(("value", "told"), [
    ({"a": [1, (2,)]}, "x.a[1] is a tuple, which is not JSON."),
    ({"a": [[], [float("inf")]]}, "x.a[1][0] is a number that JSON or a double cannot hold."),
    ([{"b": "\0"}], "x[0].b has a \\u0000, which PostgreSQL cannot hold."),
    ({"a": {"\ud800": 1}}, "x.a has a lone surrogate, which UTF-8 cannot hold."),
    ([{1: 2}], "x[0] has a key that is a int; keys of JSON are text."),
    (nested(MAX_DEPTH + 1), f"x{'[0]' * MAX_DEPTH} is nested deeper than {MAX_DEPTH} levels."),
    (objects(MAX_DEPTH + 1), f"x{'.a' * MAX_DEPTH} is nested deeper than {MAX_DEPTH} levels."),
])  # fmt: skip
def test_what_is_refused_is_said_with_its_place(value: Any, told: str) -> None:
    with pytest.raises(InvalidWrite) as refused:
        check_fields({"x": value}, "s")
    assert (refused.value.detail, refused.value.field) == (told, "x")


def test_what_is_just_within_the_limits_is_taken() -> None:
    check_fields({"a": nested(MAX_DEPTH), "o": objects(MAX_DEPTH), "p": [objects(MAX_DEPTH - 1)]}, "s")
    check_fields({"b": 2**1023, "c": 1.7976931348623157e308, "d": "\U0001f600"}, "s")
    check_id("the id", "x" * 255)


@pytest.mark.parametrize("text", ["", "x" * 256, "a\nb", "\x7f", "\x85", "\ud800", ".", "..", 7, None])
def test_ids_are_checked(text: Any) -> None:
    with pytest.raises(InvalidWrite, match="the id") as refused:
        check_id("the id", text)
    assert refused.value.field == "the id"


@pytest.mark.parametrize(("name", "space"), [("deletedAt", "s"), ("spaceId", ""), ("", "s"), ("a\0", "s")])
def test_field_names_that_mean_something_else_are_refused(name: str, space: str) -> None:
    with pytest.raises(InvalidWrite):
        check_fields({name: 1}, space)
