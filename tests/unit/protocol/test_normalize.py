"""From what devices send to what the log is given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.clock import LAST, format_instant, parse_instant
from syncd.core.errors import Malformed
from syncd.core.principal import Principal
from syncd.protocol.messages import IncomingChange, PushBody, decode
from syncd.protocol.normalize import (
    Limits,
    NormalizedChange,
    Stamps,
    batch,
    normalize_change,
    space_of,
)
from syncd.protocol.pull_messages import PullRequest
from syncd.protocol.push_decision import PushDecision
from syncd.protocol.restamp import greatest_base, lower_stamps, separate_stamps
from tests.support.vectors import vectors

NOW = parse_instant("2026-01-01T10:00:00Z")
SKEW = 60_000_000
LIMIT = NOW + SKEW
BASE = vectors("base")["base"]


def incoming(**members: Any) -> IncomingChange:
    change = {"table": "t", "id": "r", "op": "update", **members}
    return decode(msgspec.json.encode({"changes": [change]}), PushBody).changes[0]


def prepared(i: int = 1, feed: tuple[str, str] = ("app", "s"), **members: Any) -> NormalizedChange:
    return normalize_change(incoming(**members), i, "phone", Stamps(), Limits(), feed)


def fields(**stamps: int) -> dict[str, Any]:
    return {name: {"value": 1, "at": format_instant(at)} for name, at in stamps.items()}


def test_the_space_is_looked_for_in_the_order_of_the_protocol() -> None:
    in_fields = {"spaceId": {"value": "c", "at": format_instant(NOW)}}
    assert space_of(incoming(spaceId="a", data={"spaceId": "b"}, fields=in_fields), "p") == "a"
    assert space_of(incoming(data={"spaceId": "b"}, fields=in_fields), "p") == "b"
    assert space_of(incoming(fields=in_fields), "p") == "c"
    assert space_of(incoming(data={"spaceId": 7}, fields={"spaceId": {"value": None, "at": ""}}), "p") == "p"
    assert space_of(incoming(), "p") == "p"


def test_low_and_high_are_the_least_and_greatest_stamp() -> None:
    change = prepared(fields=fields(a=NOW, b=NOW - 5, c=NOW + 7))
    assert (change.lo, change.hi) == (NOW - 5, NOW + 7)


def test_log_and_state_hold_the_same_registers_and_the_state_their_writer() -> None:
    change = prepared(op="insert", data={"a": 1, "b": [2]}, fields=fields(c=NOW))
    assert set(change.f) == set(change.g) == {"a", "b", "c", "deletedAt"}
    for name, register in change.g.items():
        assert (register.value, register.at, register.clientId) == (change.f[name].value, change.f[name].at, "phone")


def test_a_change_without_an_id_is_known_by_its_content() -> None:
    one = prepared(fields=fields(a=NOW)).c
    assert one is not None
    assert one.startswith("\x01")  # no client can send it: ids hold no control characters
    spelled = {"a": {"updatedAt": "2026-01-01T12:00:00+02:00", "value": 1}}
    assert prepared(fields=spelled).c == one


@pytest.mark.parametrize(
    "other",
    [{"id": "q"}, {"table": "u"}, {"op": "insert"}, {"fields": fields(a=NOW + 1)}, {"fields": fields(b=NOW)},
     {"fields": {"a": {"value": 2, "at": format_instant(NOW)}}}, {"feed": ("app2", "s")}, {"feed": ("app", "s2")}],
    ids=str,
)  # fmt: skip
def test_another_content_app_or_space_is_another_change(other: Any) -> None:
    assert prepared(**{"fields": fields(a=NOW), **other}).c != prepared(fields=fields(a=NOW)).c


def test_an_untimed_change_without_an_id_cannot_be_recognised() -> None:
    assert prepared(op="insert", data={"a": 1}).c is None
    assert prepared(op="delete").c is None
    assert prepared(op="delete", deletedAt=format_instant(NOW)).c is not None
    assert prepared(op="insert", data={"a": 1, "createdAt": format_instant(NOW)}).c is not None


@pytest.mark.parametrize("op", ["insert", "update"])
def test_a_change_without_a_register_is_refused(op: str) -> None:
    with pytest.raises(Malformed) as refused:
        prepared(op=op, data={}, fields={})
    assert refused.value.code == "empty_change"


records = st.sampled_from([("s1", "t", "a"), ("s1", "t", "b"), ("s2", "t", "a"), ("s1", "u", "a")])


@given(st.lists(records, max_size=30))
def test_waves_keep_every_record_s_order_and_hold_no_record_twice(places: list[tuple[str, str, str]]) -> None:
    changes = [(prepared(i, table=t, id=r, fields=fields(a=NOW)), s, t) for i, (s, t, r) in enumerate(places, 1)]
    made = batch(changes, lambda i: f"e{i}")
    for wave in made.waves:
        keys = [(c.s, c.t, c.r) for c in wave]
        assert len(set(keys)) == len(keys)
    found: dict[Any, list[int]] = {}
    for wave in made.waves:
        for change in wave:
            found.setdefault((made.spaces[change.s - 1], made.tables[change.t - 1], change.r), []).append(change.i)
    assert found == {p: [i for i, q in enumerate(places, 1) if q == p] for p in places}
    assert [made.spaces[s - 1] for s in made.space_of] == [s for s, _, _ in places]
    assert made.spaces == sorted(made.spaces)


stamps = st.integers(-3 * SKEW, 3 * SKEW).map(lambda ahead: NOW + ahead) | st.integers(LAST - 5, LAST)


@given(st.lists(st.lists(stamps, min_size=1, max_size=3), min_size=1, max_size=8), st.integers(NOW, LIMIT))
def test_lowering_keeps_the_order_of_the_device_s_own_stamps(times: list[list[int]], start: int) -> None:
    changes = [prepared(i, fields=fields(**{f"f{n}": t for n, t in enumerate(ts)})) for i, ts in enumerate(times, 1)]
    adjusted = lower_stamps(changes, "phone", LIMIT, start)
    pairs = []
    for change, ts, told in zip(changes, times, adjusted, strict=True):
        for n, before in enumerate(ts):
            register, after = change.f[f"f{n}"], parse_instant(change.f[f"f{n}"].at)
            pairs.append((before, after))
            assert (after == before) == (before <= LIMIT)
            assert after <= LIMIT + len(pairs) + sum(map(len, times))
            assert told.get(f"f{n}") == (register.at if before > LIMIT else None)
            assert change.g[f"f{n}"].at == register.at
            assert register.sent == (format_instant(before) if before > LIMIT else msgspec.UNSET)
        assert (change.lo, change.hi) == (min(parse_instant(r.at) for r in change.f.values()),
                                          max(parse_instant(r.at) for r in change.f.values()))  # fmt: skip
    for before, after in pairs:
        for other_before, other_after in pairs:
            assert (before < other_before) == (after < other_after)


def test_a_delete_without_an_instant_comes_after_all_that_the_push_dates() -> None:
    edit, delete = prepared(1, fields=fields(a=LAST - 1)), prepared(2, op="delete")
    lower_stamps([edit, delete], "phone", LIMIT, NOW)
    tombstone = delete.f["deletedAt"]
    assert tombstone.at > edit.f["a"].at
    assert tombstone.sent is None
    assert msgspec.json.decode(tombstone.value) == tombstone.at


def test_an_insert_says_that_the_record_is_there_at_its_greatest_stamp() -> None:
    change = prepared(op="insert", data={"a": 1, "createdAt": "2020-01-01T00:00:00Z"}, fields=fields(c=NOW))
    assert bytes(change.f["deletedAt"].value) == b"null"
    assert change.f["deletedAt"].at == max(register.at for register in change.f.values())
    assert "deletedAt" not in prepared(op="update", fields=fields(c=NOW)).f


@pytest.mark.parametrize("vector", BASE, ids=[vector["name"] for vector in BASE])
def test_a_lowered_stamp_stays_later_than_what_its_writer_saw(vector: Any) -> None:
    changes = [{"table": "t", "id": "r", **change} for change in vector["changes"]]
    message = decode(msgspec.json.encode({"changes": changes}), PushBody)
    push = PushDecision(Principal("alice"), "me", PullRequest("app", plain=False), message, Limits())
    push.lower_stamps({"now": vector["now"], "own": vector["own"]}, SKEW)
    assert [push.adjusted.get(i, {}) for i in range(len(changes))] == vector["lowered"]


def test_an_insert_s_data_is_of_its_last_writing_and_else_of_its_first() -> None:
    both = {"a": 1, "createdAt": format_instant(NOW - 9), "updatedAt": format_instant(NOW)}
    assert prepared(op="insert", data=both).f["a"].at == format_instant(NOW)
    assert prepared(op="insert", data={**both, "updatedAt": "soon"}).f["a"].at == format_instant(NOW - 9)
    untimed = prepared(op="insert", data={"a": 1})
    assert (untimed.f["a"].at, untimed.lo, untimed.hi) == (format_instant(0), 0, 0)


def test_a_record_s_birth_has_a_time_of_receipt_where_a_field_has_one() -> None:
    timed = prepared(op="insert", fields=fields(a=NOW))
    assert timed.f["deletedAt"].sent is timed.g["deletedAt"].sent is msgspec.UNSET
    dated = prepared(op="insert", data={"a": 1, "updatedAt": format_instant(NOW)}, deletedAt=None)
    assert dated.f["deletedAt"].sent is msgspec.UNSET
    own = prepared(op="insert", fields={**fields(a=NOW), "deletedAt": {"value": "x", "at": format_instant(NOW - 1)}})
    assert own.f["deletedAt"].at == format_instant(NOW - 1)


def test_a_deletion_that_is_dated_is_of_that_instant() -> None:
    at = format_instant(NOW)
    register = prepared(op="delete", deletedAt=at).g["deletedAt"]
    assert (json.loads(bytes(register.value)), register.at, register.sent) == (at, at, msgspec.UNSET)
    written = prepared(op="delete", deletedAt=at, fields={"deletedAt": {"value": "x", "at": format_instant(NOW + 1)}})
    assert written.f["deletedAt"].at == format_instant(NOW + 1)
    with pytest.raises(Malformed) as wrong:
        prepared(i=3, op="delete", deletedAt="soon")
    assert (wrong.value.code, wrong.value.faults[0].pointer) == ("invalid_change", "/changes/2/deletedAt")
    assert wrong.value.detail == f"{wrong.value.faults[0].detail} (/changes/2/deletedAt)"


def test_what_is_lowered_is_lowered_in_the_record_too_and_stays_its_device_s() -> None:
    changes = [prepared(1, fields=fields(a=LIMIT + 5)), prepared(2, op="delete", deletedAt=format_instant(LIMIT + 9)),
               prepared(3, fields={"deletedAt": {"value": "x", "at": format_instant(LIMIT + 7)}})]  # fmt: skip
    lower_stamps(changes, "phone", LIMIT, NOW)
    for change, name, place, value in (changes[0], "a", 0, 1), (changes[2], "deletedAt", 1, "x"):
        register = change.g[name]
        assert (json.loads(bytes(register.value)), register.at) == (value, format_instant(NOW + place))
    for change in changes:
        for name, register in change.g.items():
            log = change.f[name]
            assert register.clientId == "phone"
            assert (register.value, register.at, register.sent) == (log.value, log.at, log.sent)
    assert json.loads(bytes(changes[1].g["deletedAt"].value)) == format_instant(NOW + 2)


def test_a_stamp_at_the_limit_stays_and_what_came_after_it_stays_after_it() -> None:
    changes = [prepared(1, fields=fields(a=LIMIT)), prepared(2, fields=fields(a=LIMIT + 1))]
    assert lower_stamps(changes, "phone", LIMIT, NOW) == [{}, {"a": format_instant(LIMIT + 1)}]


@pytest.mark.parametrize(("ahead", "base", "found"), [
    (1, -1, LIMIT - 1), (1, 0, 0), (1, 1, 0), (0, -1, 0), (-1, -5, 0),
])  # fmt: skip
def test_what_was_overwritten_is_looked_at_below_the_limit_and_for_stamps_beyond_it(
    ahead: int, base: int, found: int
) -> None:
    written = {"value": 1, "at": format_instant(LIMIT + ahead), "base": format_instant(LIMIT + base)}
    assert greatest_base([incoming(fields={"a": written})], LIMIT) == found


def test_the_later_write_of_one_stamp_is_raised_in_the_record_too() -> None:
    changes = [prepared(n, fields={"a": {"value": n, "at": format_instant(NOW)}}) for n in (1, 2)]
    assert separate_stamps(changes, "phone", set()) == [{}, {"a": format_instant(NOW + 1)}]
    register = changes[1].g["a"]
    assert (json.loads(bytes(register.value)), register.clientId, register.sent) == (2, "phone", format_instant(NOW))
    last = [prepared(n, fields={"a": {"value": n, "at": format_instant(LAST)}}) for n in (1, 2)]
    assert separate_stamps(last, "phone", set()) == [{}, {}]


def one_by_one(writes: Sequence[tuple[int, int, bool]]) -> list[int]:
    """What is promised, looked for the slow way: each write's first instant that no other value has."""
    values: dict[int, int] = {}
    found = []
    for moment, value, elsewhere in writes:
        while elsewhere or values.get(moment, value) != value:
            moment, elsewhere = moment + 1, False
        values[moment] = value
        found.append(moment)
    return found


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.booleans()), max_size=30))
def test_each_write_has_the_first_instant_that_no_other_value_has(writes: list[tuple[int, int, bool]]) -> None:
    changes = [
        prepared(n, fields={"a": {"value": value, "at": format_instant(NOW + moment)}})
        for n, (moment, value, _) in enumerate(writes)
    ]
    separate_stamps(changes, "phone", {(n, "a") for n, (_, _, elsewhere) in enumerate(writes) if elsewhere})
    assert [parse_instant(one.f["a"].at) - NOW for one in changes] == one_by_one(writes)


@pytest.mark.parametrize(("register", "place", "detail"), [
    ({"value": 1, "at": "soon"}, "/at", "not an RFC 3339 instant such as 2026-01-01T10:05:00.123Z"),
    ({"value": 1, "updatedAt": "soon"}, "/at", "not an RFC 3339 instant such as 2026-01-01T10:05:00.123Z"),
    ({"value": 1}, "", "a field needs its instant, `at`"),
    ({"value": 1, "at": format_instant(NOW), "base": "2026-02-30T00:00:00Z"}, "/base", "not an instant that exists"),
])  # fmt: skip
def test_a_field_whose_instant_is_none_is_named(register: Any, place: str, detail: str) -> None:
    with pytest.raises(Malformed) as wrong:
        prepared(i=2, fields={"a": {"value": 1, "at": format_instant(NOW)}, "b~/c": register})
    (fault,) = wrong.value.faults
    assert (wrong.value.code, fault.pointer, fault.detail) == (
        "invalid_change",
        f"/changes/1/fields/b~0~1c{place}",
        detail,
    )
