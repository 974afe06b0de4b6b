"""What somebody tries who has SQL as the role that serves, and not the key: every function with another's name in it,
what a session keeps between two users, and other ways to have a query run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from syncd.postgres.contexts import BY_NAME, BY_NUMBER, SQLSTATE
from tests.store.test_signed_context import VALUE, Connected, Database, connected, signed
from tests.support.direct import pushed, run

__all__ = ["signed"]

EXECUTABLE = """
    SELECT p.proname AS name, p.oid::regprocedure::text AS signature, coalesce(p.proargmodes::text[], '{}') AS modes,
           coalesce(p.proargnames, '{}') AS names, ARRAY(SELECT t::regtype::text FROM unnest(p.proargtypes) t) AS types
    FROM pg_proc p WHERE p.pronamespace = 'syncd'::regnamespace AND p.prorettype <> 'trigger'::regtype
    AND has_function_privilege('syncd_runtime', p.oid, 'EXECUTE') ORDER BY 2"""
# What these leave behind is known: docs/operate/security.md.
HARMLESS = {"sync_numbers_make", "sync_session", "sync_audit_count"}
COUNTED = """
    SELECT (SELECT count(*) FROM syncd.sync_changes), (SELECT count(*) FROM syncd.sync_names),
           (SELECT count(*) FROM syncd.sync_memberships), (SELECT count(*) FROM syncd.sync_spaces),
           (SELECT sum(head) FROM syncd.sync_feeds), (SELECT count(*) FROM syncd.sync_presence),
           (SELECT count(*) FROM syncd.sync_devices), (SELECT count(*) FROM syncd.sync_held)"""


@pytest.fixture
async def eve(signed: Database) -> AsyncIterator[Connected]:
    found = await connected(signed.runtime)
    yield found
    await found.sql.close()


def said_of_ann(of: Database, context: str | None) -> dict[str, Any]:
    """A call of every kind at once, of ann's."""
    stamp = {"value": 1, "at": "2026-01-02T00:00:00.000000Z"}
    return {
        "user": "ann", "client": "c1", "app": "app", "space": "s", "spaces": ["s"], "tables": ["t"],
        "table": "t", "id": "r", "n": 1,
        "ids": [None], "hi": 1767312000000000, "skew": 60000000, "largest": 100000, "touched": 33554432,
        "what": "record", "limit": 10, "bytes": 10000, "after": 0, "since": {}, "how": {},
        "names": ["ann", "app", "t", "c1"],
        "feeds": [{"s": "s", "a": 2, "after": 0}], "members": [{"userId": "ann", "role": "owner"}], "name": "s", "i": 1,
        "s": 1, "t": 1, "r": "r", "o": 1, "e": "00000000-0000-0000-0000-000000000001", "f": {"x": stamp}, "seq": 1,
        "g": {"x": {**stamp, "clientId": "c1"}}, "lo": 1767312000000000, "target": "seq=0", "event": ["0" * 16, 0],
        **({} if context is None else {"context": context}),
    }  # fmt: skip


def argument(of: Database, name: str, kind: str, context: str | None, number: str | None) -> Any:
    """A value for a function's argument that names ann, or what is hers."""
    who = "ann" if context is None else context
    numbered = str(of.ann) if number is None else number
    call = said_of_ann(of, context)
    match kind:
        case "text":
            texts = {"p_user": who, "p_space": "s", "p_app": "app", "p_client": "c1", "p_table": "t", "p_role": "owner"}
            return texts.get(name, "r" if name in ("p_id", "p_record") else numbered if "number" in name else "s")
        case "integer" | "bigint" | "smallint":
            return of.ann if "user" in name else of.space if "space" in name else 1
        case "text[]":
            return ["s", "ann", "r"]
        case "integer[]":
            return [of.ann] if "user" in name or "author" in name else [of.space]
        case "bigint[]":
            return [1]
        case "jsonb" | "json":
            many = name in ("p_heads", "p_readings", "p_items", "p_list", "p_bodies", "p_body", "p_moves")
            live = {**call, "user": of.ann, "space": of.space}
            one = live if name in ("p_readings", "p_items") else call
            return json.dumps([one] if many else one)
        case "json[]" | "jsonb[]":
            return [json.dumps([call])]
        case "boolean":
            return True
        case "double precision" | "real":
            return 60.0
        case _:
            return None


