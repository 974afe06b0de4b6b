"""The digest in SQL is that of the vectors, and what is kept incrementally is what is computed from scratch."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import asyncpg
import httpx
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from syncd_client import Replica

from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.device import Device, answer
from tests.support.digests import Sum, alive, bucket_of, digest_of, sum_of
from tests.support.drawn import drawn, examples, steps
from tests.support.harness import Server
from tests.support.vectors import vectors
from tests.support.wire import Device as Plain
from tests.support.wire import ahead, at, unique

VECTORS = vectors("digest")
RECORDS = """
SELECT s.space_id, t.name, r.record_id, r.registers FROM syncd.sync_records r
JOIN syncd.sync_spaces s ON s.space_no = r.space_no JOIN syncd.sync_names t ON t.name_no = r.table_no
JOIN syncd.sync_names a ON a.name_no = r.app_no WHERE a.name = $1
"""
FOLDED = """
SELECT s.space_id, b.table_no, b.bucket, b.records, b.digest,
       count(d.digest) AS counted, coalesce(bit_xor(d.digest), 0) AS combined
FROM syncd.sync_digest_buckets b JOIN syncd.sync_spaces s ON s.space_no = b.space_no
JOIN syncd.sync_names a ON a.name_no = b.app_no
LEFT JOIN syncd.sync_digest_records d
    ON (d.space_no, d.app_no, d.table_no, d.bucket) = (b.space_no, b.app_no, b.table_no, b.bucket)
WHERE a.name = $1 GROUP BY s.space_id, b.table_no, b.bucket, b.records, b.digest
"""


async def ask(dsn: str, query: str, *values: Any) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(query, *values))
    finally:
        await connection.close()


async def from_scratch(dsn: str, app: str) -> dict[str, Sum]:
    """The digests of an app's spaces, from its records, the plain way."""
    found: dict[str, list[str]] = {}
    for space, table, id_, text in await ask(dsn, RECORDS, app):
        registers = json.loads(text)
        found.setdefault(space, [])
        if alive(registers):
            found[space].append(digest_of(table, id_, registers))
    return {space: sum_of(digests) for space, digests in found.items()}


@pytest.mark.parametrize("record", VECTORS["records"], ids=lambda record: record["name"])
async def test_a_record_has_the_digest_and_the_bucket_of_the_vectors(
    database: EmbeddedPostgres, record: dict[str, Any]
) -> None:
    query = "SELECT syncd.sync_digest_text(syncd.sync_digest_of($1, $2, $3::jsonb)), syncd.sync_digest_bucket($1, $2)"
    found = await ask(database.owner_dsn, query, record["table"], record["id"], json.dumps(record["registers"]))
    assert tuple(found[0]) == (record["digest"], record["bucket"])


def told(page: dict[str, Any]) -> dict[str, Sum]:
    """The digests of an answer, of the spaces that hold something."""
    return {s["spaceId"]: Sum(s["records"], s["digest"]) for s in page["spaces"]}


IDS = st.sampled_from(["a", "b", "c", "d"])
FIELDS = st.sampled_from(["x", "y", "z"])
DEVICES = st.sampled_from([0, 1])
SPACES = st.sampled_from([0, 1])


