"""A batch that is new is written by other statements than one that is looked at change by change, and ends alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.core.clock import LAST
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.statements import statement
from syncd.protocol.import_batch import ImportBatch, arrange, columns
from syncd.protocol.import_lines import LineReader
from syncd.protocol.messages import IncomingChange
from syncd.protocol.normalize import Limits
from syncd.transfer.importer import as_arguments
from tests.store.test_append_folded import Space, change, changes
from tests.store.test_merge import Sql
from tests.support.backups import line
from tests.support.drawn import drawn, examples
from tests.support.wire import Json, at

# What is given the time of now is of this year's end or later.
PLACES = """
SELECT a.name, c.seq, c.push_end, CASE WHEN c.created_at < '2026-06-01' THEN c.created_at END
FROM syncd.sync_changes c JOIN syncd.sync_spaces s USING (space_no) JOIN syncd.sync_names a ON a.name_no = c.app_no
WHERE s.space_id = $1 ORDER BY 1, 2
"""
ERASED = """
INSERT INTO syncd.sync_erasures (what, done_at, space_id, app, table_name, record_id)
VALUES ('record', now(), $1, 'app', 't', 'gone')
"""
UNDONE = """
INSERT INTO syncd.sync_restores (user_no, client_no, change_id, space_no, app_no, target, first_seq, last_seq)
SELECT user_no, client_no, 'undone', space_no, app_no, 'x', seq, seq
FROM syncd.sync_changes JOIN syncd.sync_spaces USING (space_no) WHERE space_id = $1
"""


@pytest.fixture(scope="module")
def owner(database: EmbeddedPostgres) -> Iterator[Sql]:
    """The session's database as its superuser, as whom an operator imports; nothing was erased there."""
    sql = Sql(database.owner_dsn)
    # Others' tests erase in it: where anything was, an import goes another way.
    sql.fetch("DELETE FROM syncd.sync_erasures")
    yield sql
    sql.close()


def batch(*lines: Json) -> ImportBatch:
    reader = LineReader(Limits(), None, LAST)
    return arrange([reader.read(json.dumps(one).encode()) for one in lines])


def looked_at(sql: Sql, made: ImportBatch) -> tuple[str | None, list[int]]:
    """What is written by the way for any batch: a letter for each change, and the feeds' heads."""
    head = json.dumps({**made.head, "largest": 4000})
    return tuple(sql.fetch(statement("import"), head, *as_arguments(made))[0])


def as_new(sql: Sql, made: ImportBatch) -> tuple[str | None, list[int]]:
    """What is written by the way for a new one."""
    head = json.dumps({**made.head, "largest": 4000})
    return tuple(sql.fetch(statement("import_new"), head, *columns(made, known=False))[0])


more = st.fixed_dictionaries(
    {},
    optional={
        "schemaVersion": st.integers(1, 3), "origin": st.sampled_from(["user", "tool"]),
        "actor": st.sampled_from([None, {"n": 1}]), "folded": st.booleans(), "clientId": st.sampled_from(["c1", "c2"]),
        "userId": st.sampled_from(["ann", "bob"]), "appId": st.sampled_from(["app", "other"]),
        "superseded": st.just({"late": {"value": 1, "at": at(1)}}), "base": st.just(None),
    },
)  # fmt: skip


def imported(space: str, some: list[tuple[IncomingChange, Json]], first: int) -> list[Json]:
    """Changes as the lines of an export, two a push."""
    lines = []
    for n, (one, members) in enumerate(some):
        made = {name: {"value": json.loads(bytes(r.value)), "at": r.at} for name, r in (one.fields or {}).items()}
        if one.op == "delete":
            made["deletedAt"] = {"value": one.deletedAt, "at": one.deletedAt}
        if members.pop("base", 0) is None:
            made = {name: {**register, "base": None} for name, register in made.items()}
        seq = first + n
        lines.append(line("ann", seq, spaceId=space, id=one.id, op=one.op, fields=made, changeId=f"i{n}",
                          pushEnd=seq + (n + 1) % 2, **members))  # fmt: skip
    lines.sort(key=lambda one: (one["appId"], one["seq"]))
    return lines