async def tried(of: Database, who: Connected, function: asyncpg.Record, context: str | None, number: str | None) -> str:
    """What a function answers, or how it refuses; afterwards ann does not act."""
    inputs = [n for n, m in zip(function["names"], function["modes"], strict=False) if m in ("i", "b", "v")]
    names = inputs or [*function["names"], *([""] * len(function["types"]))]
    values = [argument(of, *pair, context, number) for pair in zip(names, function["types"], strict=False)]
    holes = ", ".join(f"${n}::{kind}" for n, kind in enumerate(function["types"], 1))
    try:
        async with who.sql.transaction():
            try:
                async with who.sql.transaction():
                    query = f"SELECT x::text FROM syncd.{function['name']}({holes}) AS x"
                    return str([row[0] for row in await who.sql.fetch(query, *values)])
            finally:
                assert await who.sql.fetchval("SELECT syncd.sync_user()") != of.ann, function["signature"]
                assert VALUE not in str(await who.sql.fetch("SELECT registers FROM syncd.sync_records"))
    except (asyncpg.PostgresError, asyncpg.DataError, asyncpg.InterfaceError) as refused:
        return str(refused)


async def test_no_function_acts_as_another_for_nobody(signed: Database, eve: Connected) -> None:
    """Each that the role may call, with ann's names and numbers in all places, and without a proof."""
    functions = await eve.sql.fetch(EXECUTABLE)
    assert len(functions) > 150
    before, answers = await run(signed.superuser, COUNTED), []
    for function in functions:
        if function["name"] not in HARMLESS:
            answers.append(await tried(signed, eve, function, None, None))
            assert VALUE not in answers[-1], function["signature"]
    assert answers.count("context") > 30
    assert await run(signed.superuser, COUNTED) == before


async def test_no_function_acts_as_another_for_somebody(signed: Database, eve: Connected) -> None:
    """The same by bob, who has proved it, and shows his proof beside ann's name."""
    await run(signed.superuser, "DO $$ BEGIN PERFORM syncd.sync_act_as('bob', true); END $$")
    answers = []
    for function in await eve.sql.fetch(EXECUTABLE):
        for shown in (None, "bob", "ann"):
            if not await eve.sql.fetchval("SELECT split_part(current_setting('backtrace_functions'), ',', 2)"):
                await eve.session.begin(eve.sql)
            transaction = eve.sql.transaction()
            await transaction.start()
            try:
                await eve.acts(eve.session.sign(BY_NAME, "bob"))
                context = None if shown is None else eve.session.sign(BY_NAME, "bob")[:-3] + shown
                answers.append(await tried(signed, eve, function, context, None))
            finally:
                await transaction.rollback()
            assert VALUE not in answers[-1], (function["signature"], shown)
    assert answers.count("context") > 60


async def test_a_plan_that_was_made_for_one_user_shows_another_nothing_of_the_first(
    signed: Database, eve: Connected
) -> None:
    """Prepared statements outlive their transaction, and a generic plan is made once."""
    await eve.sql.execute("SET plan_cache_mode = force_generic_plan")
    await eve.sql.execute(
        "PREPARE q AS SELECT space_no FROM syncd.sync_records UNION ALL SELECT space_no FROM syncd.sync_changes"
    )
    for user, seen in [("ann", True), ("bob", False), ("ann", True), (None, False)]:
        async with eve.sql.transaction():
            if user is not None:
                await eve.acts(eve.session.sign(BY_NAME, user))
            assert bool(await eve.sql.fetch("EXECUTE q")) is seen


async def test_users_who_change_within_a_transaction_each_see_their_own(signed: Database, eve: Connected) -> None:
    """Also by one plan, a cursor that is open meanwhile, and statements that are nested in one."""
    bob, ann = eve.session.sign(BY_NAME, "bob"), eve.session.sign(BY_NAME, "ann")
    async with eve.sql.transaction():
        await eve.acts(bob)
        await eve.sql.execute("DECLARE c CURSOR FOR SELECT space_no FROM syncd.sync_records")
        await eve.acts(ann)
        assert await eve.seen() == [signed.space]
        await eve.acts(bob)
        assert await eve.seen() == []
        assert await eve.sql.fetch("FETCH ALL FROM c") == []
        with contextlib.suppress(asyncpg.DivisionByZeroError):
            async with eve.sql.transaction():
                await eve.acts(ann)
                await eve.sql.execute("SELECT 1 / 0")
        assert await eve.seen() == []