class Digested(RuleBasedStateMachine):
    """Two replicas of two users and a device without manners write to two spaces; who has read all agrees."""

    server: ClassVar[Server]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.http = httpx.Client(base_url=self.server.url, timeout=60)
        self.app = unique("app")
        users = [unique("ann"), unique("bob")]
        self.plain = Plain(self.http, self.server, users[0], "rude", app=self.app, legacy=True)
        self.users = users
        self.replicas = [
            Replica(
                self.folder / f"{user}.db", app=self.app, url=self.server.url, token=self.server.token(user),
                durability="normal", verify_every=None,
            )
            for user in users
        ]  # fmt: skip
        self.spaces: list[str] = []

    @initialize()
    def share(self) -> None:
        for _ in range(2):
            self.spaces.append(unique("space"))
            made = self.plain.request("POST", "/spaces", json={"id": self.spaces[-1], "name": "x"})
            assert made.status_code == 201
        self.join(0)
        self.join(1)

    @rule(space=SPACES)
    def join(self, space: int) -> None:
        path = f"/spaces/{self.spaces[space]}/members/{self.users[1]}"
        assert self.plain.request("PUT", path, json={"role": "writer"}).status_code == 200

    @rule(space=SPACES)
    def leave(self, space: int) -> None:
        path = f"/spaces/{self.spaces[space]}/members/{self.users[1]}"
        assert self.plain.request("DELETE", path).status_code in (204, 404)

    @rule(device=DEVICES, space=SPACES, id_=IDS, field=FIELDS, value=st.integers(0, 9))
    def write(self, device: int, space: int, id_: str, field: str, value: int) -> None:
        self.replicas[device].put("t", id_, {field: value}, space=self.spaces[space])

    @rule(device=DEVICES, space=SPACES, id_=IDS, field=FIELDS)
    def patch(self, device: int, space: int, id_: str, field: str) -> None:
        self.replicas[device].patch("t", id_, {field: "patched"}, space=self.spaces[space], upsert=True)

    @rule(device=DEVICES, space=SPACES, id_=IDS, back=st.booleans())
    def delete(self, device: int, space: int, id_: str, back: bool) -> None:
        replica = self.replicas[device]
        (replica.undelete if back else replica.delete)("t", id_, space=self.spaces[space], upsert=True)

    @rule(space=SPACES, id_=IDS, field=FIELDS, when=st.integers(1, 3), value=st.integers(0, 9))
    def tie(self, space: int, id_: str, field: str, when: int, value: int) -> None:
        """The same few stamps again and again, from a device without a clock of its own."""
        fields = {field: {"value": value, "updatedAt": at(when)}}
        change = {"table": "t", "id": id_, "op": "update", "spaceId": self.spaces[space], "fields": fields}
        assert self.plain.send(change).status_code == 200

    @rule(space=SPACES, id_=IDS)
    def insert_untimed(self, space: int, id_: str) -> None:
        change = {"table": "t", "id": id_, "op": "insert", "spaceId": self.spaces[space], "data": {"x": 1, "w": None}}
        assert self.plain.send(change).status_code == 200

    @rule(space=SPACES, id_=IDS, seconds=st.sampled_from([30, 3600]))
    def write_tomorrow(self, space: int, id_: str, seconds: int) -> None:
        """Its clock is ahead, and the stamp is lowered where it is too far."""
        fields = {"x": {"value": "ahead", "at": ahead(seconds)}}
        change = {"table": "t", "id": id_, "op": "update", "spaceId": self.spaces[space], "fields": fields}
        assert self.plain.send(change).status_code == 200

    @rule(device=DEVICES)
    def sync(self, device: int) -> None:
        self.replicas[device].sync()

    @rule(device=DEVICES)
    def compare(self, device: int) -> None:
        """Whatever has happened, a replica that has read all has what the server has."""
        found = self.replicas[device].verify()
        assert (found.differences, found.skipped) == (0, [])

    @invariant()
    def incremental_is_from_scratch(self) -> None:
        scratch = asyncio.run(from_scratch(self.server.owner_dsn, self.app))
        page = self.plain.request("GET", f"/sync/{self.app}/digest").json()
        empty = sum_of([])
        assert {s: d for s, d in told(page).items() if d != empty} == {s: d for s, d in scratch.items() if d != empty}

    def teardown(self) -> None:
        for replica in self.replicas:
            found = replica.verify()
            replica.close()
            assert (found.differences, found.skipped) == (0, [])
        self.http.close()
        shutil.rmtree(self.folder)
        for *_, records, digest, counted, combined in asyncio.run(ask(self.server.owner_dsn, FOLDED, self.app)):
            assert (records, digest) == (counted, combined)


@drawn
def test_whatever_is_written_the_digests_agree(server: Server) -> None:
    Digested.server = server
    chosen = settings(max_examples=examples(10), stateful_step_count=steps(25))
    run_state_machine_as_test(Digested, settings=chosen)  # type: ignore[no-untyped-call]


@pytest.fixture
async def ann(server: Server) -> AsyncIterator[Device]:
    async with Device(server, unique("ann"), app=unique("app")) as device:
        yield device


Check = Callable[[], Awaitable[None]]


@pytest.fixture
def agrees(server: Server, ann: Device) -> Check:
    """That what the server says is what its records say."""

    async def check() -> None:
        page = answer(await ann.http.get(f"/sync/{ann.app}/digest"))
        assert told(page) == await from_scratch(server.owner_dsn, ann.app)

    return check


@pytest.mark.parametrize("folded", [True, False])
async def test_a_record_that_is_removed_leaves_its_digest(
    server: Server, ann: Device, agrees: Check, folded: bool
) -> None:
    """Tombstones go at last: also one that was folded in while it lived."""
    await ann.push(ann.change(f"c{n}", f"r{n}", n) for n in range(20))
    await agrees()
    gone = [{"changeId": f"d{n}", "table": "items", "id": f"r{n}", "op": "delete"} for n in range(5)]
    await ann.push([{**change, "deletedAt": ann.clock()} for change in gone])
    if folded:
        await agrees()
    remove = """DELETE FROM syncd.sync_records r USING syncd.sync_names a
                WHERE a.name_no = r.app_no AND a.name = $1 AND r.deleted RETURNING r.record_id"""
    assert len(await ask(server.owner_dsn, remove, ann.app)) == 5
    await agrees()
    await ann.push([ann.change("again", "r1", 1)])
    await agrees()
    rows = await ask(server.owner_dsn, FOLDED, ann.app)
    assert sum(row["records"] for row in rows) == 16
    assert all((row["records"], row["digest"]) == (row["counted"], row["combined"]) for row in rows)


