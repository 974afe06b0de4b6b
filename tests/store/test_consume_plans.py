"""What consumers ask never goes through the log or the state: by index, under row security, on young tables too."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.migrate import migrate
from syncd.store.consumers import ConsumedPlace, ConsumerOperator, ConsumerSession
from tests.support.direct import run

FEEDS, CHANGES = 300, 20
FILL = """
INSERT INTO syncd.sync_names (name, quoted) SELECT n, to_json(n)::text FROM unnest(ARRAY['app', 't', 'c1', 'ada']) AS n;
INSERT INTO syncd.sync_spaces (space_id, quoted, name)
SELECT concat('s', g), to_json(concat('s', g))::text, 's' FROM generate_series(1, {feeds}) AS g;
INSERT INTO syncd.sync_feeds (space_no, app_no, head, written_at, boots, bases)
SELECT s.space_no, 1, {changes}, now(), ARRAY[now()], ARRAY[0] FROM syncd.sync_spaces s;
SET session_replication_role = replica;
INSERT INTO syncd.sync_changes (seq, push_end, created_at, event_id, space_no, app_no, table_no, user_no, client_no, op,
                                record_id, fields)
SELECT g, g, now(), gen_random_uuid(), s.space_no, 1, 2, 4, 3, 1, concat('r', g), '{{"x": {{"value": 1, "at": "y"}}}}'
FROM syncd.sync_spaces s, generate_series(1, {changes}) AS g;
INSERT INTO syncd.sync_records (seq, latest, event_id, space_no, app_no, table_no, client_no, deleted, record_id,
                                registers)
SELECT c.seq, 1, c.event_id, c.space_no, 1, 2, 3, false, c.record_id, c.fields::jsonb FROM syncd.sync_changes c;
RESET session_replication_role
"""
EXPLAIN = """
LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on;
SET auto_explain.log_format = json; SET auto_explain.log_analyze = on; SET auto_explain.log_timing = off;
SET auto_explain.log_level = 'notice'
"""


@pytest.fixture(scope="module", params=["young", "analysed"])
async def filled(database: EmbeddedPostgres, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A database with some feeds, without statistics or with them."""
    name = f"plans_{os.urandom(4).hex()}"
    await run(database.dsn("postgres", "postgres"), f"CREATE DATABASE {name}")
    dsn = database.dsn("postgres", name)
    await migrate(dsn, say=lambda text: None)
    connection = await asyncpg.connect(dsn)
    await connection.execute(FILL.format(feeds=FEEDS, changes=CHANGES))
    if request.param == "analysed":
        await connection.execute("ANALYZE")
    await connection.close()
    yield dsn
    await run(database.dsn("postgres", "postgres"), f"DROP DATABASE {name} WITH (FORCE)")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


@pytest.mark.parametrize("begins", ["beginning", "state"])
async def test_a_reading_looks_at_what_it_hands_out(filled: str, begins: str) -> None:
    connection, said = await asyncpg.connect(filled), list[str]()
    await ConsumerOperator(connection).add(begins, "syncd_consumer", None, None, begins)
    session = ConsumerSession(connection, begins, uuid4())
    await session.lease(60, True)
    news = await session.look(50)
    connection.add_log_listener(lambda _, message: said.append(message.message))
    await connection.execute(EXPLAIN)
    parts = await session.read(news, 50 * CHANGES, 1 << 20)
    await session.ack([ConsumedPlace(news[part.k - 1], part.upto, part.base) for part in parts])
    found = await session.look_at([one.key for one in news])
    await connection.close()
    assert (len(parts), found) == (50, [])
    plans = [json.loads(text[text.index("{") :])["Plan"] for text in said if "{" in text]
    read = [node for plan in plans for node in nodes(plan) if "Relation Name" in node]
    scanned = {node["Relation Name"] for node in read if node["Node Type"] == "Seq Scan" and node["Actual Loops"]}
    assert not scanned & {"sync_changes", "sync_records", "sync_feeds", "sync_names", "sync_spaces"}
    table, index = {"beginning": ("sync_changes", "pkey"), "state": ("sync_records", "touched")}[begins]
    used = {node["Index Name"] for node in read if node["Relation Name"] == table and node["Actual Loops"]}
    assert used == {f"{table}_{index}"}


async def test_a_reading_takes_as_many_statements_for_many_feeds_as_for_one(filled: str) -> None:
    connection, said = await asyncpg.connect(filled), list[str]()
    name = f"many-{os.urandom(4).hex()}"
    await ConsumerOperator(connection).add(name, "syncd_consumer", None, None, "beginning")
    session = ConsumerSession(connection, name, uuid4())
    await session.lease(60, True)
    news = await session.look(50)
    connection.add_log_listener(lambda _, message: said.append(message.message))
    await connection.execute(EXPLAIN)
    counts = []
    for feeds in (news[:1], news[:1], news):  # at first there is more to say
        said.clear()
        assert len(await session.read(feeds, 50 * CHANGES, 1 << 20)) == len(feeds)
        await connection.fetchval("SELECT 1")  # what is said before is heard by now
        counts.append(len(said))
    await connection.close()
    assert counts[1] == counts[2] > 1
