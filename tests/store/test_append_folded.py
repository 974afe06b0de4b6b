"""Several changes of one record in one push end as if each had come alone; and what a push may touch."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from syncd.postgres.embedded import EmbeddedPostgres
from syncd.protocol.messages import IncomingChange, IncomingRegister
from syncd.protocol.normalize import Limits, Stamps, batch, normalize_change
from tests.store.test_merge import Sql
from tests.support.drawn import drawn, examples
from tests.support.wire import at, unique

PUSH = "SELECT seqs, marks, detail::text FROM syncd.sync_push($1::jsonb, $2::integer[], $3::json[])"
RECORDS = """
SELECT r.seq, r.latest, r.event_id::text, r.schema_version, r.deleted, r.record_id, c.name, r.registers::text
FROM syncd.sync_records r JOIN syncd.sync_spaces s USING (space_no) JOIN syncd.sync_names c ON c.name_no = r.client_no
WHERE s.space_id = $1 ORDER BY r.seq
"""
LOG = """
SELECT h.seq, h.prev_seq, h.event_id::text, h.schema_version, h.op, h.record_id, h.change_id, h.origin, h.actor::text,
       h.fields::text, h.lost::text, c.name
FROM syncd.sync_changes h JOIN syncd.sync_spaces s USING (space_no) JOIN syncd.sync_names c ON c.name_no = h.client_no
WHERE s.space_id = $1 ORDER BY h.seq
"""
CALLS = "SELECT funcname, calls FROM pg_stat_xact_user_functions"
UPDATED = "SELECT coalesce(n_tup_upd + n_tup_ins, 0) FROM pg_stat_xact_user_tables WHERE relname = 'sync_records'"


@pytest.fixture(scope="module")
def owner(database: EmbeddedPostgres) -> Iterator[Sql]:
    """The session's database as its superuser, who reads all of it."""
    sql = Sql(database.owner_dsn)
    yield sql
    sql.close()


class Space:
    """A space, and pushes to it as the server makes them, less the server."""

    def __init__(self, sql: Sql, **head: Any) -> None:
        self.sql, self.head = sql, {"skew": 60_000_000, "largest": 16 << 20, **head}
        self.user, self.done = unique("user"), 0
        self.id = f"_personal:{self.user}"

    def push(self, client: str, *changes: IncomingChange) -> tuple[list[int], str, list[Any]]:
        """Performs one push; its seqs, marks, and [place, conflicts]."""
        prepared = [normalize_change(c, i, client, Stamps(), Limits()) for i, c in enumerate(changes, 1)]
        made = batch(
            [(p, self.id, c.table) for p, c in zip(prepared, changes, strict=True)],
            lambda i: f"00000000-0000-7000-8000-{self.done + i:012x}",
        )
        self.done += len(changes)
        head = {
            **self.head, "user": self.user, "client": client, "app": "app", "n": len(prepared), "spaces": made.spaces,
            "tables": made.tables, "ids": [p.c for p in prepared], "hi": max(p.hi for p in prepared), "personal": True,
        }  # fmt: skip
        waves = [_json(wave) for wave in made.waves]
        seqs, marks, detail = self.sql.fetch(PUSH, json.dumps([head]), [len(waves)], waves)[0]
        told = [c for c in json.loads(detail)["conflicts"] if c[1]] if detail else []
        return list(seqs), marks, sorted(told)

    def held(self) -> tuple[list[Any], list[Any]]:
        """The merged records and the log."""
        return [tuple(row) for row in self.sql.fetch(RECORDS, self.id)], [
            tuple(row) for row in self.sql.fetch(LOG, self.id)
        ]


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def change(record: str, op: str = "update", when: int = 1, name: str = "", **values: Any) -> IncomingChange:
    """A change with all its fields at one instant."""
    fields = {name: IncomingRegister(Raw(json.dumps(value).encode()), at(when)) for name, value in values.items()}
    made = IncomingChange("t", record, op, fields=fields)  # type: ignore[arg-type]
    made.changeId = name or unique("change")
    if op == "delete":
        made.deletedAt = at(when)
    return made


