"""The replica as a database: writing, reading, querying, and what a file remembers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from syncd_client import (
    EVERY_SPACE,
    BatchTooLarge,
    InvalidQuery,
    InvalidWrite,
    Limits,
    NoSuchChange,
    NoSuchRecord,
    Replica,
    WrongReplica,
)
from syncd_client.condition import Condition

from tests.support.scripted import Script, applied, page, wire

Open = Callable[..., Replica]


def test_put_patch_delete_undelete(replica: Replica) -> None:
    replica.put("t", "r", {"title": "one", "n": 1})
    replica.patch("t", "r", {"n": 2})
    assert replica.get("t", "r") == {"title": "one", "n": 2}
    replica.delete("t", "r")
    assert replica.get("t", "r") is None
    gone = replica.get("t", "r", deleted=True)
    assert gone is not None
    assert gone == {"title": "one", "n": 2}
    assert gone.deleted_at is not None
    replica.patch("t", "r", {"n": 3})
    assert replica.get("t", "r") is None, "an edit does not bring it back"
    replica.undelete("t", "r")
    assert replica.get("t", "r") == {"title": "one", "n": 3}
    replica.delete("t", "r")
    replica.put("t", "r", {"n": 4})
    assert replica.get("t", "r") == {"title": "one", "n": 4}, "a put does"


def test_a_record_is_its_space_and_its_id(replica: Replica) -> None:
    replica.put("t", "r", {"n": 1})
    replica.put("t", "r", {"n": 2}, space="s")
    assert replica.get("t", "r") == {"n": 1}
    assert replica.get("t", "r", space="s") == {"n": 2}
    found = [(record.table, record.space, record.id) for record in replica.query("t", space=EVERY_SPACE)]
    assert found == [("t", None, "r"), ("t", "s", "r")]
    assert list(replica.all_registers()) == [(None, "t", "r"), ("s", "t", "r")]
    assert replica.get("u", "r") is None


def test_a_batch_is_written_whole_or_not_at_all(replica: Replica) -> None:
    class Stop(Exception):
        pass

    def fail() -> None:
        with replica.batch() as batch:
            batch.put("t", "a", {"n": 1})
            raise Stop

    with pytest.raises(Stop):
        fail()
    assert (replica.pending(), replica.all_registers()) == ([], {})
    with replica.batch() as batch:
        batch.put("t", "a", {"n": 1})
        batch.patch("t", "a", {"n": 2})
        batch.put("t", "b", {"n": 3})
        batch.delete("t", "b")
    assert replica.query("t") == [{"n": 2}]
    assert [change.change_id for change in replica.pending()] == batch.change_ids
    assert len({change.batch for change in replica.pending()}) == 1


def test_a_batch_that_fits_no_push_is_refused_at_its_commit(open_replica: Open) -> None:
    replica = open_replica(limits=Limits(push_changes=3, batch_bytes=1000))
    for size, text in [(4, "x"), (2, "x" * 900)]:
        batch = replica.new_batch()
        for n in range(size):
            batch.put("t", f"r{n}", {"text": text})
        with pytest.raises(BatchTooLarge, match="one push takes"):
            replica.commit(batch)
    assert (replica.pending(), replica.all_registers()) == ([], {})
    with replica.batch():
        pass


def test_every_write_has_its_own_stamp_also_after_a_restart_and_a_clock_that_steps_back(open_replica: Open) -> None:
    now = 1_800_000_000_000_000
    first = open_replica(wall=lambda: now)
    for n in range(3):
        first.put("t", "r", {"n": n})
    first.close()
    second = open_replica(wall=lambda: now - 3_600_000_000)
    second.patch("t", "r", {"n": 9})
    stamps = [change.change["fields"]["n"]["at"] for change in second.pending()]
    assert sorted(set(stamps)) == stamps
    assert second.get("t", "r") == {"n": 9}


def test_a_stamp_that_arrives_does_not_move_the_clock(open_replica: Open, script: Script) -> None:
    now = 1_800_000_000_000_000  # 2027-01-15T08:00:00Z
    replica = open_replica(wall=lambda: now)
    script.answers = [page(wire("a", n=(1, "2027-01-15T08:00:59Z")), wire("b", n=(1, "2027-01-15T08:01:01Z")))]
    replica.sync()
    replica.put("t", "c", {"n": 1})
    assert replica.registers("t", "c")["n"].at == now


def test_a_device_whose_clock_is_behind_can_still_edit(open_replica: Open, script: Script) -> None:
    replica = open_replica(wall=lambda: 1_000_000_000_000_000)
    script.answers = [page(wire("a", n=(1, "2027-01-15T08:00:00Z")))]
    replica.sync()
    replica.patch("t", "a", {"n": 2})
    assert replica.get("t", "a") == {"n": 2}
    replica.delete("t", "a")
    assert replica.get("t", "a") is None
    replica.put("t", "z", {"n": 1})
    assert replica.registers("t", "z")["n"].at < 1_000_000_001_000_000, "the far stamp was not adopted"


def test_a_file_belongs_to_one_app_and_one_device(open_replica: Open) -> None:
    first = open_replica()
    assert open_replica().client_id == first.client_id
    with pytest.raises(WrongReplica, match="app"):
        open_replica(app="other")
    with pytest.raises(WrongReplica, match="client"):
        open_replica(client_id="other")


@pytest.mark.parametrize("wrong", [{"app": ""}, {"client_id": "a\n"}, {"user": ".."}, {"actor": float("nan")}])
def test_what_cannot_be_the_owner_of_a_file_makes_none(open_replica: Open, tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(InvalidWrite):
        open_replica(**wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_write_leaves_no_trace_and_names_its_field(replica: Replica) -> None:
    with pytest.raises(InvalidWrite, match="title") as refused:
        replica.put("t", "r", {"title": float("nan")})
    assert refused.value.field == "title"
    for wrong in ({}, {"deletedAt": None}):
        with pytest.raises(InvalidWrite):
            replica.put("t", "r", wrong)
    with pytest.raises(InvalidWrite):
        replica.put("t", "", {"n": 1})
    assert (replica.pending(), replica.all_registers()) == ([], {})


def test_a_change_that_the_server_would_find_too_large_is_refused_at_once(open_replica: Open) -> None:
    replica = open_replica()
    with pytest.raises(InvalidWrite, match="1048576") as refused:
        replica.put("t", "r", {"title": "x", "photo": "é" * 600_000})
    assert refused.value.field == "photo"
    batch = replica.batch()
    writes = batch.__enter__()
    writes.put("t", "small", {"n": 1})
    writes.put("t", "large", {"photo": "x" * 1_200_000})
    with pytest.raises(InvalidWrite, match="photo"):
        batch.__exit__(None, None, None)
    assert (replica.pending(), replica.all_registers()) == ([], {})
    replica.put("t", "r", {"photo": "x" * 1_000_000})
    body = len(json.dumps(replica.pending()[0].change, separators=(",", ":")))
    exact = open_replica("exact", limits=Limits(change_bytes=body))
    exact.put("t", "r", {"photo": "x" * 1_000_000})
    with pytest.raises(InvalidWrite):
        exact.put("t", "r", {"photo": "x" * 1_000_001})


@pytest.mark.parametrize(("names", "field"), [
    (("", "r"), "the table"), (("t", "a\n"), "the record id"), (("t", "r", ".."), "the space"),
])  # fmt: skip
def test_a_name_that_is_refused_is_named(replica: Replica, names: Any, field: str) -> None:
    table, record, *space = names
    place = {"space": space[0]} if space else {}
    with replica.batch() as batch:
        writes: list[Callable[[], Any]] = [
            lambda: batch.put(table, record, {"n": 1}, **place),
            lambda: batch.patch(table, record, {"n": 1}, **place),
            lambda: batch.delete(table, record, **place),
            lambda: batch.undelete(table, record, **place),
        ]
        for write in writes:
            with pytest.raises(InvalidWrite, match=field) as refused:
                write()
            assert refused.value.field == field
        assert (batch.writes, batch.change_ids) == ([], [])


@pytest.mark.parametrize("personal", [{}, {"space": "_personal:ann"}], ids=["unnamed", "by name"])
def test_a_field_that_would_name_the_space_is_refused_in_the_personal_one_alone(
    open_replica: Open, personal: Any
) -> None:
    replica = open_replica(user="ann")
    for write in (replica.put, replica.patch):
        with pytest.raises(InvalidWrite) as refused:
            write("t", "r", {"n": 1, "spaceId": "s"}, **personal)
        assert refused.value.field == "spaceId"
        write("t", "r", {"n": 1, "spaceId": "s"}, space="s")
        write("t", "own", {"n": 1}, **personal)
    assert replica.get("t", "r", space="s") == {"n": 1, "spaceId": "s"}
    assert (replica.get("t", "r"), replica.get("t", "own")) == (None, {"n": 1})


def test_only_refused_changes_can_be_fixed_or_dropped(replica: Replica) -> None:
    pending = replica.put("t", "r", {"n": 1})
    for act in (replica.drop, replica.requeue, lambda change_id: replica.fix(change_id, {"n": 2})):
        with pytest.raises(NoSuchChange):
            act(pending)


@pytest.mark.parametrize("space", ["", "..", "a\n", "\ud800", 5])
def test_a_refused_write_is_moved_to_no_space_that_there_cannot_be(
    replica: Replica, script: Script, space: Any
) -> None:
    change_id = replica.put("t", "r", {"n": 1}, space="s")
    refused = {"changeId": change_id, "status": "rejected", "code": "not_a_writer", "detail": "No."}
    script.answers = [lambda body: applied(body, results=[refused])]
    replica.push()
    with pytest.raises(InvalidWrite, match="space"):
        replica.move(change_id, space)
    assert [change.change_id for change in replica.rejected()] == [change_id]
    assert (replica.pending(), replica.query("t")) == ([], [])


def test_why_knows_what_it_does_not_know(replica: Replica) -> None:
    assert replica.why("t", "nothing").state == "unknown"
    replica.put("t", "r", {"n": 1})
    assert (replica.why("t", "r").state, replica.why("t", "r").pending) == ("waiting", 1)


ROWS: list[Any] = [None, True, False, 0, 1, 1.0, 2, 2.5, -1, 2**53 + 1, 2**63, 2**80, "", "a", "b", "ab", "é"]
ROWS += ["\ufffd", "\U0001f600", [], [1], ["a", {"k": None}], {}, {"k": 1}, {"k": 1.0}]


@pytest.fixture
def filled(replica: Replica) -> Replica:
    with replica.batch() as batch:
        for number, value in enumerate(ROWS):
            batch.put("t", f"{number:02}", {"x": value, "n": number, 'odd "name"': value})
        batch.put("t", "missing", {"n": -1})
        batch.put("t", "gone", {"x": 1, "n": 1})
        batch.delete("t", "gone")
        batch.put("t", "elsewhere", {"x": 1}, space="s")
    return replica


@pytest.mark.parametrize("operator", ["=", "!=", "<", "<=", ">", ">="])
@pytest.mark.parametrize("field", ["x", 'odd "name"'])
def test_a_query_finds_what_its_condition_means(filled: Replica, operator: str, field: str) -> None:
    everything = filled.query("t", order="n")
    for operand in ROWS:
        condition = Condition(field, operator, operand)
        try:
            found = filled.query("t", [(field, operator, operand)], order="n")
        except InvalidQuery:
            assert operator in ("<", "<=", ">", ">=")
            assert isinstance(operand, bool | list | dict | None)
            continue
        assert [r.id for r in found] == [r.id for r in everything if condition.holds(r)], (operator, operand)


def test_queries_are_ordered_limited_and_combined(filled: Replica) -> None:
    assert [r["n"] for r in filled.query("t", {"n": (">=", 3)}, order="-n", limit=2)] == [len(ROWS) - 1, len(ROWS) - 2]
    both = filled.query("t", [("n", ">", 2), ("n", "<=", 4)], order=["n"])
    assert [r["n"] for r in both] == [3, 4]
    assert [r["n"] for r in filled.query("t", {"n": ("in", [5, 3])}, order="n", limit=1, offset=1)] == [5]
    assert [r["n"] for r in filled.query("t", {"n": ("!=", 0)}, order="n", limit=2, offset=1)] == [1, 2]
    assert [r.id for r in filled.query("t", {"x": 1, "n": 1}, deleted=True)] == ["gone"]
    kinds = [type(r.get("x")).__name__ for r in filled.query("t", [("n", "<", 16)], order="x")]
    assert kinds[:2] == ["NoneType", "NoneType"]
    assert kinds[-1] == "str"


@pytest.mark.parametrize(
    "asked",
    [
        {"where": [("n", "~", 1)]},
        {"where": {"n": (">", None)}},
        {"where": {"n": ("in", 3)}},
        {"limit": -1},
        {"limit": 1.5},
        {"limit": float("nan")},
        {"limit": "1"},
        {"offset": -1},
        {"offset": 1.5},
        {"offset": None},
        {"where": [("n", 1)]},
        {"order": ""},
        {"where": {"n": {">>": 1}}},
        {"where": {"n": (">",)}},
        {"where": {"n": object()}},
        {"where": {"n": ("in", {"a": 1})}},
        {"where": {"n": ("between", [1, "a"])}},
        {"where": {"n": ("between", [1])}},
        {"where": {"n": ("startsWith", 1)}},
        {"where": {"n": ("like", ["a"])}},
        {"where": {"a\n": 1}},
        {"where": [("", "=", 1)]},
        {"order": "-"},
        *({"table": table} for table in ("", "..", "a\n", "\ud800", "t" * 256, ["t"], None)),
    ],
)
def test_a_query_that_means_nothing_is_refused(filled: Replica, asked: Any) -> None:
    with pytest.raises(InvalidQuery):
        filled.query(**({"table": "t"} | asked))


NO_NAMES = ["", "..", "a\n", "\ud800", "t" * 256, ["r"], 5, b"r"]


@pytest.mark.parametrize("name", [*NO_NAMES, None])
@pytest.mark.parametrize("read", ["get", "registers", "why"])
def test_what_can_be_no_name_is_looked_for_in_vain_and_told(replica: Replica, read: str, name: Any) -> None:
    replica.put("t", "r", {"n": 1})
    for asked in (("t", name), (name, "r")):
        with pytest.raises(InvalidQuery):
            getattr(replica, read)(*asked)
    assert replica.why("t", "r").state == "waiting"


@pytest.mark.parametrize("space", [name for name in NO_NAMES if name] + ["_personal:None", "_personal:\ud800"])
def test_what_can_be_no_space_is_neither_asked_nor_written(replica: Replica, space: Any) -> None:
    for read in (replica.get, replica.registers, replica.why):
        with pytest.raises(InvalidQuery):
            read("t", "r", space=space)
    with pytest.raises(InvalidQuery):
        replica.query("t", space=space)
    with pytest.raises(InvalidWrite):
        replica.put("t", "r", {"n": 1}, space=space)
    assert (replica.pending(), replica.query("t", space="")) == ([], [])


@pytest.mark.parametrize("change_id", NO_NAMES)
def test_what_can_be_no_change_is_none(replica: Replica, change_id: Any) -> None:
    for act in (replica.drop, replica.requeue, lambda name: replica.move(name, "s")):
        with pytest.raises(NoSuchChange):
            act(change_id)
    replica.put("t", "r", {"n": 1})
    assert replica.why("t", "r").state == "waiting"


def test_text_that_no_record_can_have_is_found_nowhere(filled: Replica) -> None:
    for operand in ("\ud800", "a\0"):
        for operator in ("=", "<", "in"):
            assert filled.query("t", {"n": (operator, [operand] if operator == "in" else operand)}) == []
        assert filled.query("t", {"n": ("!=", operand)}) == filled.query("t")
        beyond = [x for x in ROWS if isinstance(x, str) and x > operand]
        assert [r["x"] for r in filled.query("t", {"x": (">", operand)})] == beyond


def test_as_many_records_may_be_asked_for_as_there_can_be_numbers(filled: Replica) -> None:
    everything = filled.query("t")
    for where in ((), {"n": ("!=", None)}):
        assert filled.query("t", where, limit=2**80) == everything
        assert filled.query("t", where, offset=2**80) == []
        assert filled.query("t", where, limit=2**63, offset=2**63) == []


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["put", "patch", "delete", "undelete"]),
        st.sampled_from(["a", "b"]),
        st.dictionaries(st.sampled_from(["x", "y"]), st.integers(0, 9), min_size=1),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OPERATIONS)
def test_a_replica_behaves_like_a_dictionary(open_replica: Open, operations: list[Any]) -> None:
    replica = open_replica()
    table = f"t{replica.new_id()}"
    model: dict[str, dict[str, Any]] = {}
    dead: set[str] = set()
    for op, record, fields in operations:
        given = [fields] if op in ("put", "patch") else []
        if op != "put" and record not in model:
            with pytest.raises(NoSuchRecord):
                getattr(replica, op)(table, record, *given)
            continue
        getattr(replica, op)(table, record, *given)
        if op in ("put", "patch"):
            model.setdefault(record, {}).update(fields)
        else:
            model.setdefault(record, {})
        if op == "delete":
            dead.add(record)
        elif op in ("put", "undelete"):
            dead.discard(record)
        for name, held in model.items():
            assert replica.get(table, name) == (None if name in dead else held)
