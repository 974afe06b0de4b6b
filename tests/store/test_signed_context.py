"""Where the database has a key, SQL as the role that serves acts as nobody without a proof: a forged one gives no rows
and writes nothing. What a server signs, it takes."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple
from uuid import uuid4

import asyncpg
import pytest

from syncd.core.errors import DatabaseUnavailable
from syncd.postgres import database_checks
from syncd.postgres.contexts import BY_NAME, BY_NUMBER, SQLSTATE, ActingUser, ContextSession
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.migrate import migrate
from syncd.settings import Settings
from syncd.store.live import Live
from syncd.store.pool import Pool
from tests.support.direct import pushed, run
from tests.support.wire import unique

KEY = "a key of the tests, of 32 characters or more"
VALUE = "canary"


class Database(NamedTuple):
    """One that asks for signed contexts, with a record in a space of ann's."""

    runtime: str
    superuser: str
    space: int
    ann: int

    async def kept(self) -> list[Any]:
        """What there is, for comparing."""
        return await run(
            self.superuser, "SELECT (SELECT count(*) FROM syncd.sync_changes), (SELECT count(*) FROM syncd.sync_names)"
        )


class Connected(NamedTuple):
    """SQL as the role that serves, and what its server would sign with."""

    sql: asyncpg.Connection
    session: ContextSession

    def ann(self) -> str:
        return self.session.sign(BY_NAME, "ann")

    async def acts(self, context: str) -> int:
        """Acts in this transaction as who the context says."""
        return int(await self.sql.fetchval("SELECT syncd.sync_act_as($1)", context))

    async def seen(self) -> list[Any]:
        return [row[0] for row in await self.sql.fetch("SELECT space_no FROM syncd.sync_records")]


async def connected(dsn: str, key: str = KEY) -> Connected:
    found = Connected(await asyncpg.connect(dsn, statement_cache_size=0), ContextSession(key))
    await found.session.begin(found.sql)
    return found