instants = st.integers(1, 8)
written = st.builds(
    IncomingRegister, st.sampled_from([b"1", b'"a"', b'{"b": [1e3, null]}', b"null"]).map(Raw), instants.map(at)
)
fields = st.dictionaries(st.sampled_from(["x", "y", "z"]), written, min_size=1)
edits = st.builds(
    IncomingChange, st.just("t"), st.sampled_from("rst"), st.sampled_from(["insert", "update"]), fields=fields,
    schemaVersion=st.sampled_from([None, 2]), origin=st.sampled_from([None, "user"]),
)  # fmt: skip
deletions = st.builds(
    IncomingChange, st.just("t"), st.sampled_from("rst"), st.just("delete"), deletedAt=instants.map(at)
)
undeletions = st.builds(
    IncomingChange, st.just("t"), st.sampled_from("rst"), st.just("update"),
    fields=st.fixed_dictionaries({"deletedAt": st.builds(IncomingRegister, st.just(Raw(b"null")), instants.map(at))}),
)  # fmt: skip
changes = edits | edits | deletions | undeletions


def named(found: Sequence[IncomingChange]) -> list[IncomingChange]:
    for i, one in enumerate(found):
        one.changeId = f"c{i}"
    return list(found)


@drawn
@settings(max_examples=examples(30))
@given(
    st.lists(st.tuples(st.sampled_from(["a", "me"]), changes), max_size=4),
    st.lists(changes, min_size=2, max_size=8),
    st.sets(st.integers(0, 7), max_size=2),
)
def test_a_push_ends_as_its_changes_one_by_one(
    owner: Sql, before: list[tuple[str, IncomingChange]], pushed: list[IncomingChange], repeated: set[int]
) -> None:
    together, apart = Space(owner), Space(owner)
    for n, (client, one) in enumerate(before):
        one.changeId = f"b{n}"
        together.push(client, one)
        apart.push(client, one)
    for one in [one for place, one in enumerate(named(pushed)) if place in repeated]:
        together.push("me", one)
        apart.push("me", one)
    whole = together.push("me", *pushed)
    seqs, marks, conflicts = list[int](), "", list[Any]()
    for place, one in enumerate(pushed, 1):
        got = apart.push("me", one)
        seqs += got[0]
        marks += got[1]
        conflicts += [[place, said] for _, said in got[2]]
    assert whole == (seqs, marks, sorted(conflicts))
    assert together.held() == apart.held()


def test_a_record_that_a_push_changes_a_hundred_times_is_written_once(database: EmbeddedPostgres) -> None:
    sql = Sql(database.owner_dsn)
    try:
        space = Space(sql)
        space.push("me", change("r", n=0), change("s", n=0))
        sql.fetch("BEGIN")
        space.push("me", *(change("r", when=n, n=n) for n in range(2, 102)), change("s", when=2, n=1))
        assert sql.fetch(UPDATED)[0][0] == 4  # a merge into a record that is there counts as an insert and an update
        sql.fetch("COMMIT")
    finally:
        sql.close()


def test_the_changes_that_make_a_new_record_too_large_are_all_named(owner: Sql) -> None:
    """One more a try would be a try for each."""
    space = Space(owner, largest=4000)
    with pytest.raises(asyncpg.PostgresError) as refused:
        space.push("me", *(change("r", when=n, **{f"f{n}": "x" * 1000}) for n in range(1, 13)))
    assert refused.value.sqlstate == "SY001"
    places = json.loads(refused.value.detail)
    assert places == list(range(places[0], 13))
    assert 2 <= places[0] <= 5


def test_values_that_replace_one_another_count_once(owner: Sql) -> None:
    """Of a record that becomes too large, only the changes are refused behind the last with which it is not."""
    space = Space(owner, largest=4000)
    space.push("me", change("r", when=1, held="x" * 1000))
    pushed = [change("r", when=n, text="x" * 1500) for n in range(2, 12)]
    pushed += [
        change("r", when=12, other="x" * 3000),
        change("r", when=13, other=""),
        change("r", when=14, last="x" * 2000),
    ]
    with pytest.raises(asyncpg.PostgresError) as refused:
        space.push("me", *pushed)
    assert (refused.value.sqlstate, json.loads(refused.value.detail)) == ("SY001", [13])
    assert space.push("me", *pushed[:-1])[1] == "a" * 12