async def test_many_that_ask_at_once_fold_each_record_once(ann: Device, agrees: Check) -> None:
    for part in range(4):
        await ann.push(ann.change(f"c{part}-{n}", f"r{part}-{n}", n) for n in range(1000))

    async def asked() -> int:
        """Until all is folded in, which a busy machine leaves to a later question."""
        while (found := answer(await ann.http.get(f"/sync/{ann.app}/digest")))["unready"]:
            pass
        return int(found["spaces"][0]["records"])

    assert await asyncio.gather(*(asked() for _ in range(8))) == [4000] * 8
    await agrees()


async def test_a_digest_holds_up_nobody_who_writes(server: Server, ann: Device, agrees: Check) -> None:
    """A fold that stands still in the middle: pushes and pulls go on, and digests are told without it."""
    await ann.push(ann.change(f"c{n}", f"r{n}", n) for n in range(50))
    await agrees()
    connection = await asyncpg.connect(server.owner_dsn)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM syncd.sync_digests FOR UPDATE")
            await ann.push([ann.change("more", "r50", 1)])
            assert len((await ann.drain())[0]) == 51
            await agrees()
    finally:
        await connection.close()


async def test_a_bucket_is_compared_with_what_is_not_folded_yet(server: Server, ann: Device, agrees: Check) -> None:
    """A fold that stands still: a record that was deleted since is told to a device that has it with its old digest."""
    await ann.push([ann.change("c", "r", 1)])
    await agrees()
    (change,), since = await ann.drain()
    record = [
        "items",
        "r",
        digest_of("items", "r", {n: {"clientId": ann.client, **f} for n, f in change["fields"].items()}),
    ]
    question = {"spaceId": f"_personal:{ann.user}", "bucket": bucket_of("items", "r"), "records": [record]}
    path = f"/sync/{ann.app}/digest"
    assert answer(await ann.http.post(path, json={**question, "since": since}))["changes"] == []
    connection = await asyncpg.connect(server.owner_dsn)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM syncd.sync_digests FOR UPDATE")
            gone = {"changeId": "d", "table": "items", "id": "r", "op": "delete", "deletedAt": ann.clock()}
            await ann.push([gone])
            _, since = await ann.drain(since)
            told = answer(await ann.http.post(path, json={**question, "since": since}))
    finally:
        await connection.close()
    assert [(c["id"], c["op"]) for c in told["changes"]] == [("r", "delete")]


DIRECT = [
    "INSERT INTO syncd.sync_digests VALUES (1, 1, 1)",
    "UPDATE syncd.sync_digests SET folded = 0",
    "DELETE FROM syncd.sync_digest_records",
    "UPDATE syncd.sync_digest_records SET digest = 0",
    "INSERT INTO syncd.sync_digest_buckets VALUES (1, 1, 1, 1, 1, 1)",
    "TRUNCATE syncd.sync_digest_buckets",
]


@pytest.mark.parametrize("statement", DIRECT)
async def test_the_role_that_serves_cannot_write_them(server: Server, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ask(server.runtime_dsn, statement)


async def test_row_security_keeps_them_in_their_space(server: Server, ann: Device, agrees: Check) -> None:
    await ann.push(ann.change(f"c{n}", f"r{n}", n) for n in range(3))
    await agrees()
    counts = "SELECT (SELECT count(*) FROM syncd.sync_digests), (SELECT count(*) FROM syncd.sync_digest_records), "
    counts += "(SELECT count(*) FROM syncd.sync_digest_buckets)"
    connection = await asyncpg.connect(server.runtime_dsn)
    try:
        for user, seen in ((ann.user, (1, 3)), (unique("eve"), (0, 0)), (None, (0, 0))):
            async with connection.transaction():
                if user is not None:
                    await connection.execute("SELECT syncd.sync_act_as($1)", user)
                found = await connection.fetchrow(counts)
                assert (found[0], found[1]) == seen
                assert bool(found[2]) == bool(seen[1])
                fold = "SELECT syncd.sync_digest_fold_feed(space_no, app_no, 10) FROM syncd.sync_feeds"
                assert [row[0] for row in await connection.fetch(fold)] == [0] * seen[0]
    finally:
        await connection.close()
