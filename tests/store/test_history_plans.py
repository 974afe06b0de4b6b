"""History never scans: the plans of its statements, young, grown without statistics, and after ANALYZE."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.store.test_plans import EXPLAIN, NEVER_SCANNED, STAGES, TABLES, Node, Statement, Watched, grow
from tests.support.device import Device, answer
from tests.support.harness import Server

ROWS = 8_000
CHANGES = 60
BOUNDED = 60  # rows that a page of 50, or a record's 60 changes, may look at


@pytest.fixture(scope="module")
async def watched(workspace: Path) -> AsyncIterator[Watched]:
    """A server whose tables get no statistics by themselves."""
    with Server(workspace / "history-plans") as server:
        owner = await asyncpg.connect(server.owner_dsn)
        for setting, value in EXPLAIN.items():
            await owner.execute(f"ALTER ROLE syncd_runtime SET {setting} = '{value}'")
        for table in TABLES:
            await owner.execute(f"ALTER TABLE syncd.{table} SET (autovacuum_enabled = false)")
        await owner.close()
        server.restart()
        async with Device(server, "ann") as ann:
            for space in ("shared", *(f"other-{n}" for n in range(20))):
                await ann.create_space(space)
        yield Watched(server)


async def get(device: Device, path: str, **query: Any) -> dict[str, Any]:
    return answer(await device.http.get(path, params=query))


async def look(device: Device, record: str, head: int) -> None:
    """Every way to look into the past, and back to it."""
    address = f"/sync/notes/records/items/{record}"
    page = await get(device, f"{address}/history", spaceId="shared", limit=50)
    assert len(page["changes"]) == 50
    last = page["changes"][-1]
    older = await get(device, f"{address}/history", spaceId="shared", limit=50, before=last["seq"])
    assert len(older["changes"]) == CHANGES - 50
    await get(device, f"{address}/history", spaceId="shared", before=last["seq"] - 1)
    await get(device, address, spaceId="shared")
    for moment in ({"seq": last["seq"]}, {"at": last["createdAt"]}):
        assert (await get(device, address, spaceId="shared", **moment))["seq"] == last["seq"]
    page = await get(device, "/sync/notes/spaces/shared/at", instant=last["createdAt"], limit=50)
    if page["hasMore"]:
        await get(device, "/sync/notes/spaces/shared/at", after=page["next"], limit=50)
    for path, goal in ((f"{address}/restore?spaceId=shared", last["seq"]), ("/sync/notes/spaces/shared/restore", head)):
        answer(await device.http.post(path, json={"seq": goal, "changeId": f"{record}{goal}"}))


async def edited(device: Device, record: str) -> int:
    """Writes a record again and again, and another one between; the last seq."""
    for n in range(CHANGES):
        changes = [device.change(f"{record}-{n}-{of}", of, n, space="shared") for of in (record, f"{record}-other")]
        found = await device.push(changes)
    return int(found["results"][-1]["seq"])


async def cost(watched: Watched, device: Device, record: str) -> int:
    """The pages that a page of history touches, the least of some turns."""
    found = []
    for _ in range(3):
        watched.skip()
        await get(device, f"/sync/notes/records/items/{record}/history", spaceId="shared", limit=50)
        for _ in range(3000):
            calls = [one.pages for one in watched.statements() if "FROM syncd.sync_past(" in one.query]
            if calls:
                break
            time.sleep(0.02)  # noqa: ASYNC251  nobody else is served here
        found.append(sum(calls))
    return min(found)


@pytest.fixture(scope="module")
async def looked(watched: Watched) -> tuple[dict[str, list[Statement]], dict[str, int]]:
    """What was performed at each stage, and what a page of history cost."""
    statements, costs = {}, {}
    async with Device(watched.server, "ann") as ann:
        await look(ann, "warm", await edited(ann, "warm"))
        for n, stage in enumerate(STAGES):
            if n == 1:
                await grow(ann, "ann", ROWS, ["shared", "other-3"])
            if n == 2:
                owner = await asyncpg.connect(watched.server.owner_dsn)
                await owner.execute("ANALYZE")
                await owner.close()
            head = await edited(ann, f"r{n}")
            costs[stage] = await cost(watched, ann, f"r{n}")
            watched.skip()
            await look(ann, f"r{n}", head)
            statements[stage] = watched.statements()
    return statements, costs


Looked = tuple[dict[str, list[Statement]], dict[str, int]]


def reading(looked: Looked, stage: str, *parts: str) -> list[Node]:
    """The nodes that read a table in the statements that hold these texts."""
    found = [
        node
        for statement in looked[0][stage]
        if all(part in " ".join(statement.query.split()) for part in parts)
        for node in statement.nodes
    ]
    assert found, f"no statement with {parts}"
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_is_scanned(looked: Looked, stage: str) -> None:
    nodes = [node for statement in looked[0][stage] for node in statement.nodes]
    assert {node.table for node in nodes} >= NEVER_SCANNED
    assert [node for node in nodes if node.table in {*NEVER_SCANNED, "sync_names"} and node.kind == "Seq Scan"] == []
    for node in nodes:
        if node.table in ("sync_changes", "sync_records", "sync_names"):
            assert node.looked_at <= BOUNDED, node


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    ("parts", "table", "index", "most"),
    [
        (("SELECT h.seq, h.prev_seq, h.event_id",), "sync_changes", "sync_changes_pkey", 1),
        (("SELECT c.prev_seq",), "sync_changes", "sync_changes_pkey", 1),
        (("WITH RECURSIVE walk", "string_agg"), "sync_changes", "sync_changes_pkey", 1),
        (("SELECT q.*", "ORDER BY q.record_id LIMIT 1"), "sync_records", "sync_records_pkey", 1),
        (("SELECT q.*", "ORDER BY q.table_no, q.record_id"), "sync_records", "sync_records_pkey", 51),
        (("SELECT count(*)", "q.seq >"), "sync_records", "sync_records_touched", 4),
        (("WITH chosen AS",), "sync_records", "sync_records_touched", 4),
        (("SELECT c.created_at",), "sync_changes", "sync_changes_pkey", 1),
    ],
)
def test_row_security_keeps_the_index_and_each_step_is_one_probe(
    looked: Looked, stage: str, parts: tuple[str, ...], table: str, index: str, most: int
) -> None:
    nodes = [node for node in reading(looked, stage, *parts) if node.table == table]
    assert {node.index for node in nodes} == {index}
    assert max(node.looked_at for node in nodes) <= most


def test_a_page_of_history_costs_the_same_however_long_the_log_is(looked: Looked) -> None:
    young, *later = looked[1].values()
    assert max(later) < young * 2, looked[1]