async def test_what_was_read_as_one_user_is_not_read_again_by_the_next(signed: Database, eve: Connected) -> None:
    """A cursor WITH HOLD is read to its end when its transaction commits, as whoever acts then."""
    async with eve.sql.transaction():
        await eve.acts(eve.session.sign(BY_NAME, "bob"))
        await eve.sql.execute("DECLARE held CURSOR WITH HOLD FOR SELECT registers FROM syncd.sync_records")
    async with eve.sql.transaction():
        await eve.acts(eve.ann())
        assert await eve.sql.fetch("FETCH ALL FROM held") == []


async def test_a_block_that_commits_acts_as_nobody_afterwards(signed: Database, eve: Connected) -> None:
    """And the context it used is used."""
    context = eve.ann()
    await eve.sql.execute("SET syncd.seen = ''")
    await eve.sql.execute(
        f"""DO $$ BEGIN
            PERFORM syncd.sync_act_as('{context}');
            COMMIT;
            PERFORM set_config('syncd.seen', concat(syncd.sync_user(),
                               (SELECT count(*) FROM syncd.sync_records)), false);
            BEGIN
                PERFORM syncd.sync_act_as('{context}');
            EXCEPTION WHEN SQLSTATE '{SQLSTATE}' THEN
                PERFORM set_config('syncd.seen', current_setting('syncd.seen') || ' refused', false);
            END;
        END $$"""
    )
    assert await eve.sql.fetchval("SELECT current_setting('syncd.seen')") == "0 refused"


LATER = [
    "RESET ALL",
    "DISCARD ALL",
    "SELECT syncd.sync_session()",
    "RESET SESSION AUTHORIZATION",
    "SET ROLE syncd_runtime",
]


@pytest.mark.parametrize("what", LATER)
async def test_a_context_is_of_no_use_after_its_session_was_named_anew(
    signed: Database, eve: Connected, what: str
) -> None:
    """Nor does a used one come back by any of these."""
    fresh, used = eve.ann(), eve.ann()
    async with eve.sql.transaction():
        await eve.acts(used)
    await eve.sql.execute(what)
    for context in (fresh, used):
        with pytest.raises(asyncpg.PostgresError) as refused:
            await eve.acts(context)
        assert refused.value.sqlstate == SQLSTATE
    assert await eve.seen() == []


async def test_workers_of_a_parallel_query_act_as_its_user(signed: Database, eve: Connected) -> None:
    """As nobody where nobody acts."""
    for setting in (
        "debug_parallel_query = on",
        "min_parallel_table_scan_size = 0",
        "parallel_setup_cost = 0",
        "parallel_tuple_cost = 0",
        "max_parallel_workers_per_gather = 2",
        "max_parallel_workers = 2",
    ):
        await eve.sql.execute(f"SET {setting}")
    query = "SELECT space_no, syncd.sync_user() FROM syncd.sync_records"
    for user, seen in [("ann", [(signed.space, signed.ann)]), ("bob", []), (None, [])]:
        async with eve.sql.transaction():
            if user is not None:
                await eve.acts(eve.session.sign(BY_NAME, user))
            plan = "\n".join(row[0] for row in await eve.sql.fetch(f"EXPLAIN {query}"))
            assert "Gather" in plan
            assert [tuple(row) for row in await eve.sql.fetch(query)] == seen


