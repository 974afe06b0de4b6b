"""A record of many fields is fetched and unpacked once by what compares it field by field, and not for each field: a
merge of 5,000 fields took half a minute."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.harness import Server
from tests.support.wire import Device, edit, unique

FIELDS = 400
# What is written to a record came as text, and is not packed.
CALLS = (
    "sync_merge(r.held, r.new || '{}')",
    "sync_twice(r.held, r.new || '{}')",
    "sync_unseen(r.held, r.new || '{}', '[]')",
    "sync_members(r.held, r.new || '{}')",
    "sync_with_objects((r.new || '{}')::json, NULL, r.held)",
)


def registers(drawn: random.Random, stamp: int, client: str) -> dict[str, Any]:
    """Of names with a dot, and of values that do not compress."""
    at = f"2026-01-01T00:00:00.{stamp:06}Z"
    return {f"f.{n}": {"value": drawn.randbytes(40).hex(), "at": at, "clientId": client} for n in range(FIELDS)}


@pytest.mark.parametrize("call", CALLS)
async def test_a_record_is_fetched_once_and_not_for_each_field(database: EmbeddedPostgres, call: str) -> None:
    drawn = random.Random(12)
    both = json.dumps(registers(drawn, 1, "one")), json.dumps(registers(drawn, 2, "two"))
    conn = await asyncpg.connect(database.owner_dsn)
    try:
        await conn.execute("SET plan_cache_mode = force_generic_plan")  # as all that serves has it
        await conn.execute("CREATE TEMP TABLE r (held jsonb, new jsonb)")
        await conn.execute("INSERT INTO r VALUES ($1, $2)", *both)
        pages = await conn.fetchval(
            "SELECT pg_relation_size(c.reltoastrelid) / 8192 FROM pg_class c WHERE c.oid = 'r'::regclass"
        )
        assert pages > 4  # they are kept apart from their row
        explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT syncd.{call} FROM r"
        for _ in range(2):  # the first one reads catalogs too
            plan = json.loads(await conn.fetchval(explained))[0]["Plan"]
        looked_at = plan["Local Hit Blocks"] + plan["Local Read Blocks"]
        assert 0 < looked_at < 8 * pages, f"{looked_at} pages of a record of {pages}"
    finally:
        await conn.close()


FOUND = """
EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT f.* FROM syncd.sync_erase_found(
  (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = $2), NULL, 0,
  (SELECT s.space_no FROM syncd.sync_spaces s WHERE s.space_id = $1),
  (SELECT h.app_no FROM syncd.sync_feeds h JOIN syncd.sync_spaces s USING (space_no) WHERE s.space_id = $1),
  '{another}', 0, 1000) f"""
NAMES = """
INSERT INTO syncd.sync_names (name, quoted)
SELECT n, to_json(n) FROM (SELECT concat('name-', g) AS n FROM generate_series(1, 20000) g) names"""


async def test_an_erasure_fetches_a_record_once_and_not_for_each_field_and_of_all_names_those_it_needs(
    folder: Path,
) -> None:
    drawn = random.Random(12)
    with Server(folder / "data") as server, httpx.Client(base_url=server.url, timeout=60) as http:
        owner, other = (Device(http, server, unique(name)) for name in ("owner", "other"))
        space = owner.create(unique("space"))
        owner.write({**edit("r", 1, **{f"f{n}": drawn.randbytes(40).hex() for n in range(FIELDS)}), "spaceId": space})
        for turn in range(40):
            other.write(*(edit(f"r{turn}-{n}", 1, title="x") for n in range(500)))
        conn = await asyncpg.connect(server.owner_dsn)
        await conn.execute(NAMES)
        await conn.execute("ANALYZE")  # where the log is long its planner takes a page of it for long too
        await conn.execute("SET plan_cache_mode = force_generic_plan")
        for _ in range(2):
            plan = json.loads(await conn.fetchval(FOUND, space, owner.user))[0]["Plan"]
        await conn.close()
    assert plan["Actual Rows"] == 1
    assert 0 < plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 200
