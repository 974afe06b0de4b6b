"""A look into the past reads a bounded part of the log, however often a record was changed, and is right or says that
it is not."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.direct import pushed, run
from tests.support.wire import unique

OFTEN = 60_000
# Of those, at most so many rows of the log may be read by one look.
BOUND = 50_000
# By place: which record was changed, `hot`, `cold` or `other`; and whether that also wrote its field `title`.
CHANGES = """
    INSERT INTO syncd.sync_changes (seq, push_end, prev_seq, created_at, event_id, space_no, app_no, table_no, user_no,
                                    client_no, op, record_id, fields)
    SELECT x.seq, x.seq, lag(x.seq) OVER (PARTITION BY x.r ORDER BY x.seq), clock_timestamp(), gen_random_uuid(),
           h.space_no, h.app_no, q.table_no, h.maker, q.client_no, 2, x.r,
           (jsonb_build_object('x', jsonb_build_object('value', x.seq, 'at', '2026-01-01T00:00:00.000000Z'))
            || CASE WHEN x.first THEN '{"title": {"value": "t", "at": "2026-01-01T00:00:00.000000Z"}}'::jsonb
                    ELSE '{}' END)::json
    FROM (SELECT y.*, row_number() OVER (PARTITION BY y.r ORDER BY y.seq) = 1 AS first FROM %s y) x,
         (SELECT f.space_no, f.app_no, m.user_no AS maker FROM syncd.sync_feeds f
          JOIN syncd.sync_spaces s USING (space_no) JOIN syncd.sync_memberships m USING (space_no)
          WHERE s.space_id = '%s') h,
         (SELECT table_no, client_no FROM syncd.sync_records LIMIT 1) q"""
RECORDS = """
    INSERT INTO syncd.sync_records (seq, latest, event_id, space_no, app_no, table_no, client_no, deleted, record_id,
                                    registers)
    SELECT DISTINCT ON (c.record_id) c.seq, 1767225600000000, c.event_id, c.space_no, c.app_no, c.table_no, c.client_no,
           false, c.record_id,
           (SELECT jsonb_object_agg(k, jsonb_build_object('value', CASE k WHEN 'x' THEN to_jsonb(c.seq) ELSE '"t"' END,
                                                          'at', '2026-01-01T00:00:00.000000Z', 'clientId', 'c1'))
            FROM unnest(ARRAY['x', 'title']) k)
    FROM syncd.sync_changes c JOIN syncd.sync_spaces s USING (space_no) WHERE s.space_id = '%s'
    ORDER BY c.record_id, c.seq DESC ON CONFLICT DO NOTHING"""
HEAD = """
    UPDATE syncd.sync_feeds f SET head = (SELECT max(seq) FROM syncd.sync_changes c WHERE c.space_no = f.space_no)
    FROM syncd.sync_spaces s WHERE s.space_no = f.space_no AND s.space_id = '%s'"""
READ = "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'sync_changes'"


class Past:
    """A space whose log was made, and what ann is told of it."""

    def __init__(self, database: EmbeddedPostgres) -> None:
        self.database, self.user, self.space = database, unique("ann"), unique("past")

    async def make(self, changes: str) -> None:
        """`changes`: a query of seqs and records, after the first change."""
        await run(
            self.database.owner_dsn,
            f"""DO $$ BEGIN PERFORM syncd.sync_act_as('{self.user}', true),
            syncd.sync_space_create('{self.space}', 'Space'); END $$""",
            pushed(self.user, self.space, "first"),
            CHANGES % (changes, self.space), RECORDS % self.space, HEAD % self.space,
        )  # fmt: skip

    async def look(self, what: str, **more: Any) -> tuple[Any, int]:
        """What it is told, and how many rows of the log were read."""
        call = {
            "user": self.user,
            "app": "app",
            "space": self.space,
            "what": what,
            "limit": 100,
            "bytes": 1 << 20,
            **more,
        }
        conn = await asyncpg.connect(self.database.runtime_dsn)
        try:
            async with conn.transaction():
                try:
                    async with conn.transaction():
                        found: Any = await conn.fetchrow("SELECT * FROM syncd.sync_past($1)", json.dumps(call))
                except asyncpg.PostgresError as refused:
                    found = str(refused)
                return found, await conn.fetchval(READ)
        finally:
            await conn.close()


@pytest.fixture
async def past(database: EmbeddedPostgres) -> Past:
    return Past(database)


HOT = f"(SELECT g AS seq, 'hot' AS r FROM generate_series(2, {OFTEN}) g)"


async def test_a_record_that_was_changed_often_is_found_near_the_moment(past: Past) -> None:
    await past.make(HOT)
    for seq, value in ((2, 2), (10, 10), (300, 300), (OFTEN - 1, OFTEN - 1)):
        found, read = await past.look("record", table="t", id="hot", seq=seq)
        assert json.loads(found["body"])["fields"]["x"]["value"] == value
        assert json.loads(found["body"])["seq"] == seq
        assert read < BOUND
    found, read = await past.look("record", table="t", id="hot", seq=1)
    assert found == "record_not_found"
    assert read < BOUND
    found, read = await past.look("space", seq=5)
    assert found["complete"]
    assert read < BOUND
    for before, more in ((3, False), (200, True), (OFTEN - 5, True)):
        found, read = await past.look("history", table="t", id="hot", before=before)
        assert found["more"] is more
        assert json.loads(f"[{found['body']}]")[0]["seq"] == before - 1
        assert found["complete"]
        assert read < BOUND


async def test_what_was_not_written_since_is_as_it_is_now(past: Past) -> None:
    """A field that was written long before the moment."""
    await past.make(HOT)
    found, read = await past.look("record", table="t", id="hot", seq=OFTEN - 2000)
    record = json.loads(found["body"])
    assert record["complete"]
    assert {name: field["value"] for name, field in record["fields"].items()} == {"x": OFTEN - 2000, "title": "t"}
    assert read < BOUND
    found, read = await past.look("space", seq=OFTEN - 2000)
    assert found["complete"]
    assert read < BOUND


async def test_what_is_not_found_within_bounds_is_said_to_be_missing(past: Past) -> None:
    """A field that was written long before, of a record that was changed often since."""
    await past.make(HOT)
    found, read = await past.look("record", table="t", id="hot", seq=OFTEN // 2)
    record = json.loads(found["body"])
    assert not record["complete"]
    assert {name: field["value"] for name, field in record["fields"].items()} == {"x": OFTEN // 2}
    assert read < BOUND
    found, read = await past.look("space", seq=OFTEN // 2)
    assert (found["last_id"], found["more"], found["complete"]) == ("first", True, True)
    assert read < BOUND
    found, read = await past.look("space", seq=OFTEN // 2, table="t", id="first")
    assert (found["more"], found["complete"]) == (False, False)
    assert read < BOUND


async def test_a_record_that_cannot_be_reached_is_refused(past: Past) -> None:
    others = (
        f"SELECT g, CASE WHEN g < {OFTEN} THEN 'other-' || g ELSE 'cold' END FROM generate_series(3, {2 * OFTEN}) g"
    )
    await past.make(f"(SELECT 2 AS seq, 'cold' AS r UNION ALL {others})")
    found, read = await past.look("record", table="t", id="cold", seq=OFTEN - 1)
    assert found == "history_gone"
    assert read < BOUND
    found, read = await past.look("history", table="t", id="cold", before=OFTEN - 1)
    assert found == "history_gone"
    assert read < BOUND


async def test_a_page_ends_where_its_steps_do_and_the_next_goes_on(past: Past) -> None:
    """Forty records of a thousand changes each: all of them are told, whole, in some pages."""
    await past.make("(SELECT g AS seq, 'r' || g % 40 AS r FROM generate_series(2, 40001) g)")
    seen, pages, after = list[str](), 0, dict[str, str]()
    while True:
        found, read = await past.look("space", seq=2_000, **after)
        assert found["complete"]
        assert read < BOUND
        seen += [record["id"] for record in json.loads(f"[{found['body']}]")]
        pages += 1
        if not found["more"]:
            break
        after = {"table": found["last_table"], "id": found["last_id"]}
    assert len(seen) == len(set(seen)) == 41
    assert pages > 1


async def test_a_state_of_the_past_has_registers_as_the_record_has_them(database: EmbeddedPostgres, past: Past) -> None:
    """Without what the log says of a write besides: what its writer had seen."""
    await past.make("(SELECT g AS seq, 'r' AS r FROM generate_series(2, 4) g)")
    based = """
        UPDATE syncd.sync_changes
        SET fields = jsonb_set(fields::jsonb, '{x,base}', '"2026-01-01T00:00:00.000000Z"')::json
        WHERE seq = 3 AND space_no = (SELECT space_no FROM syncd.sync_spaces WHERE space_id = '%s')"""
    await run(database.owner_dsn, based % past.space)
    found, _ = await past.look("record", table="t", id="r", seq=3)
    assert set(json.loads(found["body"])["fields"]["x"]) == {"value", "at", "clientId"}