@pytest.mark.parametrize("what", ["history", "record", "space"])
async def test_a_look_into_the_past_wants_a_proof(signed: Database, eve: Connected, what: str) -> None:
    call = {**said_of_ann(signed, None), "what": what, "seq": 1}
    if what == "space":
        del call["table"], call["id"]  # where a page goes on
    with pytest.raises(asyncpg.PostgresError) as refused:
        await eve.sql.fetch("SELECT * FROM syncd.sync_past($1)", json.dumps(call))
    assert refused.value.sqlstate == SQLSTATE
    shown = {**call, "context": eve.session.sign(BY_NAME, "bob")}
    with pytest.raises(asyncpg.PostgresError) as refused:
        await eve.sql.fetch("SELECT * FROM syncd.sync_past($1)", json.dumps(shown))
    assert refused.value.sqlstate == "SY010"
    own = {**call, "context": eve.session.sign(BY_NAME, "ann")}
    assert VALUE in str(await eve.sql.fetchrow("SELECT * FROM syncd.sync_past($1)", json.dumps(own)))


async def test_a_number_s_context_is_for_one_number(signed: Database, eve: Connected) -> None:
    """A reading names its user twice: in the context, and for what is answered."""
    [(bob,)] = await run(signed.superuser, "SELECT syncd.sync_name('bob')")
    shown = eve.session.sign(BY_NUMBER, str(bob))
    reading = {
        "user": signed.ann,
        "space": signed.space,
        "app": "app",
        "after": 0,
        "limit": 9,
        "bytes": 999,
        "context": shown,
    }
    assert (await eve.sql.fetchrow("SELECT * FROM syncd.sync_live($1)", json.dumps([reading])))["body"] is None
    item = {
        "user": signed.ann,
        "space": signed.space,
        "client": "c",
        "state": {"x": 1},
        "context": eve.session.sign(BY_NUMBER, str(bob)),
    }
    assert await eve.sql.fetchval("SELECT syncd.sync_presence_put($1)", json.dumps([item])) == [False]


async def test_an_import_is_its_user_s_alone(signed: Database, eve: Connected) -> None:
    """Bob's proof beside lines of ann's: nothing is written, nor told of what she wrote."""
    [(before,)] = await run(signed.superuser, "SELECT count(*) FROM syncd.sync_changes")
    head = {
        "user": "ann", "context": eve.session.sign(BY_NAME, "bob"), "largest": 100000,
        "names": ["ann", "app", "t", "c1"], "feeds": [{"s": "s", "a": 2, "after": 0}],
    }  # fmt: skip
    event, wave = (
        "00000000-0000-0000-0000-000000000002",
        {**said_of_ann(signed, None), "k": 1, "w": 1, "u": 4, "t": 3, "c": "x"},
    )
    found = await eve.sql.fetchrow(
        "SELECT * FROM syncd.sync_import($1, '{1}', '{1}', '{1}', ARRAY['2026-01-01'], ARRAY[$2::uuid], '{x}',"
        " '{1}', '{4}', ARRAY[$3::json])",
        json.dumps(head), event, json.dumps([wave]),
    )  # fmt: skip
    assert found["marks"] == "n"
    assert await run(signed.superuser, "SELECT count(*) FROM syncd.sync_changes") == [(before,)]


async def test_a_group_shows_each_of_its_proofs(signed: Database, eve: Connected) -> None:
    """By JSON that says it twice, by a head without a user, by none at all: nobody acts but who proved it."""
    await run(signed.superuser, pushed("ann", "s", "first", client="dev-a"))
    before = await run(signed.superuser, COUNTED)
    bob, zero = eve.session.sign(BY_NAME, "bob"), json.dumps(said_of_ann(signed, None))
    twice = f'{{"context": {json.dumps(bob)}, {zero[1:-1]}, "context": "ann"}}'
    turned = f'{{"context": "ann", {zero[1:-1]}, "context": {json.dumps(bob)}}}'
    for head in (twice, turned, zero, "{}", "null"):
        for call in (
            "SELECT syncd.sync_push_together($1, $2)",
            "SELECT syncd.sync_push_group($1, $2, '{}', '{}', '9s')",
        ):
            async with eve.sql.transaction():
                try:
                    async with eve.sql.transaction():
                        await eve.sql.fetch(call, f"[{head}]", f"[{zero}]")
                except asyncpg.PostgresError:
                    pass
                assert await eve.sql.fetchval("SELECT syncd.sync_user()") != signed.ann
                assert await eve.seen() == []
    assert await run(signed.superuser, COUNTED) == before
