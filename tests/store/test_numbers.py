"""Numbers of names and spaces are 32 bits wide: what makes neither takes none, however often it is asked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import asyncpg
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.direct import pushed, run

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


@pytest.mark.parametrize("kind", ["name", "space"])
async def test_what_is_rolled_back_again_and_again_uses_up_nothing(database: EmbeddedPostgres, kind: str) -> None:
    """A sequence does not go back with its transaction: 4,300 such calls used to use up all numbers there are."""
    make = f"SELECT syncd.sync_numbers_make('{kind}', 500000)"
    last = f"SELECT pg_sequence_last_value('syncd.sync_{kind}s_{kind}_no_seq')"
    conn = await asyncpg.connect(database.runtime_dsn)
    try:
        before = (await run(database.owner_dsn, last))[0][0] or 0
        for _ in range(12):
            await conn.execute(f"BEGIN; {make}; ROLLBACK")
        assert (await run(database.owner_dsn, last))[0][0] - before <= 30_000
    finally:
        await conn.close()


async def test_numbers_that_come_again_are_nobody_s(database: EmbeddedPostgres) -> None:
    """The sequence goes back beneath what was rolled back, and beneath nothing that is used, ready or being taken."""
    used = "SELECT last_value FROM syncd.sync_names_name_no_seq"
    ready = "SELECT no FROM syncd.sync_numbers WHERE kind = 'name'"
    operator, old = [await asyncpg.connect(database.owner_dsn) for _ in range(2)]
    who = f"u{os.urandom(4).hex()}"
    try:
        await operator.execute("DELETE FROM syncd.sync_numbers WHERE kind = 'name'")
        await old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM syncd.sync_names LIMIT 1")
        await operator.execute("BEGIN; SELECT setval('syncd.sync_names_name_no_seq', last_value + 30000) "
                               "FROM syncd.sync_names_name_no_seq")  # fmt: skip
        far = (await operator.fetch(used))[0][0]
        await operator.execute(f"SELECT syncd.sync_act_as('{who}', true)")
        # While the operator's name is not committed, and by an old snapshot, it goes on.
        make = "SELECT syncd.sync_numbers_make('name', 1)"
        await run(database.runtime_dsn, make)
        assert min(no for (no,) in await run(database.owner_dsn, ready)) > far
        await operator.execute("ROLLBACK")
        await operator.execute("DELETE FROM syncd.sync_numbers WHERE kind = 'name'")
        await old.execute(f"{make}; ROLLBACK")
        assert (await operator.fetch(used))[0][0] > far + 2000
        # Two at once, after that, get what lies behind the greatest that is used, and each another.
        await asyncio.gather(*(run(database.runtime_dsn, make) for _ in range(2)))
        [(most,)] = await run(database.owner_dsn, "SELECT max(name_no) FROM syncd.sync_names")
        found = sorted(no for (no,) in await run(database.owner_dsn, ready))
        assert (found[0], len(found)) == (most + 1, 2000)
        assert (await operator.fetch(used))[0][0] == found[-1] < far
    finally:
        await operator.close()
        await old.close()


async def test_one_call_makes_some_thousands_and_the_next_the_rest(database: EmbeddedPostgres) -> None:
    ready = "SELECT count(*) FROM syncd.sync_numbers WHERE kind = 'space'"
    conn = await asyncpg.connect(database.owner_dsn)
    try:
        await conn.execute("BEGIN; DELETE FROM syncd.sync_numbers WHERE kind = 'space'")
        found = []
        for _ in range(3):
            await conn.execute("SELECT syncd.sync_numbers_make('space', 7000)")
            found.append((await conn.fetch(ready))[0][0])
        assert found == [5000, 7000, 7000]
        await conn.execute("ROLLBACK")
    finally:
        await conn.close()