@pytest.fixture(scope="module")
async def signed(database: EmbeddedPostgres) -> AsyncIterator[Database]:
    name = f"signed_{os.urandom(4).hex()}"
    await run(database.owner_dsn, f"CREATE DATABASE {name}")
    superuser, runtime = database.dsn("postgres", name), database.dsn("syncd_runtime", name)
    await migrate(superuser, say=lambda text: None, context_key=KEY)
    # A superuser is an operator, who needs no proof.
    make = "DO $$ BEGIN PERFORM syncd.sync_act_as('ann', true), syncd.sync_space_create('s', 'Space'); END $$"
    await run(superuser, make, pushed("ann", "s", "r", VALUE))
    [(space, ann)] = await run(
        superuser, "SELECT s.space_no, n.name_no FROM syncd.sync_spaces s, syncd.sync_names n WHERE n.name = 'ann'"
    )
    yield Database(runtime, superuser, space, ann)
    await run(database.owner_dsn, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def eve(signed: Database) -> AsyncIterator[Connected]:
    """A session as the server's, of which the tests say what is shown in it."""
    found = await connected(signed.runtime)
    yield found
    await found.sql.close()


async def test_a_signed_context_acts_as_its_user_in_its_transaction(signed: Database, eve: Connected) -> None:
    async with eve.sql.transaction():
        assert await eve.acts(eve.ann()) == signed.ann
        assert await eve.seen() == [signed.space]
        assert await eve.sql.fetchval("SELECT syncd.sync_act_as('ann')") == signed.ann  # who acts already
    assert await eve.seen() == []
    async with eve.sql.transaction():
        assert await eve.sql.fetchval(
            "SELECT syncd.sync_act_as_number($1)", eve.session.sign(BY_NUMBER, str(signed.ann))
        )
        assert await eve.seen() == [signed.space]
        await eve.acts(eve.session.sign(BY_NAME, "bob"))
        assert await eve.seen() == []


async def plain(signed: Database, eve: Connected) -> str:
    return "ann"


async def another_user(signed: Database, eve: Connected) -> str:
    return eve.session.sign(BY_NAME, "bob").removesuffix("bob") + "ann"


async def another_key(signed: Database, eve: Connected) -> str:
    other = ContextSession("b" * 32)
    await other.begin(eve.sql)
    return other.sign(BY_NAME, "ann")


async def another_session(signed: Database, eve: Connected) -> str:
    other = await connected(signed.runtime)
    await other.sql.close()
    return other.ann()


async def no_session(signed: Database, eve: Connected) -> str:
    context = eve.ann()
    await eve.sql.execute("RESET ALL")
    return context


async def expired(signed: Database, eve: Connected) -> str:
    eve.session._ahead -= 62
    return eve.ann()


async def used(signed: Database, eve: Connected) -> str:
    context = eve.ann()
    async with eve.sql.transaction():
        assert await eve.acts(context) == signed.ann
    return context


async def older_than_one_used(signed: Database, eve: Connected) -> str:
    context = eve.ann()
    await eve.acts(eve.session.sign(BY_NAME, "bob"))
    return context


async def of_a_number(signed: Database, eve: Connected) -> str:
    return eve.session.sign(BY_NUMBER, "ann")


async def cut_off(signed: Database, eve: Connected) -> str:
    return "\x01"


FORGED = [
    plain,
    another_user,
    another_key,
    another_session,
    no_session,
    expired,
    used,
    older_than_one_used,
    of_a_number,
    cut_off,
]


@pytest.mark.parametrize("forge", FORGED, ids=[forge.__name__ for forge in FORGED])
async def test_a_forged_context_gives_no_rows_and_writes_nothing(
    signed: Database, eve: Connected, forge: Callable[[Database, Connected], Awaitable[str]]
) -> None:
    context, before = await forge(signed, eve), await signed.kept()
    head = f'"user": "ann", "context": {json.dumps(context)}'
    push = pushed("ann", "s", "r2").replace('"user": "ann"', head)
    for query, arguments in [
        ("SELECT syncd.sync_act_as($1)", [context]),
        ("SELECT syncd.sync_act_as($1, true)", [context]),
        ("SELECT syncd.sync_enter($1, 'c1', 'app', 't', 's')", [context]),
        ("SELECT syncd.sync_greet($1, NULL, 0)", [context]),
        ("SELECT syncd.sync_held_list($1, 'app', 0, 10)", [context]),
        (push, []),
    ]:
        with pytest.raises(asyncpg.PostgresError) as refused:
            await eve.sql.fetch(query, *arguments)
        assert refused.value.sqlstate == SQLSTATE, query
    assert await signed.kept() == before
    async with eve.sql.transaction():
        with pytest.raises(asyncpg.PostgresError):
            async with eve.sql.transaction():
                await eve.acts(context)
        assert await eve.seen() == []


def of_a_group(context: str | None, record: str, client: str = "c1") -> tuple[dict[str, Any], dict[str, Any]]:
    """A head of zoe's, who shows a context, and its change, as a group of pushes has them."""
    register = {"value": 1, "at": "2026-01-02T00:00:00.000000Z"}
    head = {
        "user": "zoe", "client": client, "app": "app", "n": 1, "spaces": ["z"], "tables": ["t"], "ids": [None],
        "hi": 1767312000000000, "skew": 60000000, "largest": 100000, "touched": 33554432,
    }  # fmt: skip
    change = {
        "i": 1, "s": 1, "t": 1, "r": record, "o": 1, "e": str(uuid4()), "f": {"x": register},
        "g": {"x": {**register, "clientId": client}}, "lo": 1767312000000000, "hi": 1767312000000000,
    }  # fmt: skip
    return {**head, **({} if context is None else {"context": context})}, change


def texts(*pushes: tuple[dict[str, Any], dict[str, Any]]) -> list[str]:
    return [json.dumps(part) for part in zip(*pushes, strict=True)]


@pytest.fixture(scope="module")
async def zoe(signed: Database) -> None:
    """She has a space of her own, and has pushed from two devices."""
    make = "DO $$ BEGIN PERFORM syncd.sync_act_as('zoe', true), syncd.sync_space_create('z', 'Space'); END $$"
    await run(
        signed.superuser, make, pushed("zoe", "z", "r"), pushed("zoe", "z", "of-c2", client="c2"),
        "DO $$ BEGIN PERFORM syncd.sync_act_as('bob', true); END $$",
    )  # fmt: skip


GROUP = "SELECT seqs FROM syncd.sync_push_group($1, $2, '{}', '{}', '9s')"


@pytest.mark.parametrize("forge", [*FORGED, None], ids=[*(forge.__name__ for forge in FORGED), "none"])
async def test_a_group_with_a_forged_context_writes_nothing(
    signed: Database, zoe: None, eve: Connected, forge: Callable[[Database, Connected], Awaitable[str]] | None
) -> None:
    before, context = await signed.kept(), None if forge is None else await forge(signed, eve)
    good = eve.session.sign(BY_NAME, "zoe") if eve.session.begun else None
    other = of_a_group(context, unique("r"), "c2")
    other[0]["user"] = "bob" if forge is None else "ann"
    both = texts(of_a_group(good, unique("r")), other)
    for query in (GROUP, "SELECT syncd.sync_push_together($1, $2)"):
        if forge is None and query != GROUP:
            continue  # who shows none is asked apart
        with pytest.raises(asyncpg.PostgresError) as refused:
            await eve.sql.fetch(query, *both)
        assert refused.value.sqlstate == SQLSTATE
    assert await signed.kept() == before


async def test_a_group_acts_as_whom_its_contexts_say(signed: Database, zoe: None, eve: Connected) -> None:
    """Also where one of it goes the way of a push alone, and shows its context a second time."""
    before = await signed.kept()
    who = [("zoe", "c1"), ("zoe", "c2"), ("zoe", unique("device")), ("bob", "c1")]  # all heads say zoe
    group = [of_a_group(eve.session.sign(BY_NAME, user), unique("r"), client) for user, client in who]
    seqs = await eve.sql.fetchval(GROUP, *texts(*group))
    assert [seq > 0 for seq in seqs] == [True, True, False, False]
    assert (await signed.kept())[0] == (before[0][0] + 3, before[0][1] + 1)
    assert await eve.seen() == []
    with pytest.raises(asyncpg.PostgresError) as refused:
        await eve.sql.fetchval(GROUP, *texts(*group))
    assert refused.value.sqlstate == SQLSTATE


READING = '{{"user": {ann}, "space": {space}, "app": "app", "after": 0, "limit": 9, "bytes": 999}}'
PRESENCE = '{{"user": {ann}, "space": {space}, "client": "c", "state": "x"}}'
NUMBERS = {
    "number": "SELECT syncd.sync_act_as_number('{ann}')",
    "feeds": "SELECT syncd.sync_feeds_in({ann}, ARRAY[{space}])",
    "live": f"SELECT syncd.sync_live('[{READING}]')",
    "presence": f"SELECT syncd.sync_presence_put('[{PRESENCE}]')",
    "who is here": "SELECT * FROM syncd.sync_presence_in({ann}, {space}, 60)",
}


@pytest.mark.parametrize("query", NUMBERS.values(), ids=NUMBERS)
async def test_a_number_is_no_proof(signed: Database, eve: Connected, query: str) -> None:
    with pytest.raises(asyncpg.PostgresError) as refused:
        await eve.sql.fetch(query.format(ann=signed.ann, space=signed.space))
    assert refused.value.sqlstate == SQLSTATE


async def test_a_name_s_context_is_no_number_s(signed: Database, eve: Connected) -> None:
    with pytest.raises(asyncpg.PostgresError) as refused:
        await eve.sql.fetch("SELECT syncd.sync_act_as_number($1)", eve.session.sign(BY_NAME, str(signed.ann)))
    assert refused.value.sqlstate == SQLSTATE


SET = "backtrace_functions"
DIRECT = [
    f"SET {SET} = '{{ann}}'",
    f"SET LOCAL {SET} = '{{ann}}'",
    f"SELECT set_config('{SET}', '{{ann}}', true)",
    f"SELECT set_config('{SET}', ',owner', false)",
    f"DO $$ BEGIN PERFORM set_config('{SET}', '{{ann}}', true); END $$",
    f"UPDATE pg_settings SET setting = '{{ann}}' WHERE name = '{SET}'",
    f"ALTER ROLE CURRENT_USER SET {SET} = '{{ann}}'",
    "ALTER ROLE CURRENT_USER SET syncd.user_no = '{ann}'",
    f"GRANT SET ON PARAMETER {SET} TO CURRENT_USER",
    f"RESET {SET}",
    f"CREATE FUNCTION pg_temp.f() RETURNS integer LANGUAGE sql SET {SET} = '{{ann}}' AS 'SELECT 1'",
    "SELECT syncd.sync_proven('u', 'ann', NULL)",
    "SELECT syncd.sync_unproven({ann})",
    "SELECT pads FROM syncd.sync_context_key",
    "SET ROLE syncd_owner",
]  # fmt: skip


@pytest.mark.parametrize("query", DIRECT)
async def test_the_serving_role_does_not_say_by_itself_who_acts(signed: Database, eve: Connected, query: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await eve.sql.execute(query.format(ann=signed.ann, space=signed.space))


IN_VAIN = [
    "SET LOCAL syncd.user_no = '{ann}'",
    "SELECT set_config('syncd.user_no', '{ann}', true)",
    "DO $$ BEGIN PERFORM set_config('syncd.user_no', '{ann}', false); END $$",
    "SAVEPOINT a; SELECT set_config('syncd.user_no', '{ann}', true); RELEASE a",
    "RESET ALL",
]


@pytest.mark.parametrize("query", IN_VAIN)
async def test_what_it_may_set_says_nobody_acts(signed: Database, eve: Connected, query: str) -> None:
    async with eve.sql.transaction():
        await eve.sql.execute(query.format(ann=signed.ann))
        assert await eve.sql.fetchval("SELECT syncd.sync_user()") is None
        assert await eve.seen() == []


async def test_savepoints_bring_no_other_user_back(signed: Database, eve: Connected) -> None:
    async with eve.sql.transaction():
        await eve.acts(eve.session.sign(BY_NAME, "bob"))
        await eve.sql.execute("SAVEPOINT a")
        await eve.acts(eve.ann())
        assert await eve.seen() == [signed.space]
        await eve.sql.execute("ROLLBACK TO a")
        assert await eve.seen() == []
    context = eve.ann()
    async with eve.sql.transaction():
        await eve.sql.execute("SAVEPOINT a")
        await eve.acts(context)
        await eve.sql.execute("RELEASE a")
    with pytest.raises(asyncpg.PostgresError):
        await eve.acts(context)


@pytest.mark.parametrize("how", [{SET: "1"}, {"options": f"-c {SET}=1"}], ids=["parameter", "options"])
async def test_a_connection_does_not_begin_as_somebody(signed: Database, how: dict[str, str]) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(signed.runtime, server_settings=how)


async def test_shadows_in_a_session_s_schema_are_not_asked(signed: Database, eve: Connected) -> None:
    name = await eve.sql.fetchval("SELECT current_database()")
    await run(signed.superuser, f"GRANT TEMPORARY ON DATABASE {name} TO syncd_runtime")
    try:
        for takes in ("pg_catalog.text", "pg_catalog.text, boolean"):
            shadow = f"pg_temp.current_setting({takes}) RETURNS text LANGUAGE sql AS $$ SELECT '{signed.ann}' $$"
            await eve.sql.execute(f"CREATE FUNCTION {shadow}")
        await eve.sql.execute("CREATE TEMPORARY TABLE sync_context_key (pads bytea)")
        await eve.sql.execute("SET search_path = pg_temp, syncd, pg_catalog")
        assert await eve.sql.fetchval("SELECT syncd.sync_user()") is None
        assert await eve.seen() == []
        with pytest.raises(asyncpg.PostgresError) as refused:
            await eve.acts("ann")
        assert refused.value.sqlstate == SQLSTATE
    finally:
        await run(signed.superuser, f"REVOKE TEMPORARY ON DATABASE {name} FROM syncd_runtime")


async def test_a_pool_signs_with_its_key_and_begins_again_where_its_session_is_lost(signed: Database) -> None:
    pool = Pool(signed.runtime, size=1, context_key=KEY)
    try:
        for reset in (False, True):
            if reset:
                async with pool.connection() as connection:
                    await connection.execute("RESET ALL")
            rows = await pool.fetch_as("ann", None, "space_list", None)
            assert [row["id"] for row in rows if not row["id"].startswith("_")] == ["s"]
        assert [feed.space_no for feed in await Live(pool).feeds(signed.ann, [signed.space])] == [signed.space]
        assert (await Live(pool).presence(signed.ann, signed.space, 60) or (0, None))[1] == []
    finally:
        await pool.close()


@pytest.mark.parametrize("key", [None, "b" * 32])
async def test_a_pool_without_the_key_is_told_that_the_database_is_of_no_use(signed: Database, key: str | None) -> None:
    pool = Pool(signed.runtime, size=1, context_key=key)
    try:
        with pytest.raises(DatabaseUnavailable):
            await pool.fetch("held_list", ActingUser("ann"), "app", 0, 1)
    finally:
        await pool.close()


async def test_doctor_says_whether_who_acts_is_signed_and_who_may_set_it(signed: Database, eve: Connected) -> None:
    async def said(key: str | None) -> list[str]:
        async with eve.sql.transaction():
            return [f"{f.status} {f.detail}" for f in await database_checks.check_contexts(eve.sql, key)]

    assert await said(KEY) == ["ok signed: the role that serves acts as nobody without the key"]
    assert await said("b" * 32) == ["FAIL SYNCD_CONTEXT_KEY is not the database's key"]
    assert await said(None) == ["FAIL the database asks who acts to be signed"]
    await migrate(signed.superuser, say=lambda text: None, context_key="")
    try:
        assert (await said(None))[0].startswith("ok not signed")
        assert (await said(KEY))[0].startswith("warn not signed")
    finally:
        await migrate(signed.superuser, say=lambda text: None, context_key=KEY)
    role = f"other_{os.urandom(4).hex()}"
    await run(signed.superuser, f"CREATE ROLE {role}", f"GRANT SET ON PARAMETER {SET} TO {role}")
    try:
        assert f"FAIL {role} may set {SET}" in await said(KEY)
    finally:
        await run(signed.superuser, f"REVOKE SET ON PARAMETER {SET} FROM {role}", f"DROP ROLE {role}")


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="SYNCD_CONTEXT_KEY"):
        Settings.load({"SYNCD_CONTEXT_KEY": "short"})
