"""What Citus would ask of the schema, looked up in the catalog and in the functions: where it holds, and where not.

No Citus has run here. It hashes rows by one column, the space, and keeps the tables of a space in one shard; it copies
reference tables to every machine. It refuses a unique index without that column, and a statement that does not name the
space goes to all shards. The lists below are what stands in the way. They only shrink.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import asyncpg
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.statements import statements
from tests.store.test_schema import Function, functions, without_comments

# Asked by every policy and every call, so each machine would need all of it. A write goes to every machine.
REFERENCE = {
    "sync_names": "numbers of users, apps, tables and devices, of no space",
    "sync_spaces": "found by id, and by number from every other table",
    "sync_memberships": "the policies ask for all spaces of a user",
    "sync_writable_by": "the policies ask for it, where a table has such a word",
    "sync_server": "one row",
    "sync_context_key": "one row",
    "sync_starts": "a row a start",
}
# Of a user, of a consumer or of the server: on one machine, as they are now.
APART = {
    "sync_adoptions": "of a user", "sync_blocks": "of a user", "sync_allowances": "of a user",
    "sync_devices": "of a user", "sync_cursors": "of a user: positions in all spaces together",
    "sync_held": "of a user: what may be written nowhere yet", "sync_user_usage": "of a user",
    "sync_restores": "of a user's device: which restore was asked for before, in whatever space",
    "sync_links": "looked up by the token, whatever the space", "sync_removals": "of a user",
    "sync_link_joins": "of a link",
    "sync_role_heads": "of a user", "sync_role_changes": "of a user: in all spaces together",
    "sync_quotas": "of a user, or of a space", "sync_invitations": "of a user: what is shown to whom it invites",
    "sync_membership_events": "polled as a whole", "sync_audit": "of a space, of a user or of neither",
    "sync_numbers": "of the server", "sync_leases": "of the server", "sync_migrations": "of the server",
    "sync_functions": "of the server",
    "sync_consumers": "of the server", "sync_consumer_holders": "of a consumer",
    "sync_consumer_slots": "of a consumer", "sync_consumer_feeds": "of a consumer, in all spaces together",
    "sync_webhooks": "of a consumer", "sync_webhook_dead": "of a consumer",
    "sync_service_tokens": "of a service, looked up by the token",
    "sync_table_schemas": "of the server", "sync_report_views": "of the server", "sync_report_roles": "of a login",
    "sync_projections": "of the server", "sync_projection_feeds": "of a projection, in all spaces together",
    "sync_erasures": "of a record or a user, by names", "sync_erasure_key": "of the server",
}  # fmt: skip
# Unique indexes of distributed tables without the space.
WITHOUT_THE_SPACE = {"sync_changes_once": "a change id is of a user's device, whatever the space (G3)"}
# On distributed tables Citus takes them only where it is told that each stays in its shard (enable_unsafe_triggers).
TRIGGERS = {
    "sync_guard": "asks the feed of the same space",
    "digest_forgets": "writes digests of the same space, and asks a name",
    "projections_change": "writes projections, by a feed's place in them",
    "projections_forget": "writes projections, by a feed's place in them",
    "usage_shrinks": "writes usage of the same space",
    "usage_forgets": "writes usage of the same space",
    "erased_stays": "looks at nothing but its row",
}
# Statements of pushes and pulls that name no space, and would go to all shards.
TO_ALL = {
    "sync_receipts_within": "whether a change id was used before (G3)",
    "sync_used_ids": "whether a change id was used before (G3)",
    "sync_group_write": "whether a change id was used before (G3)",
}
# Statements that take spaces from a list or from memberships: one shard only where a push or a pull is of one space.
TO_SEVERAL = {
    "sync_apply", "sync_beyond", "sync_group_lock", "sync_group_write", "sync_legacy_own_text", "sync_legacy_repeats",
    "sync_push_following", "sync_push_single", "sync_cursor_news", "sync_feeds_fitting", "sync_feeds_moved",
    "sync_behind", "sync_heads_news", "sync_joined", "sync_own_latest", "sync_small_pieces", "sync_legacy_small_pieces",
    "sync_unmoved",
}  # fmt: skip
CALLS = ("push", "push_group", "push_moving", "push_following", "pull", "peek", "unreadable")
UNIQUE = """
SELECT t.relname AS table, i.relname AS index, x.indisprimary AS key,
       ARRAY(SELECT a.attname FROM unnest(x.indkey) k
             JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k) AS columns
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
WHERE t.relnamespace = 'syncd'::regnamespace AND t.relkind IN ('r', 'p') AND x.indisunique
"""
FOREIGN = """
SELECT c.conrelid::regclass::text AS of, c.confrelid::regclass::text AS to,
       ARRAY(SELECT a.attname FROM unnest(c.conkey) k
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k) AS columns
FROM pg_constraint c WHERE c.contype = 'f' AND c.connamespace = 'syncd'::regnamespace
"""
TRIGGER = """
SELECT t.tgname AS name, t.tgrelid::regclass::text AS of FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'syncd'::regnamespace AND NOT t.tgisinternal
"""


@pytest.fixture(scope="module")
async def catalog(database: EmbeddedPostgres) -> dict[str, list[asyncpg.Record]]:
    """Unique indexes, references and triggers."""
    conn = await asyncpg.connect(database.owner_dsn)
    try:
        asked = {"unique": UNIQUE, "foreign": FOREIGN, "trigger": TRIGGER}
        return {name: await conn.fetch(sql) for name, sql in asked.items()}
    finally:
        await conn.close()


def bare(name: str) -> str:
    return name.removeprefix("syncd.")


def distributed(catalog: dict[str, list[asyncpg.Record]]) -> set[str]:
    """Tables that are in neither list."""
    return {row["table"] for row in catalog["unique"]} - REFERENCE.keys() - APART.keys()


async def test_each_table_has_a_place(catalog: dict[str, list[asyncpg.Record]]) -> None:
    tables = {row["table"] for row in catalog["unique"]}
    assert REFERENCE.keys().isdisjoint(APART)
    assert REFERENCE.keys() | APART.keys() <= tables
    keys = {row["table"]: row["columns"] for row in catalog["unique"] if row["key"]}
    assert {table for table in distributed(catalog) if "space_no" not in keys[table]} == set()
    assert {"sync_feeds", "sync_changes", "sync_records", "sync_digest_records"} <= distributed(catalog)


async def test_what_is_unique_is_so_in_a_space(catalog: dict[str, list[asyncpg.Record]]) -> None:
    without = {
        row["index"]
        for row in catalog["unique"]
        if row["table"] in distributed(catalog) and "space_no" not in row["columns"]
    }
    assert without == WITHOUT_THE_SPACE.keys()


async def test_what_is_distributed_refers_to_its_space_and_to_what_is_everywhere(
    catalog: dict[str, list[asyncpg.Record]],
) -> None:
    spread = distributed(catalog)
    for row in catalog["foreign"]:
        of, to = bare(row["of"]), bare(row["to"])
        if of in spread:
            assert to in REFERENCE or (to in spread and "space_no" in row["columns"]), row
        elif of in REFERENCE:
            assert to in REFERENCE, row
        else:
            assert to not in spread, row


async def test_the_triggers_of_what_is_distributed_are_known(catalog: dict[str, list[asyncpg.Record]]) -> None:
    assert {row["name"] for row in catalog["trigger"] if bare(row["of"]) in distributed(catalog)} == TRIGGERS.keys()


def reached() -> list[Function]:
    """The functions of pushes and pulls."""
    known = {function.name: function for function in functions()}

    def called(sql: str) -> set[str]:
        return set(re.findall(r"\bsyncd\.(\w+)\s*\(", without_comments(sql))) & known.keys()

    found, left = set[str](), {name for call in CALLS for name in called(statements()[call].sql)}
    while left:
        found |= left
        left = {name for one in left for name in called(known[one].sql)} - found
    return [known[name] for name in sorted(found)]


def rest_of_query(sql: str, start: int) -> str:
    """From a place to the end of its statement, or of the brackets that it is in."""
    depth = 0
    for place in range(start, len(sql)):
        depth += {"(": 1, ")": -1}.get(sql[place], 0)
        if depth < 0 or (depth == 0 and sql[place] == ";"):
            return sql[start:place]
    return sql[start:]


def readings(sql: str, tables: set[str]) -> Iterator[tuple[str, str]]:
    """Where a function reads or changes such a table: its alias, and what follows."""
    for found in re.finditer(r"\b(?:FROM|JOIN|UPDATE|USING)\s+syncd\.(\w+)\s+(?:AS\s+)?(\w+)", sql):
        if found[1] in tables:
            yield found[2], rest_of_query(sql, found.start())


# A parameter, a variable, or a row that a loop or a call has at hand.
ONE = r"(?:p_\w+(?:\.\w+)?|v\w*(?:\.\w+)?|sync_\w+\.space_no|[fr]\.space_no|NEW\.space_no|OLD\.space_no)(?!\w|\s*[(\[])"


def kind(alias: str, rest: str) -> str:
    """To how many shards it goes."""
    if re.search(rf"\b{alias}\.space_no\s*=\s*{ONE}", rest):
        return "one"
    names = rf"\b{alias}\.space_no\s*(?:=|IN\b)|=\s*{alias}\.space_no\b|\({alias}\.space_no\s*,[^)]*\)\s*(?:=|IN\b)"
    return "several" if re.search(names, rest) else "all"


async def test_pushes_and_pulls_name_the_space_of_what_they_read(catalog: dict[str, list[asyncpg.Record]]) -> None:
    spread, looked = distributed(catalog), 0
    found: dict[str, set[str]] = {"one": set(), "several": set(), "all": set()}
    for function in reached():
        for alias, rest in readings(without_comments(function.sql), spread):
            found[kind(alias, rest)].add(function.name)
            looked += 1
    assert looked > 50, "the statements are not found any more"
    assert found["all"] == TO_ALL.keys()
    assert found["several"] == TO_SEVERAL


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ("SELECT FROM syncd.t c WHERE c.space_no = p_space;", "one"),
        ("SELECT FROM syncd.t c WHERE c.space_no = ANY (p_spaces);", "several"),
        ("SELECT FROM unnest(p) o JOIN syncd.t c ON c.space_no = o.space_no;", "several"),
        ("SELECT (SELECT FROM syncd.t c WHERE c.seq = 1), c.space_no = p_space FROM x c;", "all"),
    ],
)
def test_a_statement_is_told_by_what_it_names(sql: str, wanted: str) -> None:
    assert [kind(alias, rest) for alias, rest in readings(sql, {"t"})] == [wanted]
