"""G7: the SQL merge is the clients' merge. One set of vectors, and any order, duplication and split at random."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syncd_client.data.change import read_change
from syncd_client.data.clock import format_instant
from syncd_client.data.merge import Register, Registers, is_deleted, merge

from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.drawn import drawn, examples
from tests.support.harness import Server
from tests.support.vectors import vectors
from tests.support.wire import Device, at, unique

MERGE = vectors("merge")
CLIENTS = ["a", "b", "ab", "B", "é", "\uffff", "\U0001f600"]
Make = Callable[..., Device]


class Sql:
    """One connection, for tests that are not asynchronous."""

    def __init__(self, dsn: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection = self._loop.run_until_complete(asyncpg.connect(dsn))

    def fetch(self, text: str, *arguments: Any) -> list[Any]:
        return list(self._loop.run_until_complete(self._connection.fetch(text, *arguments)))

    def close(self) -> None:
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()


@pytest.fixture(scope="module")
def runtime(database: EmbeddedPostgres) -> Iterator[Sql]:
    """The session's database as the role that serves."""
    sql = Sql(database.runtime_dsn)
    yield sql
    sql.close()


@pytest.fixture(scope="module")
def records(server: Server) -> Iterator[Callable[[str], dict[str, Any]]]:
    """The merged records of a space, {id: registers}, read by the superuser behind the server's back."""
    sql = Sql(server.owner_dsn)

    def read(space: str) -> dict[str, Any]:
        rows = sql.fetch(
            "SELECT r.record_id, r.registers::text, r.deleted FROM syncd.sync_records r"
            " JOIN syncd.sync_spaces s USING (space_no) WHERE s.space_id = $1",
            space,
        )
        for row in rows:
            tombstone = json.loads(row[1]).get("deletedAt")
            assert row[2] == (tombstone is not None and tombstone["value"] is not None)
        return {row[0]: json.loads(row[1]) for row in rows}

    yield read
    sql.close()


def wire(registers: Registers) -> dict[str, Any]:
    return {n: {"value": r.value, "at": format_instant(r.at), "clientId": r.client} for n, r in registers.items()}


def plain(registers: dict[str, Any]) -> dict[str, Any]:
    """Registers without what says how they were lowered."""
    return {name: {k: v for k, v in register.items() if k != "sent"} for name, register in registers.items()}


def sql_merge(sql: Sql, held: Registers, incoming: Registers) -> tuple[Any, Any, Any]:
    row = sql.fetch(
        "SELECT merged::text, won::text, lost::text FROM syncd.sync_merge($1::jsonb, $2::jsonb)",
        json.dumps(wire(held)),
        json.dumps(wire(incoming)),
    )[0]
    return tuple(json.loads(text) if text else {} for text in row)  # type: ignore[return-value]


@pytest.mark.parametrize("vector", MERGE, ids=lambda v: v["name"])
def test_the_function_agrees_with_the_vectors(runtime: Sql, vector: Any) -> None:
    changes = [read_change(change).registers for change in vector["changes"]]
    for order in itertools.permutations(changes) if vector["anyOrder"] else [changes]:
        held: Registers = {}
        for registers in order:
            merged, _, _ = sql_merge(runtime, held, registers)
            held = read_change({"table": "t", "id": "r", "op": "update", "fields": merged}).registers
        assert wire(held) == vector["expect"]["registers"]


stamps = st.builds(Register, st.integers(0, 99) | st.none(), st.integers(1, 6), st.sampled_from(CLIENTS))
registers = st.dictionaries(st.sampled_from(["x", "y", "z", "deletedAt"]), stamps, min_size=1)


@given(st.dictionaries(st.sampled_from(["x", "y", "z", "deletedAt"]), stamps), registers)
def test_the_function_agrees_with_the_client_at_random(runtime: Sql, held: Registers, incoming: Registers) -> None:
    merged, won, lost = sql_merge(runtime, held, incoming)
    expected = dict(held)
    merge(expected, incoming)
    assert merged == wire(expected)
    assert set(won) | set(lost) == set(incoming)
    assert not set(won) & set(lost)
    for name in incoming:
        assert (name in lost) == (merged[name] != wire(incoming)[name])