def test_nothing_is_called_for_each_change_of_a_record(database: EmbeddedPostgres) -> None:
    """What is given a record unpacks it, and it may be large."""
    sql = Sql(database.owner_dsn)
    try:
        space = Space(sql)
        space.push("me", change("r", when=50, text="x"))
        sql.fetch("SET track_functions = 'all'")

        def calls(count: int) -> dict[str, int]:
            sql.fetch("BEGIN")
            before = Counter(dict(sql.fetch(CALLS)))
            space.push("me", *(change("r", **{f"{count}-{n}": n}) for n in range(count)))
            after = Counter(dict(sql.fetch(CALLS)))
            sql.fetch("ROLLBACK")
            return dict(after - before)

        assert calls(40) == calls(4)
    finally:
        sql.close()


LONG = "x" * 10_000


def size(space: Space, *records: str) -> int:
    """Records as JSON text, in bytes."""
    return sum(len(row[7].encode()) for row in space.held()[0] if row[5] in records)


def written_size(*pushed: IncomingChange) -> int:
    """What changes write, as it is kept."""
    whole = [normalize_change(one, 1, "me", Stamps(), Limits()) for one in pushed]
    return sum(len(json.dumps(json.loads(_json(one.g)))) for one in whole)


def beyond(space: Space, most: int, *pushed: IncomingChange) -> list[int]:
    """The places that are refused where a push may touch so much; nothing is written then."""
    space.head["touched"] = most
    before = space.held()
    with contextlib.ExitStack() as stack:
        refused = stack.enter_context(pytest.raises(asyncpg.PostgresError))
        space.push("me", *pushed)
        stack.pop_all()
        return []
    assert refused.value.sqlstate == "SY008"
    assert space.held() == before
    return list(json.loads(str(refused.value.detail)))  # type: ignore[attr-defined]


@pytest.mark.parametrize("more", [(), ("a", "a")], ids=["each record once", "a record thrice"])
def test_the_records_of_a_push_with_what_it_writes_to_them_have_a_bound(owner: Sql, more: tuple[str, ...]) -> None:
    space = Space(owner)
    for record in "abc":
        space.push("me", change(record, n=LONG))
    pushed = [change(record, when=n, m=1) for n, record in enumerate((*"abc", *more), 2)]
    most = size(space, *"abc") + written_size(*pushed)
    assert beyond(space, most - 1, *pushed) == [3]
    assert beyond(space, 2 * (size(space, "a") + 200 * len(pushed)), *pushed) == [3]
    assert beyond(space, 10, *pushed) == [1, 2, 3, 4, 5][: len(pushed)]
    assert beyond(space, most, *pushed) == []


def test_the_record_of_a_single_change_counts_as_it_will_be(owner: Sql) -> None:
    space = Space(owner)
    space.push("me", change("a", n=LONG))
    after = size(space, "a") + len(', "m": {"at": "2026-01-01T00:00:00.000002Z", "value": 1, "clientId": "me"}')
    assert beyond(space, after - 1, change("a", when=2, m=1)) == [1]
    assert beyond(space, after, change("a", when=2, m=1)) == []
    assert size(space, "a") == after


def test_a_deleted_record_counts_with_each_change_that_is_kept_with_all_of_it(owner: Sql) -> None:
    space = Space(owner)
    space.push("me", change("a", n=LONG))
    space.push("me", change("a", "delete", when=2))
    pushed = [change("a", when=n, m=n) for n in (3, 4)]
    most = 2 * size(space, "a") + written_size(*pushed)
    assert beyond(space, most - 1, *pushed) == [2]
    assert beyond(space, most, *pushed) == []


def test_a_number_counts_as_it_is_sent_out(owner: Sql) -> None:
    space = Space(owner)
    space.push("me", change("first", n=1))  # from now on one change takes the short way
    numbers = IncomingRegister(Raw(b"[%s]" % b",".join([b"1e300"] * 300)), at(1))
    made = [IncomingChange("t", record, "update", "", {"n": numbers}) for record in "ab"]
    for one in named(made):
        assert len(bytes(numbers.value)) < 2000
        assert beyond(space, 90_000, one) == [1]
    assert beyond(space, 150_000, *made) == [2]


def test_what_was_lost_to_is_told_up_to_a_bound(owner: Sql) -> None:
    space = Space(owner)
    space.push("me", change("a", when=99, n="x" * 1_000_000))
    _, marks, told = space.push("me", *(change("a", when=n, n=1) for n in range(1, 12)))
    assert marks == "s" * 11
    assert [place for place, _ in told] == list(range(1, 9))
