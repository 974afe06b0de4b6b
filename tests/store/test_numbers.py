"""Numbers of names and spaces are 32 bits wide: what makes neither takes none, however often it is asked."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import asyncpg
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from tests.direct import pushed

LIST = '[{{"id": "{w}-s", "role": "owner"}}, {{"id": "{w}-t", "role": "reader"}}]'
SPACE = '{{"id": "{w}-old", "name": "x", "members": [{{"userId": "{w}", "role": "owner"}}]}}'
NOBODY = '{{"id": "{w}-old", "name": "x", "members": [{{"userId": "{w}-eve", "role": "owner"}}]}}'
# What is there already, asked for again. {w}: a user. {i}: how often.
AGAIN = {
    "a name": "PERFORM syncd.sync_name('{w}')",
    "a user": "PERFORM syncd.sync_act_as('{w}', true)",
    "a list of memberships": f"PERFORM syncd.sync_adopt('{LIST}', now() + i * interval '10 seconds')",
    "a personal space": "PERFORM syncd.sync_personal_space()",
    "a space that the caller made": "PERFORM syncd.sync_space_create('{w}-old', 'Space')",
    "a space that somebody else made": "PERFORM syncd.sync_space_create('{w}-old', 'Another')",
    "spaces that a push names": "PERFORM syncd.sync_make_spaces('{w}', '[\"{w}-old\"]', NULL)",
    "a space of an export": f"PERFORM syncd.sync_space_restore('{SPACE}')",
    "another user's space of an export": "PERFORM syncd.sync_act_as('{w}-eve', true),"
    f" syncd.sync_space_restore('{NOBODY}')",
    "a member": "PERFORM syncd.sync_member_put('{w}-old', '{w}-friend', 'reader')",
    "a device": "PERFORM syncd.sync_same_device('{w}', 'c1', ARRAY['1.firstfirst'])",
    "a socket": "PERFORM syncd.sync_greet('{w}', NULL, NULL)",
    "a push": "PERFORM r.marks FROM ({push}) r",
}
FIRST = """
DO $$ BEGIN
    PERFORM syncd.sync_act_as('{w}-eve', true), syncd.sync_act_as('{w}', true);
    PERFORM syncd.sync_space_create('{w}-old', 'Space'), syncd.sync_personal_space();
    PERFORM syncd.sync_member_put('{w}-old', '{w}-friend', 'reader');
    PERFORM syncd.sync_name('c1'), syncd.sync_name('app'), syncd.sync_name('t');
END $$"""
USED = """
SELECT pg_sequence_last_value('syncd.sync_names_name_no_seq'),
       pg_sequence_last_value('syncd.sync_spaces_space_no_seq')"""


@pytest.fixture
async def conn(database: EmbeddedPostgres) -> AsyncIterator[asyncpg.Connection]:
    """A session of the database's superuser, while memberships are taken over from outside."""
    conn = await asyncpg.connect(database.owner_dsn)
    await conn.execute("UPDATE syncd.sync_server SET memberships = 'external'")
    yield conn
    await conn.execute("UPDATE syncd.sync_server SET memberships = 'table'")
    await conn.close()


@pytest.mark.parametrize("call", AGAIN.values(), ids=AGAIN)
async def test_a_thousand_repeats_take_no_number(conn: asyncpg.Connection, call: str) -> None:
    who = f"u{os.urandom(4).hex()}"
    await conn.execute(FIRST.format(w=who))
    repeated = call.format(w=who, push=pushed(who, f"{who}-old", "r")).removesuffix(";")
    loop = f"""
    DO $$ BEGIN
        FOR i IN 1 .. %d LOOP
            BEGIN
                PERFORM syncd.sync_act_as('{who}');
                {repeated};
            EXCEPTION WHEN SQLSTATE 'SY010' THEN NULL;
            END;
            COMMIT;
        END LOOP;
    END $$"""
    await conn.execute(loop % 1)
    before = tuple(await conn.fetchrow(USED))
    await conn.execute(loop % 1000)
    assert tuple(await conn.fetchrow(USED)) == before