@drawn
@settings(max_examples=examples(30))
@given(st.lists(changes, max_size=4), st.lists(st.tuples(changes, more), min_size=2, max_size=8), st.booleans())
def test_what_is_new_ends_as_if_it_had_been_looked_at(
    owner: Sql, before: list[IncomingChange], some: list[tuple[IncomingChange, Json]], gap: bool
) -> None:
    """Over records that are there and records that are not, with several changes of one, wherever the feed stands."""
    found: list[Any] = []
    for write in (looked_at, as_new):
        owner.fetch("BEGIN")
        try:
            space = Space(owner)
            space.push("me", change("other", name="first", n=0))
            for n, one in enumerate(before):
                one.changeId = f"b{n}"
                space.push("me", one)
            lines = imported(space.id, [(one, dict(members)) for one, members in some], 100 if gap else len(before) + 2)
            wrote = write(owner, batch(*lines))
            held, log = space.held()
            found.append((wrote, sorted(held, key=repr), sorted(log, key=repr), owner.fetch(PLACES, space.id)))
        finally:
            owner.fetch("ROLLBACK")
    assert found[0] == found[1]
    assert set(found[0][0][0]) == {"a"}


def test_a_batch_of_which_something_is_there_is_left_alone(owner: Sql) -> None:
    """By its place in the feed, or by its device's id; and one whose space is not there."""
    space = Space(owner)
    space.push("me", change("r", n=0))
    lines = [line(space.user, 101 + n, id=f"r{n}", changeId=f"c{n}", appId="other") for n in range(3)]
    assert as_new(owner, batch(*lines))[0] == "aaa"
    before = space.held()
    by_place = [{**one, "changeId": f"other{n}"} for n, one in enumerate(lines)]
    by_id = [{**one, "seq": one["seq"] + 500, "eventId": one["eventId"][:-3] + "fff"} for one in lines]
    fresh = line(space.user, 2000, id="fresh", changeId="fresh", appId="other")
    for known in (by_place, by_id):
        for one in known:
            assert as_new(owner, batch(one, fresh)) == (None, None)
    assert as_new(owner, batch(line("nobody", 1), fresh)) == (None, None)
    assert space.held() == before
    assert looked_at(owner, batch(*lines, fresh))[0] == "ddda"


def test_an_id_of_a_restore_is_known(owner: Sql) -> None:
    space = Space(owner)
    space.push("me", change("r", n=0))
    owner.fetch("BEGIN")
    owner.fetch(UNDONE, space.id)
    assert as_new(owner, batch(line(space.user, 9, clientId="me", changeId="undone"))) == (None, None)
    owner.fetch("ROLLBACK")


def test_where_something_was_erased_each_change_is_looked_at(owner: Sql) -> None:
    space = Space(owner)
    space.push("me", change("r", n=0))
    owner.fetch("BEGIN")
    owner.fetch(ERASED, space.id)
    gone, other = (line(space.user, 9 + n, id=record) for n, record in enumerate(("gone", "other")))
    assert as_new(owner, batch(gone, other)) == (None, None)
    with pytest.raises(asyncpg.PostgresError) as refused:
        looked_at(owner, batch(gone, other))
    assert (refused.value.sqlstate, refused.value.detail) == ("SY004", "[1]")
    owner.fetch("ROLLBACK")


def test_records_that_become_too_large_are_named(owner: Sql) -> None:
    space = Space(owner)
    space.push("me", change("old", n=0, y="y" * 3000))
    large = {"x": {"value": "x" * 5000, "at": at(9)}}
    half = {"x": {"value": "x" * 2000, "at": at(9)}}
    lines = [
        line(space.user, 11, id="a"), line(space.user, 12, id="b", fields=large),
        line(space.user, 13, id="old", fields=half), line(space.user, 14, id="c", fields=large),
        line(space.user, 15, id="c", fields={"y": large["x"]}),
    ]  # fmt: skip
    with pytest.raises(asyncpg.PostgresError) as refused:
        as_new(owner, batch(*lines))
    assert refused.value.sqlstate == "SY001"
    assert sorted(json.loads(refused.value.detail)) == [2, 3, 4, 5]


def test_what_is_known_to_be_new_is_looked_up_by_no_id() -> None:
    made = batch(line("ann", 1, changeId="a"), line("ann", 2, changeId="b"))
    assert columns(made, known=False)[7] == ["a", "b"]
    assert columns(made, known=True)[6:8] == [["a", "b"], None]


def test_a_record_with_several_changes_comes_as_waves() -> None:
    made = batch(*(line("ann", n, id=record) for n, record in enumerate("abacb", 1)))
    arguments = columns(made, known=True)
    assert arguments[11] == [None, None, None, "c", None]
    assert [[row["i"] for row in json.loads(wave)] for wave in arguments[-1]] == [[1, 2], [3, 5]]
    assert arguments[-5:-1] == [None] * 4
