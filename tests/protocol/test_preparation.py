"""From what devices send to what the log is given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.clock import LAST, format_instant, parse_instant
from syncd.core.errors import Malformed
from syncd.protocol.messages import IncomingChange, PushBody, decode
from syncd.protocol.normalize import Limits, Prepared, Stamps, batch, lower, prepare, space_of
from syncd.service.principal import Caller
from syncd.service.pull import Question, Reading
from syncd.service.push_decision import Push

NOW = parse_instant("2026-01-01T10:00:00Z")
SKEW = 60_000_000
LIMIT = NOW + SKEW
BASE = json.loads((Path(__file__).parent.parent / "vectors/base.json").read_text())["base"]


def incoming(**members: Any) -> IncomingChange:
    change = {"table": "t", "id": "r", "op": "update", **members}
    return decode(msgspec.json.encode({"changes": [change]}), PushBody).changes[0]


def prepared(i: int = 1, feed: tuple[str, str] = ("app", "s"), **members: Any) -> Prepared:
    return prepare(incoming(**members), i, "phone", Stamps(), Limits(), feed)


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
    adjusted = lower(changes, "phone", LIMIT, start)
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
    lower([edit, delete], "phone", LIMIT, NOW)
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
    reading = Reading(Question("app", plain=False), "alice", b"")
    push = Push(Caller("alice"), "me", reading, message, Limits())
    push.lower({"now": vector["now"], "own": vector["own"]}, SKEW)
    assert [push.adjusted.get(i, {}) for i in range(len(changes))] == vector["lowered"]
