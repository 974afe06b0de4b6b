"""What SQL as the role that serves gets without acting as anybody; docs/operate/security.md says what it amounts to."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from typing import NamedTuple

import asyncpg
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.direct import pushed, run

# What runs with the owner's power and may be called: what does nothing without an acting user, or acts as the one it is
# given …
OF_A_USER = {
    "sync_act_as", "sync_act_as_number", "sync_adopt", "sync_advance", "sync_block", "sync_block_list",
    "sync_cursor_prune",
    "sync_digest_fold_feed", "sync_enter",
    "sync_invitation_accept", "sync_invitation_decline", "sync_invitation_list", "sync_make_spaces", "sync_member_add",
    "sync_member_list", "sync_member_put", "sync_member_remove", "sync_names_add", "sync_names_left",
    "sync_personal_space", "sync_receipts", "sync_receipts_within", "sync_used_ids", "sync_rules_repeats",
    "sync_restored_before", "sync_role_in", "sync_roster", "sync_space_create", "sync_space_delete", "sync_space_make",
    "sync_space_put_back", "sync_space_restore", "sync_unblock", "sync_quota_device", "sync_quota_of",
    "sync_audit_say", "sync_import_same", "sync_push_together", "sync_erase_ask", "sync_space_rename", "sync_link_make",
    "sync_link_list", "sync_link_withdraw", "sync_link_join", "sync_roles_next",
}  # fmt: skip
# … triggers' …
OF_TRIGGERS = {"sync_guard", "sync_note_members"}
# … and what answers whoever calls, as the page lists it. {s}: a space's number, {u}: a user's, {n}: the space's id.
OF_NOBODY = {
    "sync_gone": "SELECT * FROM syncd.sync_gone(ARRAY[{s}])",
    "sync_heads": "SELECT syncd.sync_heads(ARRAY[{s}], ARRAY['app'])",
    "sync_feeds_of": "SELECT * FROM syncd.sync_feeds_of(ARRAY[{s}])",
    "sync_still_members": "SELECT * FROM syncd.sync_still_members({s}, ARRAY[{u}])",
    "sync_membership_news": "SELECT * FROM syncd.sync_membership_news('3')",
    "sync_spaces_named": "SELECT syncd.sync_spaces_named(ARRAY['{n}'])",
    "sync_is_strange": "SELECT syncd.sync_is_strange(now(), ARRAY[{s}])",
    "sync_numbers_make": "SELECT syncd.sync_numbers_make('name', 1)",
    "sync_numbers_used": "SELECT syncd.sync_numbers_used()",
    "sync_start": "SELECT syncd.sync_start()",
    "sync_held_due": "SELECT * FROM syncd.sync_held_due(NULL)",
    "sync_held_waiting": "SELECT * FROM syncd.sync_held_waiting(0, 20)",
    "sync_held_count": "SELECT * FROM syncd.sync_held_count()",
    "sync_held_number": "SELECT syncd.sync_held_number()",
    "sync_audit_count": "SELECT syncd.sync_audit_count('[]')",
    "sync_held_with_room": "SELECT * FROM syncd.sync_held_with_room('{{}}')",
    "sync_usage_look": "SELECT syncd.sync_usage_look(ARRAY['{n}'], ARRAY['app'], 10, true)",
    "sync_quota_over": "SELECT * FROM syncd.sync_quota_over('{{}}')",
    "sync_webhook_counts": "SELECT * FROM syncd.sync_webhook_counts()",
    "sync_consumer_lags": "SELECT * FROM syncd.sync_consumer_lags()",
    "sync_projections_fill": "SELECT syncd.sync_projections_fill(NULL, 10)",
    "sync_projections_step": "SELECT * FROM syncd.sync_projections_step(NULL, 10)",
    "sync_projection_lags": "SELECT * FROM syncd.sync_projection_lags()",
    "sync_service_token": "SELECT * FROM syncd.sync_service_token(sha256('no token'))",
    "sync_schemas_mark": "SELECT syncd.sync_schemas_mark()",
    "sync_schemas_in_force": "SELECT * FROM syncd.sync_schemas_in_force()",
    "sync_session": "SELECT * FROM syncd.sync_session()",
    "sync_context_kind": "SELECT syncd.sync_context_kind()",
    "sync_was_erased": "SELECT syncd.sync_was_erased('{n}', 'app', 't', 'r')",
    "sync_quota_rates": "SELECT * FROM syncd.sync_quota_rates()",
}
REFUSED = [
    "SELECT * FROM syncd.sync_member_list('{n}')",
    "SELECT syncd.sync_member_put('{n}', 'eve', 'owner')",
    "SELECT syncd.sync_member_remove('{n}', 'eve')",
    "SELECT * FROM syncd.sync_role_in('{n}', false)",
    "SELECT * FROM syncd.sync_roster('{n}')",
    "SELECT * FROM syncd.sync_member_add('{n}', 'eve', 'owner', false, NULL)",
    "SELECT * FROM syncd.sync_invitation_accept('{n}', NULL)",
    "SELECT syncd.sync_invitation_decline('{n}')",
    "SELECT syncd.sync_block('eve', NULL)",
    "SELECT * FROM syncd.sync_space_rename('{n}', 'x', NULL)",
    "SELECT * FROM syncd.sync_link_make('{n}', sha256('x'), 'reader', 1, 60, NULL)",
    "SELECT * FROM syncd.sync_link_list('{n}')",
    "SELECT syncd.sync_link_withdraw('{n}', 'x')",
    "SELECT * FROM syncd.sync_link_join(sha256('x'), NULL)",
    "SELECT syncd.sync_space_make('of-nobody', 'x', NULL)",
    "SELECT syncd.sync_space_delete('{n}')",
    "SELECT syncd.sync_advance({s}, 1, 1)",
    "SELECT syncd.sync_personal_space()",
    "SELECT syncd.sync_space_create('of-nobody', 'x')",
]


class Space(NamedTuple):
    """A space with one record in it, and its owner, by their numbers."""

    name: str
    number: int
    user: int
    value: str
    owner: str

    def filled(self, query: str) -> str:
        return query.format(s=self.number, u=self.user, n=self.name)


@pytest.fixture
async def space(database: EmbeddedPostgres) -> Space:
    who, value = f"u{os.urandom(4).hex()}", f"canary-{os.urandom(8).hex()}"
    name = f"{who}-s"
    await run(
        database.runtime_dsn,
        f"DO $$ BEGIN PERFORM syncd.sync_act_as('{who}', true), syncd.sync_space_create('{name}', 'Space'); END $$",
        pushed(who, name, "r", value),
    )
    numbers = f"""
        SELECT s.space_no, n.name_no, r.registers #>> '{{x,value}}'
        FROM syncd.sync_spaces s, syncd.sync_names n, syncd.sync_records r
        WHERE s.space_id = '{name}' AND n.name = '{who}' AND r.space_no = s.space_no"""
    [(number, user, stored)] = await run(database.owner_dsn, numbers)
    assert stored == value
    return Space(name, number, user, value, who)


@pytest.fixture
async def nobody(database: EmbeddedPostgres) -> AsyncIterator[asyncpg.Connection]:
    """A session of the role that serves, which acts as no user."""
    conn = await asyncpg.connect(database.runtime_dsn)
    yield conn
    await conn.close()


async def test_each_function_with_the_owner_s_power_is_known(database: EmbeddedPostgres) -> None:
    """A new one belongs in one of the lists above, and on the page if it answers nobody."""
    query = """
        SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'syncd'::regnamespace AND p.prosecdef
        AND has_function_privilege('syncd_runtime', p.oid, 'EXECUTE')"""
    assert {row[0] for row in await run(database.owner_dsn, query)} == OF_A_USER | OF_TRIGGERS | OF_NOBODY.keys()


@pytest.mark.parametrize("query", OF_NOBODY.values(), ids=OF_NOBODY)
async def test_what_answers_nobody_tells_no_value_and_writes_none(
    nobody: asyncpg.Connection, space: Space, query: str
) -> None:
    told = str([tuple(row) for row in await nobody.fetch(space.filled(query))])
    assert told != "[]" or any(
        word in query for word in ("held", "quota", "service", "consumer", "webhook", "schemas", "projection")
    )
    assert space.value not in told


@pytest.mark.parametrize("query", REFUSED)
async def test_nobody_changes_and_sees_no_members(nobody: asyncpg.Connection, space: Space, query: str) -> None:
    with pytest.raises(asyncpg.PostgresError):
        await nobody.fetch(space.filled(query))


async def test_which_tables_the_serving_role_can_keep_from_others(
    database: EmbeddedPostgres, nobody: asyncpg.Connection
) -> None:
    """LOCK TABLE in its strongest form needs UPDATE or DELETE on the whole table."""
    names = "SELECT relname FROM pg_class WHERE relnamespace = 'syncd'::regnamespace AND relkind = 'r'"
    locked = set()
    for (table,) in await run(database.owner_dsn, names):
        try:
            async with nobody.transaction():
                await nobody.execute(f"LOCK TABLE syncd.{table} IN ACCESS EXCLUSIVE MODE")
            locked.add(table)
        except asyncpg.InsufficientPrivilegeError:
            pass
    assert locked == {"sync_presence", "sync_held"}


async def test_a_large_object_is_its_maker_s_alone(database: EmbeddedPostgres, nobody: asyncpg.Connection) -> None:
    made = await nobody.fetchval("SELECT lo_from_bytea(0, 'x')")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await run(database.dsn("syncd_compactor"), f"SELECT lo_get({made})")
    await nobody.execute(f"SELECT lo_unlink({made})")


async def test_a_writer_gives_back_only_what_is_not_written(nobody: asyncpg.Connection, space: Space) -> None:
    head_of, advance = (
        "SELECT app_no, head FROM syncd.sync_feeds WHERE space_no = $1",
        "SELECT base FROM syncd.sync_advance($1, $2, $3)",
    )

    async def take(*counts: int) -> list[int]:
        async with nobody.transaction():
            await nobody.execute("SELECT syncd.sync_act_as_number($1)", str(space.user))
            [(app, head)] = await nobody.fetch(head_of, space.number)
            assert head == 1
            bases = [await nobody.fetchval(advance, space.number, app, count) for count in counts]
            assert (await nobody.fetch(head_of, space.number))[0][1] == 1
            return bases

    assert await take(3, -2, -1) == [1, 4, 2]
    for counts in ((-1,), (3, -4), (-(2**31),)):
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await take(*counts)


async def test_whether_a_change_is_there_is_told_of_own_changes_alone(
    nobody: asyncpg.Connection, space: Space, database: EmbeddedPostgres
) -> None:
    """An import has to know which change ids are taken: those of its user's devices."""
    push = pushed(space.owner, space.name, "named").replace('"ids": [null]', '"ids": ["k1"]')
    await run(database.runtime_dsn, push.replace('"r": "named"', '"r": "named", "c": "k1"'))
    owner = await asyncpg.connect(database.owner_dsn)
    found = await owner.fetchrow(
        """
        SELECT c.user_no, c.client_no, c.space_no, c.app_no, c.table_no, c.event_id, c.record_id, c.op, c.fields
        FROM syncd.sync_changes c WHERE c.space_no = $1 AND c.change_id = 'k1'""",
        space.number,
    )
    await owner.close()
    asked = """
        SELECT s.i, s.same FROM syncd.sync_import_same(
            $1, $2, $3, ARRAY[1], ARRAY[$4::uuid], ARRAY['k1'], ARRAY[1], ARRAY[2], ARRAY['a'], ARRAY[$5::json]) s"""
    wave = [{"i": 1, "t": 3, "r": found["record_id"], "o": found["op"], "f": json.loads(found["fields"])}]
    names = [found["user_no"], found["client_no"], found["table_no"]]
    arguments = (names, [found["space_no"]], [found["app_no"]], found["event_id"], json.dumps(wave))
    for who, told in ((f"{space.name}-eve", []), (space.owner, [(1, True)])):
        async with nobody.transaction():
            await nobody.execute("SELECT syncd.sync_act_as($1, true)", who)
            assert [tuple(row) for row in await nobody.fetch(asked, *arguments)] == told
