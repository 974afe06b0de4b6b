"""A digest looks at what was touched and at sums, never at all records, with statistics and without."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from tests.store.test_plans import EXPLAIN, STAGES, Node, Statement, Watched, grow
from tests.support.device import Device, answer
from tests.support.harness import Server

ROWS = 8_000
TOUCHED = 60
DIGESTS = ("sync_digests", "sync_digest_records", "sync_digest_buckets")
LOOKED_AT = {"sync_records", "sync_digest_records", "sync_digest_buckets", "sync_names"}
# The sums of a feed are 256 rows; a bucket of 8,000 records in two feeds has some 16.
BOUNDED = 256


@pytest.fixture(scope="module")
async def watched(workspace: Path) -> AsyncIterator[Watched]:
    """A server whose tables get no statistics by themselves."""
    with Server(workspace / "digest-plans") as server:
        owner = await asyncpg.connect(server.owner_dsn)
        for setting, value in EXPLAIN.items():
            await owner.execute(f"ALTER ROLE syncd_runtime SET {setting} = '{value}'")
        for table in (*DIGESTS, "sync_records", "sync_names", "sync_changes", "sync_feeds"):
            await owner.execute(f"ALTER TABLE syncd.{table} SET (autovacuum_enabled = false)")
        await owner.close()
        server.restart()
        async with Device(server, "ann") as ann:
            await ann.create_space("shared")
            await ann.create_space("other")
        yield Watched(server)


async def ask(device: Device, name: str) -> None:
    """All that is asked about digests, of a feed that was just written to."""
    await device.push(device.change(f"{name}-{n}", f"{name}-{n}", n, space="shared") for n in range(TOUCHED))
    await device.push(
        [{**device.change(f"{name}-x", f"{name}-0", 1, space="shared"), "op": "delete", "deletedAt": device.clock()}]
    )
    _, cursor = await device.drain()
    path = "/sync/notes/digest"
    found = answer(await device.http.get(path, params={"since": cursor}))
    assert {space["spaceId"] for space in found["spaces"]} == {"shared", "other"}
    answer(await device.http.get(path, params={"since": cursor, "spaceId": "shared"}))
    for records in ([], [["items", f"{name}-1", "0" * 16], ["nowhere", "x", "0" * 16]]):
        body = {"since": cursor, "spaceId": "shared", "bucket": 5, "records": records}
        answer(await device.http.post(path, json=body))


async def folded(device: Device) -> None:
    """Asks until all is folded in: a server that is ready may leave one fold's worth to the next question."""
    while answer(await device.http.get("/sync/notes/digest"))["unready"]:
        pass
    answer(await device.http.get("/sync/notes/digest"))


@pytest.fixture(scope="module")
async def looked(watched: Watched) -> dict[str, list[Statement]]:
    """What was performed at each stage."""
    statements = {}
    async with Device(watched.server, "ann") as ann:
        await ask(ann, "warm")
        for n, stage in enumerate(STAGES):
            if n == 1:
                await grow(ann, "ann", ROWS, ["shared", "other"])
                await folded(ann)
            if n == 2:
                owner = await asyncpg.connect(watched.server.owner_dsn)
                await owner.execute("ANALYZE")
                await owner.close()
            watched.skip()
            await ask(ann, f"r{n}")
            statements[stage] = watched.statements()
    return statements


def nodes_of(statements: list[Statement]) -> list[Node]:
    """Those that read a table for a digest."""
    return [node for statement in statements if "sync_digest" in statement.query for node in statement.nodes]


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_is_scanned(looked: dict[str, list[Statement]], stage: str) -> None:
    nodes = nodes_of(looked[stage])
    assert {node.table for node in nodes} >= LOOKED_AT
    assert [node for node in nodes if node.table in LOOKED_AT and node.kind == "Seq Scan"] == []
    for node in nodes:
        if node.table in LOOKED_AT:
            assert node.looked_at <= BOUNDED, node


def test_digests_cost_no_more_when_there_is_more(looked: dict[str, list[Statement]]) -> None:
    """Those of all spaces, and of one with its buckets, whose sums are at most 256 rows."""
    calls = {stage: [one.pages for one in looked[stage] if "FROM syncd.sync_digest(" in one.query] for stage in STAGES}
    young, *grown = (sum(calls[stage][:2]) for stage in STAGES)
    # A row of the sums is one visit to a page, and some to its index, for each of the two calls and their retries.
    assert max(grown) <= young + 4 * 256, (young, grown)


async def test_a_push_does_nothing_for_it(watched: Watched) -> None:
    async with Device(watched.server, "ann", "writer") as ann:
        await ann.push([ann.change("names", "known", 1, space="shared")])
        watched.skip()
        await ann.push([ann.change("one", "known", 2, space="shared")])
        await ann.push(ann.change(f"many-{n}", f"many-{n}", n, space="shared") for n in range(10))
        performed = watched.statements()
    assert any("FROM syncd.sync_push(" in one.query for one in performed)
    assert [one.query for one in performed if "digest" in one.query] == []