# What a vector has that no device can send: another writer's registers.
PUSHED = [v for v in MERGE if not any("clientId" in r for c in v["changes"] for r in (c.get("fields") or {}).values())]


def push_in(device: Make, user: str, space: str, parts: list[list[dict[str, Any]]]) -> None:
    """Pushes the parts, each change from the device that made it: neighbours of one device go together."""
    for part in parts:
        for client, changes in itertools.groupby(part, key=lambda c: c["clientId"]):
            sent = [{k: v for k, v in {**c, "spaceId": space}.items() if k not in ("clientId", "seq")} for c in changes]
            headers = {"x-client-id": client.encode()}
            answer = device(user, "x").request(
                "POST", "/sync/app", json={"changes": sent, "pull": False}, headers=headers
            )
            assert answer.status_code == 200, answer.text
            assert {r["status"] for r in answer.json()["results"]} <= {"applied", "superseded", "duplicate"}


def replayed(changes: list[dict[str, Any]]) -> dict[str, Registers]:
    """What a client makes of changes by applying them in the order it gets them."""
    found: dict[str, Registers] = {}
    for change in changes:
        merge(found.setdefault(change["id"], {}), read_change(change).registers)
    return found


def kept_apart(changes: list[dict[str, Any]]) -> dict[str, Registers]:
    """What the server makes of changes: of a client's two writes with one stamp the later is raised."""
    found: dict[str, Registers] = {}
    given: dict[Any, str] = {}
    for change in map(born, changes):
        written = read_change({"spaceId": "s", **change}).registers
        for name, register in written.items():
            text, moment = json.dumps(register.value), register.at
            while given.setdefault((change["id"], name, register.client, moment), text) != text:
                moment += 1
            dated = change["op"] == "delete" and name == "deletedAt"
            written[name] = register._replace(at=moment, value=format_instant(moment) if dated else register.value)
        merge(found.setdefault(change["id"], {}), written)
    return found


def assert_all_agree(device: Make, records: Any, user: str, space: str, expected: dict[str, Registers]) -> None:
    """The merged records, a fresh snapshot, the log replayed: all are what the clients' merge makes of the changes."""
    wanted = {name: wire(held) for name, held in expected.items()}
    assert {name: plain(held) for name, held in records(space).items()} == wanted
    reader = device(user, "reader")
    log = {name: wire(held) for name, held in replayed(reader.drain(history=1, limit=3)[0]).items()}
    assert log == wanted
    alive = {name: wire(held) for name, held in replayed(reader.drain(limit=2)[0]).items()}
    assert alive == {name: wire(held) for name, held in expected.items() if not is_deleted(held)}


@pytest.mark.parametrize("vector", PUSHED, ids=lambda v: v["name"])
def test_the_server_agrees_with_the_vectors(device: Make, records: Any, vector: Any) -> None:
    orders = list(itertools.permutations(vector["changes"])) if vector["anyOrder"] else [vector["changes"]]
    for order in (orders[0], orders[-1]):
        user = unique("merge")
        space = device(user).create(unique("s"))
        push_in(device, user, space, [[change] for change in order])
        merged = replayed([born(change) for change in order])
        for name, register in vector["expect"]["registers"].items():
            assert wire(merged["r"])[name] == register or name == "deletedAt"
        expected = kept_apart(list(order))
        assert {n: r.value for n, r in expected["r"].items()} == {n: r.value for n, r in merged["r"].items()}
        assert_all_agree(device, records, user, space, expected)


def born(change: dict[str, Any]) -> dict[str, Any]:
    """An insert as the server understands it: besides its fields it says that the record is there."""
    if change["op"] != "insert":
        return change
    written = read_change({"spaceId": "s", **change}).registers
    latest = max(register.at for register in written.values())
    there = {"deletedAt": {"value": None, "at": format_instant(latest)}} if "deletedAt" not in written else {}
    return {**change, "fields": {**(change.get("fields") or {}), **there}}


