"""Pushing and pulling never scan: the plans of every statement of real requests, as auto_explain writes them down.

The tables are looked at when they are young and have no statistics, when they have grown to thousands of
rows and still have none, and after ANALYZE. What a call costs is counted in rows and pages, never in time.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest

from syncd.postgres.statements import statements
from tests.support.device import Device, answer, statuses
from tests.support.harness import Server

ROWS = 6_000
STAGES = ("young", "grown without statistics", "grown and analysed")
NEVER_SCANNED = {"sync_changes", "sync_records", "sync_feeds", "sync_memberships"}
# For the role that serves, in the server's log: as it happens, inside every function.
EXPLAIN = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_format": "json",
}
TABLES = ("sync_names", "sync_spaces", "sync_memberships", "sync_feeds", "sync_changes", "sync_records")
PLAN = re.compile(r"\[(\d+)\] LOG:.* plan:\n((?:\t.*\n)+)")
COUNT = "SELECT syncd.sync_usage_look($1, $2, 1000, false)"
CALLS = {COUNT, *(call.sql for call in statements().values())}
# What a worker asks now and then: it is chance whether it does so while a test looks.
BY_ITSELF = {
    statements()[name].sql
    for name in (
        "usage_look", "quota_over", "quota_rates", "audit_count", "held_number", "held_due", "held_waiting",
        "held_with_room", "heads", "feeds_of", "membership_news", "still_members", "consumer_lags", "webhook_counts",
        "projections_fill", "projections_step", "projection_lags",
    )
}  # fmt: skip


class Node(NamedTuple):
    """One node of a plan that reads a table: how, by which index, and how many rows it looked at in one go."""

    kind: str
    table: str
    index: str
    looked_at: float
    pages: int
    query: str


class Statement(NamedTuple):
    """One statement as it was performed."""

    query: str
    nodes: list[Node]
    pages: int


def nodes_of(plan: dict[str, Any], query: str) -> Iterator[Node]:
    """The nodes of a plan that read a table."""
    if plan["Node Type"] != "ModifyTable" and ("Relation Name" in plan or "Index Name" in plan):
        looked_at = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
        pages = plan.get("Shared Hit Blocks", 0) + plan.get("Shared Read Blocks", 0)
        yield Node(
            plan["Node Type"], plan.get("Relation Name", ""), plan.get("Index Name", ""), looked_at, pages, query
        )
    for child in plan.get("Plans", []):
        yield from nodes_of(child, query)


class Watched:
    """A server whose statements are explained into its database's log."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._log = server.data_dir / "postgres.log"
        self._read = 0
        self._inside: dict[str, list[Statement]] = {}

    def _written(self) -> bytes:
        """What the log has since the last call."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            text, end, _ = log.read().rpartition(b"\n\t}\n")  # the last one may be half written
            self._read += len(text + end)
        return text + end

    def skip(self) -> None:
        """Leaves what was performed so far unread: it is much where a table was filled."""
        self._written()
        self._inside.clear()

    def statements(self) -> list[Statement]:
        """What was performed since the last call, but for what a worker asks by itself."""
        found = []
        for session, explained in PLAN.findall(self._written().decode()):
            try:
                one = json.loads(explained.replace("\n\t", "\n"))
            except ValueError as why:
                raise AssertionError(f"{why}:\n{explained}") from None
            plan, query = one["Plan"], one["Query Text"]
            pages = plan.get("Shared Hit Blocks", 0) + plan.get("Shared Read Blocks", 0)
            inside = self._inside.setdefault(session, [])
            inside.append(Statement(query, list(nodes_of(plan, query)), pages))
            if query in CALLS:  # it ends after all that is performed inside it
                found += [] if query in BY_ITSELF else inside
                inside.clear()
        return found

    def cost(self) -> int:
        """The pages that the calls since the last time touched, everything inside them included."""
        for _ in range(3000):
            calls = [statement for statement in self.statements() if "FROM syncd.sync_pu" in statement.query]
            if calls:
                return sum(call.pages for call in calls)
            time.sleep(0.02)
        raise AssertionError("the call was not explained")


async def counted(watched: Watched, device: Device) -> None:
    """What the server does behind pushes every few seconds, done now: it is at every stage, not at some."""
    runtime = await asyncpg.connect(watched.server.runtime_dsn)
    await runtime.execute(COUNT, ["shared", "other-3"], [device.app] * 2)
    await runtime.close()


async def grow(device: Device, name: str, count: int, spaces: list[str]) -> None:
    """Fills feeds with records."""
    for start in range(0, count, 1000):
        space = spaces[start // 1000 % len(spaces)]
        ids = [f"{name}-{n}" for n in range(start, min(start + 1000, count))]
        await device.push([device.change(i, i, i, space=space) for i in ids])


async def traffic(device: Device, name: str) -> None:
    """Everything a device does, on what is there."""
    one = device.change(f"{name}-one", f"{name}-one", 1, space="shared")
    many = [device.change(f"{name}-{n}", f"{name}-{n % 40}", n, space="shared") for n in range(60)]
    older = device.change(f"{name}-older", f"{name}-one", 2, space="shared", at="2020-01-01T00:00:00Z")
    both = [device.change(f"{name}-both-{n}", "both", n, space=space) for n, space in enumerate(("shared", ""))]
    personal = device.change(f"{name}-personal", f"{name}-one", 1)
    assert statuses(await device.push([one])) == ["applied"]
    assert statuses(await device.push([{**one, "changeId": f"{name}-again"}])) == ["applied"]
    assert statuses(await device.push([older])) == ["superseded"]
    assert statuses(await device.push([one])) == ["duplicate"]
    assert statuses(await device.push(many)) == ["applied"] * 60
    assert statuses(await device.push(many)) == ["duplicate"] * 60
    assert statuses(await device.push([*both, personal])) == ["applied"] * 3
    await device.pull(limit=50)
    await device.pull(limit=50, collection="items,other")
    page = await device.pull(limit=50, history=1)
    await device.pull(page["syncedUntil"], limit=50)
    for since in ("", page["syncedUntil"]):
        old = {"params": {"since": since, "limit": 50}, "headers": {"X-Sync-Protocol": ""}}
        answer(await device.http.get(f"/sync/{device.app}/pull", **old))
    await device.pull("2026-01-01T00:00:00Z", limit=50)
    _, end = await device.drain(limit=1000)
    await device.pull(end)
    await device.push([device.change(f"{name}-late", "late", 1, space="shared")])
    assert len((await device.pull(end))["serverChanges"]) == 1
    await device.push([device.change(f"{name}-last", "last", 1, space="shared")], since=end, pull=True)


@pytest.fixture(scope="module")
async def watched(workspace: Path) -> AsyncIterator[Watched]:
    """A server with a space of two members, whose tables get no statistics by themselves."""
    with Server(workspace / "plans") as server:
        owner = await asyncpg.connect(server.owner_dsn)
        for setting, value in EXPLAIN.items():
            await owner.execute(f"ALTER ROLE syncd_runtime SET {setting} = '{value}'")
        for table in TABLES:
            await owner.execute(f"ALTER TABLE syncd.{table} SET (autovacuum_enabled = false)")
        await owner.close()
        server.restart()
        async with Device(server, "ann") as ann:
            for space in ("shared", *(f"other-{n}" for n in range(20))):
                await ann.create_space(space, bob="writer")
        yield Watched(server)


class Costs(NamedTuple):
    """Pages touched by a push of 1 and of 100 new records, and by an idle pull."""

    one: int
    hundred: int
    idle: int


async def costs(watched: Watched, device: Device, name: str) -> Costs:
    """The least of some turns after the first: what a session reads once, and after each ANALYZE, is not meant."""
    found, end = list[Costs](), ""
    for turn in range(5):
        pages = []
        for size in (1, 100):
            records = [f"{name}-{turn}-{size}-{n}" for n in range(size)]
            watched.skip()
            await device.push([device.change(i, i, 1, space="shared") for i in records])
            pages.append(watched.cost())
        _, end = await device.drain(end, limit=1000)
        await device.pull(end)
        watched.skip()
        await device.pull(end)
        found.append(Costs(*pages, watched.cost()))
    return Costs(*map(min, zip(*found[1:], strict=True)))


class Looked(NamedTuple):
    """What was performed at each stage, and what it cost."""

    statements: dict[str, list[Statement]]
    costs: dict[str, Costs]


@pytest.fixture(scope="module")
async def looked(watched: Watched) -> Looked:
    """Traffic at every stage."""
    found = Looked({}, {})
    async with Device(watched.server, "ann") as ann, Device(watched.server, "bob", "bobs") as bob:
        await traffic(ann, "warm")
        for stage in STAGES:
            if stage == STAGES[1]:
                await grow(bob, "bob", ROWS, ["shared", "other-3", ""])
                await grow(ann, "ann", ROWS // 2, ["shared", ""])
            if stage == STAGES[2]:
                owner = await asyncpg.connect(watched.server.owner_dsn)
                # It also makes every session forget the plans it has.
                await owner.execute("ANALYZE")
                await owner.close()
            watched.skip()
            await traffic(ann, stage)
            await counted(watched, ann)
            found.statements[stage] = watched.statements()
            found.costs[stage] = await costs(watched, ann, stage)
    return found


def reading(looked: Looked, stage: str, *parts: str) -> list[Node]:
    """The nodes that read a table in the statements that hold these texts."""
    found = [
        node
        for statement in looked.statements[stage]
        if all(part in " ".join(statement.query.split()) for part in parts)
        for node in statement.nodes
    ]
    assert found, f"no statement with {parts}"
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_is_scanned(looked: Looked, stage: str) -> None:
    nodes = [node for statement in looked.statements[stage] for node in statement.nodes]
    assert len({node.query for node in nodes}) > 15
    assert {node.table for node in nodes} >= NEVER_SCANNED
    scans = [node for node in nodes if node.table in NEVER_SCANNED and node.kind == "Seq Scan"]
    assert scans == []


@pytest.mark.parametrize("stage", STAGES)
def test_no_index_is_walked_from_end_to_end_and_filtered(looked: Looked, stage: str) -> None:
    # Pages have at most 1,000 rows, and the push that crosses the limit another 1,000.
    for statement in looked.statements[stage]:
        for node in statement.nodes:
            if node.table in ("sync_changes", "sync_records"):
                assert node.looked_at <= 2_100, node
            if node.table in ("sync_feeds", "sync_memberships"):
                assert node.looked_at <= 25, node


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    ("parts", "table", "index"),
    [
        (("WITH incoming",), "sync_records", "sync_records_pkey"),
        (("SELECT q.registers", "ORDER BY q.record_id LIMIT 1"), "sync_records", "sync_records_pkey"),
        (("h.change_id = i.change_id",), "sync_changes", "sync_changes_once"),
        (("string_agg", "FROM syncd.sync_records r"), "sync_records", "sync_records_touched"),
        (("string_agg", "FROM syncd.sync_changes c"), "sync_changes", "sync_changes_pkey"),
        (("UPDATE syncd.sync_feeds",), "sync_feeds", "sync_feeds_pkey"),
    ],
)
def test_row_security_keeps_the_index(
    looked: Looked, stage: str, parts: tuple[str, ...], table: str, index: str
) -> None:
    indexes = {node.index for node in reading(looked, stage, *parts) if node.table == table}
    assert indexes == {index}


@pytest.mark.parametrize("stage", STAGES)
def test_a_pushs_probe_for_what_is_there_looks_at_one_row_a_change(looked: Looked, stage: str) -> None:
    for node in reading(looked, stage, "WITH incoming"):
        if node.index == "sync_records_pkey":
            assert node.looked_at <= 1, node


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    ("function", "table"), [("sync_legacy_log(", "sync_records"), ("sync_legacy_state(", "sync_changes")]
)
def test_the_first_generation_costs_one_probe_a_change_more(
    looked: Looked, stage: str, function: str, table: str
) -> None:
    nodes = [node for node in reading(looked, stage, "(SELECT l.piece", function) if node.table == table]
    assert {node.index for node in nodes} == {f"{table}_pkey"}
    assert all(node.looked_at <= 1 for node in nodes), nodes


@pytest.mark.parametrize("stage", STAGES)
def test_a_receipt_is_found_by_one_probe_an_id(looked: Looked, stage: str) -> None:
    for node in reading(looked, stage, "h.change_id = i.change_id"):
        if node.table == "sync_changes":
            assert node.looked_at <= 1, node


def test_a_push_costs_the_same_however_long_the_log_is(looked: Looked) -> None:
    young, grown, analysed = (looked.costs[stage] for stage in STAGES)
    for later in (grown, analysed):
        # Trees are a level or two higher.
        assert later.one < young.one * 2, looked.costs
        assert later.hundred < young.hundred * 2, looked.costs


def test_a_push_costs_as_much_as_it_is_large(looked: Looked) -> None:
    for cost in looked.costs.values():
        assert cost.hundred < 100 * cost.one


def test_an_idle_pull_costs_the_same_however_long_the_log_is(looked: Looked) -> None:
    young, grown, analysed = (looked.costs[stage] for stage in STAGES)
    assert max(grown.idle, analysed.idle) < young.idle * 2, looked.costs