fields = st.dictionaries(
    st.sampled_from(["x", "y", "z"]),
    st.tuples(st.integers(0, 9) | st.none() | st.just([1, {"a": None}]), st.integers(1, 12)),
    min_size=1,
    max_size=3,
)
edits = st.tuples(
    st.sampled_from(CLIENTS),
    st.sampled_from(["r", "s"]),
    st.sampled_from(["update", "update", "insert", "delete", "restore"]),
    fields,
    st.integers(1, 12),
)


def change_of(number: int, drawn: Any) -> dict[str, Any]:
    client, record, op, written, when = drawn
    named = {name: {"value": value, "at": at(moment)} for name, (value, moment) in written.items()}
    change = {"table": "t", "id": record, "op": op, "changeId": f"k{number}", "clientId": client, "fields": named}
    if op == "delete":
        return {**change, "deletedAt": at(when), "fields": named if when % 2 else {}}
    if op == "restore":
        return {**change, "op": "update", "fields": {**named, "deletedAt": {"value": None, "at": at(when)}}}
    return change


def one_stamp_one_value(changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Only what a device with a clock can make: it never writes one register twice at one stamp."""
    seen: set[Any] = set()
    kept = []
    for change in changes:
        written = [
            (change["clientId"], change["id"], n, r.at)
            for n, r in read_change({**born(change), "spaceId": "s"}).registers.items()
        ]
        if not seen & set(written):
            kept.append(change)
            seen |= set(written)
    return kept


@drawn
@pytest.mark.timeout(900)
@settings(max_examples=examples(25))
@given(st.lists(edits, min_size=1, max_size=14), st.randoms(use_true_random=False))
def test_any_order_duplication_and_split_give_the_same_records(
    device: Make, records: Any, drawn: Any, chance: random.Random
) -> None:
    changes = one_stamp_one_value([change_of(number, edit) for number, edit in enumerate(drawn)])
    expected = replayed([born(change) for change in changes])
    for _ in range(2):
        user = unique("merge")
        space = device(user).create(unique("s"))
        sent = [*changes, *(change for change in changes if chance.random() < 0.3)]
        chance.shuffle(sent)
        cuts = sorted(chance.sample(range(len(sent) + 1), min(2, len(sent))))
        push_in(device, user, space, [sent[a:b] for a, b in itertools.pairwise([0, *cuts, len(sent)])])
        assert_all_agree(device, records, user, space, expected)


@drawn
@pytest.mark.timeout(900)
@settings(max_examples=examples(20))
@given(st.lists(edits, min_size=2, max_size=10))
def test_where_one_stamp_was_written_twice_the_later_write_gets_a_later_one_everywhere(
    device: Make, records: Any, drawn: Any
) -> None:
    changes = [{**change_of(n, edit), "clientId": "a"} for n, edit in enumerate(drawn)]
    user = unique("twice")
    space = device(user).create(unique("s"))
    push_in(device, user, space, [changes])
    assert_all_agree(device, records, user, space, kept_apart(changes))


def test_a_delete_beats_every_write_with_a_smaller_stamp_whenever_it_comes(device: Make) -> None:
    user = unique("g8")
    one, two = device(user, "c1"), device(user, "c2")
    delete = {"table": "t", "id": "r", "op": "delete", "changeId": "d", "deletedAt": at(10)}
    insert = {
        "table": "t",
        "id": "r",
        "op": "insert",
        "changeId": "i",
        "data": {"x": 1, "updatedAt": at(5), "deletedAt": None},
    }
    one.write(delete)
    two.push(insert)
    two.push({"table": "t", "id": "r", "op": "update", "changeId": "u", "fields": {"y": {"value": 1, "at": at(20)}}})
    assert one.drain()[0] == []
    two.push({**insert, "changeId": "again", "data": {"x": 1, "updatedAt": at(11), "deletedAt": None}})
    assert [c["op"] for c in one.drain()[0]] == ["insert"]
