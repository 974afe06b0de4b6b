"""G24: what SQL as the role that serves makes is called as nobody else, and no name is found by another's path."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from syncd.cli.doctor import examine
from syncd.postgres import functions
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.emit import emit
from syncd.postgres.migrate import migrate
from syncd.postgres.schema_files import read_schema
from syncd.postgres.statements import statements
from syncd.settings import Settings
from tests.support import programs
from tests.support.direct import pushed, run
from tests.support.migrated import migrated_database, silent

FIXED = "search_path=pg_catalog, pg_temp"
# As a domain's check, a function or an operator: tells whose power it was called with.
SEEN = """
CREATE SCHEMA evil;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
CREATE FUNCTION evil.seen() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF current_user <> 'syncd_runtime' THEN
        PERFORM pg_catalog.set_config('evil.seen', current_user, false);
    END IF;
    RETURN true;
END $$;
"""
DOMAINS = ["text", "timestamptz", "jsonb", "uuid", "xid", "bytea"]
DOMAIN = "CREATE DOMAIN {schema}.{name} AS pg_catalog.{name} CHECK (evil.seen())"
FUNCTION = """
CREATE FUNCTION evil.{name}({takes}) RETURNS {gives} LANGUAGE plpgsql AS $$
BEGIN
    PERFORM evil.seen();
    RETURN pg_catalog.{name}({passes});
END $$;
"""
FUNCTIONS = [
    ("to_json", ["pg_catalog.text"], "pg_catalog.json"),
    ("set_config", ["pg_catalog.text", "pg_catalog.text", "boolean"], "pg_catalog.text"),
    ("clock_timestamp", [], "pg_catalog.timestamptz"),
    ("rtrim", ["pg_catalog.text", "pg_catalog.text"], "pg_catalog.text"),
    ("cardinality", ["pg_catalog.timestamptz[]"], "integer"),
    ("starts_with", ["pg_catalog.text", "pg_catalog.text"], "boolean"),
]
OPERATOR = """
CREATE FUNCTION evil.{name}(a {left}, b {right}) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM evil.seen();
    RETURN a OPERATOR(pg_catalog.{sign}) b;
END $$;
CREATE OPERATOR evil.{sign} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = evil.{name});
"""
OPERATORS = [
    (sign, left, right)
    for sign in ("=", "<>", ">")
    for left, right in (("pg_catalog.text", "pg_catalog.text"), ("integer", "integer"), ("bigint", "integer"))
]


@pytest.fixture(scope="module")
async def own(database: EmbeddedPostgres) -> AsyncIterator[str]:
    """The name of a migrated database of these tests' own."""
    async with migrated_database(database) as name:
        yield name


@pytest.fixture
async def attacker(database: EmbeddedPostgres, own: str) -> AsyncIterator[asyncpg.Connection]:
    """SQL as the role that serves, in a database where somebody gave it back what `migrate` had taken."""
    dsn = database.dsn("postgres", own)
    await run(dsn, f"GRANT TEMPORARY, CREATE ON DATABASE {own} TO syncd_runtime")
    conn = await asyncpg.connect(database.dsn("syncd_runtime", own), statement_cache_size=0)
    await conn.execute(SEEN)
    yield conn
    await conn.close()
    await run(dsn, "DROP SCHEMA evil CASCADE", f"REVOKE TEMPORARY, CREATE ON DATABASE {own} FROM syncd_runtime")


def arguments(takes: list[str]) -> str:
    return ", ".join(f"${place}" for place in range(1, len(takes) + 1))


ATTACKS = {
    "domains of the session": [
        "SET search_path = pg_temp, pg_catalog",
        *(DOMAIN.format(schema="pg_temp", name=n) for n in DOMAINS),
    ],
    "domains": ["SET search_path = evil, pg_catalog", *(DOMAIN.format(schema="evil", name=n) for n in DOMAINS)],
    "functions": [
        "SET search_path = evil, pg_catalog",
        *(FUNCTION.format(name=n, takes=", ".join(t), gives=g, passes=arguments(t)) for n, t, g in FUNCTIONS),
    ],
    "operators": [
        "SET search_path = evil, pg_catalog",
        *(OPERATOR.format(name=f"o{i}", sign=s, left=a, right=b) for i, (s, a, b) in enumerate(OPERATORS)),
    ],
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_what_the_serving_role_makes_is_not_called_as_the_owner(
    attacker: asyncpg.Connection, attack: list[str]
) -> None:
    for statement in attack:
        await attacker.execute(statement)
    await attacker.execute("SELECT pg_catalog.set_config('evil.seen', '', false)")
    who = f"u{os.urandom(4).hex()}"
    for space in (f"{who}-old", f"{who}-new"):
        # As text, without parameters: for those the driver itself would look types up by this path.
        await attacker.execute(f"""
            BEGIN;
            SELECT syncd.sync_act_as('{who}', true);
            SELECT syncd.sync_personal_space();
            SELECT syncd.sync_space_create('{space}', 'Space');
            SELECT syncd.sync_member_put('{space}', '{who}-friend', 'reader');
            SELECT syncd.sync_name('c1'), syncd.sync_name('app'), syncd.sync_name('t');
            SELECT syncd.sync_start();
            {pushed(who, space, "first")};
            {pushed(who, space, "second")};
            COMMIT;""")
    assert await attacker.fetchval("SELECT pg_catalog.current_setting('evil.seen')") == ""


async def test_each_function_that_others_call_has_a_path_of_its_own(database: EmbeddedPostgres) -> None:
    """What runs as somebody else (a definer's function, a trigger's), and all that Python calls, as an operator too."""
    called = {name for call in statements().values() for name in re.findall(r"\bsyncd\.(\w+)\s*\(", call.sql)}
    query = """
    SELECT p.proname, p.prosecdef, p.prosecdef OR p.prorettype = 'trigger'::regtype OR p.proname = ANY ($1) AS needs,
           p.prosqlbody IS NOT NULL AS bound, coalesce(p.proconfig, '{}') AS config
    FROM pg_proc p WHERE p.pronamespace = 'syncd'::regnamespace"""
    conn = await asyncpg.connect(database.owner_dsn)
    found = await conn.fetch(query, list(called))
    await conn.close()
    needing = [row for row in found if row["needs"] and not row["bound"]]
    assert [row["proname"] for row in needing if FIXED not in row["config"]] == []
    assert len([row for row in needing if row["prosecdef"]]) > 25
    assert called <= {row["proname"] for row in found}


# Of each function: its text, with qualified names; whether its names were bound when it was made; its settings.
REACHED = """
SELECT p.proname, pg_get_functiondef(p.oid) AS text, p.prosqlbody IS NOT NULL AS bound,
       coalesce(p.proconfig, '{}') AS config, p.prosecdef OR p.prorettype = 'trigger'::regtype AS enters
FROM pg_proc p WHERE p.pronamespace = 'syncd'::regnamespace AND p.prokind = 'f'"""
# What PostgreSQL calls by itself, as whoever reads or writes a table.
BY_ITSELF = """
SELECT concat(qual, ' ', with_check) FROM pg_policies WHERE schemaname = 'syncd'
UNION ALL SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'syncd'::regnamespace
UNION ALL SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef
UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'syncd'
UNION ALL SELECT definition FROM pg_views WHERE definition LIKE '%syncd.%'"""
CALL = re.compile(r"\bsyncd\.(\w+)\s*\(")


async def reached(conn: asyncpg.Connection) -> list[str]:
    """The functions whose names are found by the path of who called, through others whose names were bound."""
    await conn.execute("SET search_path = pg_catalog")
    found = {row["proname"]: row for row in await conn.fetch(REACHED)}
    texts = [call.sql for call in statements().values()] + [row[0] for row in await conn.fetch(BY_ITSELF)]
    ahead = [name for text in texts for name in CALL.findall(text)]
    ahead += [name for name, row in found.items() if row["enters"]]
    seen: set[str] = set()
    while ahead:
        if (name := ahead.pop()) not in seen and name in found and FIXED not in found[name]["config"]:
            seen.add(name)
            ahead += CALL.findall(found[name]["text"]) if found[name]["bound"] else []
    return sorted(name for name in seen if not found[name]["bound"])


async def test_no_name_is_found_by_the_caller_s_path_through_functions_that_have_none(
    database: EmbeddedPostgres, own: str
) -> None:
    """A function without a path takes its caller's: there must be one on every way to it."""
    conn = await asyncpg.connect(database.dsn("postgres", own))
    try:
        assert await reached(conn) == []
        await conn.execute(
            "CREATE FUNCTION syncd.planted(uuid) RETURNS text SECURITY DEFINER RETURN syncd.sync_written('{}')"
        )
        assert await reached(conn) == ["sync_written"]
    finally:
        await conn.execute("DROP FUNCTION IF EXISTS syncd.planted(uuid)")
        await conn.close()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO syncd.sync_changes SELECT * FROM syncd.sync_changes",
        "UPDATE syncd.sync_changes SET fields = '{}'",
        "TRUNCATE syncd.sync_changes",
        "INSERT INTO syncd.sync_records SELECT * FROM syncd.sync_records",
        "UPDATE syncd.sync_records SET deleted = false",
        "UPDATE syncd.sync_feeds SET head = 1",
        "DELETE FROM syncd.sync_feeds",
        "UPDATE syncd.sync_names SET name = 'x'",
        "SELECT * FROM syncd.sync_memberships",
        "SELECT * FROM syncd.sync_server",
        "SELECT * FROM syncd.sync_held",
        "SELECT syncd.sync_act_as('ann', true)",
        "SELECT syncd.sync_import_settle()",
        "CREATE TEMPORARY TABLE t (x integer)",
        "CREATE TABLE public.t (x integer)",
        "CREATE TABLE syncd.t (x integer)",
        "SET ROLE syncd_owner",
        "SET ROLE syncd_runtime",
        "SET SESSION AUTHORIZATION postgres",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ],
)
async def test_the_compacting_role_does_nothing_else(database: EmbeddedPostgres, own: str, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await run(database.dsn("syncd_compactor", own), statement)


async def test_a_login_that_may_compact_does_not_serve(database: EmbeddedPostgres, own: str) -> None:
    role = f"both_{os.urandom(3).hex()}"
    dsn = database.dsn("postgres", own)
    await run(dsn, f"CREATE ROLE {role} LOGIN IN ROLE syncd_runtime, syncd_compactor")
    findings = await examine(Settings(database_url=database.dsn(role, own)))
    await run(dsn, f"DROP ROLE {role}")
    said = [(f.status, f.detail) for f in findings if f.check == "runtime role"]
    assert ("FAIL", f"{role} can become syncd_compactor, whom row security does not bind") in said


async def test_a_login_that_serves_and_is_a_backend_s_is_named(database: EmbeddedPostgres, own: str) -> None:
    role = f"both_{os.urandom(3).hex()}"
    dsn = database.dsn("postgres", own)
    await run(dsn, f"CREATE ROLE {role} LOGIN IN ROLE syncd_runtime, syncd_writer")
    findings = await examine(Settings(database_url=database.dsn(role, own)))
    await run(dsn, f"DROP ROLE {role}")
    said = [(f.status, f.detail) for f in findings if f.check == "runtime role"]
    assert said == [("warn", f"{role} may call syncd.write, and so acts as any user without a proof")]


async def test_the_serving_role_makes_nothing(database: EmbeddedPostgres, own: str) -> None:
    for statement in (
        "CREATE TEMPORARY TABLE t (x integer)",
        "CREATE DOMAIN pg_temp.text AS pg_catalog.text",
        "CREATE TABLE public.t (x integer)",
        "CREATE FUNCTION public.f() RETURNS integer RETURN 1",
        "CREATE TABLE syncd.t (x integer)",
        "CREATE SCHEMA evil",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await run(database.dsn("syncd_runtime", own), statement)


@pytest.mark.parametrize(
    ("opening", "said", "closing"),
    [
        ("GRANT TEMPORARY ON DATABASE {own} TO PUBLIC", "TEMPORARY on the database {own}", "migrate"),
        ("GRANT CREATE ON DATABASE {own} TO PUBLIC", "CREATE on the database {own}", "migrate"),
        ("GRANT CREATE ON SCHEMA public TO PUBLIC", "CREATE on the schema public", "migrate"),
        (
            "CREATE SCHEMA theirs; GRANT CREATE ON SCHEMA theirs TO syncd_runtime",
            "CREATE on the schema theirs",
            "DROP SCHEMA theirs",
        ),
    ],
)  # fmt: skip
async def test_doctor_says_where_the_serving_role_can_make_objects(
    database: EmbeddedPostgres, own: str, opening: str, said: str, closing: str
) -> None:
    dsn, settings = database.dsn("postgres", own), Settings(database_url=database.dsn("syncd_runtime", own))
    assert await finding(settings, "creating objects") == (
        "ok",
        "the role can make none, in no schema and not for a session",
    )
    conn = await asyncpg.connect(dsn)
    await conn.execute(opening.format(own=own))
    assert await finding(settings, "creating objects") == ("FAIL", f"syncd_runtime has {said.format(own=own)}")
    if closing == "migrate":
        assert await migrate(dsn, say=silent) == []
    else:
        await conn.execute(closing)
    await conn.close()
    assert (await finding(settings, "creating objects"))[0] == "ok"


@pytest.mark.parametrize(
    ("planting", "said", "pulling"),
    [
        (
            "CREATE FUNCTION syncd.theirs() RETURNS integer RETURN 1",
            "not the owner's: syncd.theirs()",
            "DROP FUNCTION syncd.theirs()",
        ),
        ("CREATE TABLE syncd.theirs (x integer)", "not the owner's: syncd.theirs", "DROP TABLE syncd.theirs"),
        (
            "CREATE FUNCTION public.theirs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
            " CREATE TRIGGER planted AFTER INSERT ON syncd.sync_changes EXECUTE FUNCTION public.theirs()",
            "not syncd's: the trigger planted on syncd.sync_changes",
            "DROP FUNCTION public.theirs() CASCADE",
        ),
    ],
)  # fmt: skip
async def test_doctor_names_what_is_not_the_owner_s(
    database: EmbeddedPostgres, own: str, planting: str, said: str, pulling: str
) -> None:
    settings = Settings(database_url=database.dsn("syncd_runtime", own))
    assert (await finding(settings, "ownership"))[0] == "ok"
    conn = await asyncpg.connect(database.dsn("postgres", own))
    await conn.execute(planting)
    assert await finding(settings, "ownership") == ("FAIL", said)
    await conn.execute(pulling)
    await conn.close()
    assert (await finding(settings, "ownership"))[0] == "ok"


async def test_a_function_that_was_rewritten_together_with_its_record_is_named(
    database: EmbeddedPostgres, own: str
) -> None:
    """Who can rewrite a function as the owner can rewrite the record of it as well."""
    dsn, settings = database.dsn("postgres", own), Settings(database_url=database.dsn("syncd_runtime", own))
    conn = await asyncpg.connect(dsn)
    async with conn.transaction():
        text = await conn.fetchval("SELECT pg_get_functiondef('syncd.sync_personal_space'::regproc)")
        await conn.execute(text.replace("BEGIN\n", "BEGIN\n    PERFORM 'planted';\n"))
        await conn.execute(functions.PRINTING)
        await conn.execute(functions.filled(functions.RECORD, read_schema()))
    await conn.close()
    assert await finding(settings, "functions") == ("FAIL", "not as syncd put them in: sync_personal_space")
    assert await migrate(dsn, say=silent) == ["functions"]
    assert (await finding(settings, "functions"))[0] == "ok"


async def test_memberships_are_taken_over_where_the_owner_says_so(database: EmbeddedPostgres, own: str) -> None:
    dsn, runtime = database.dsn("postgres", own), database.dsn("syncd_runtime", own)
    settings = Settings(database_url=runtime, memberships="token", jwt_secret="x" * 64)
    adopt = """
        BEGIN; SELECT syncd.sync_act_as('eve', true);
        SELECT syncd.sync_adopt('[{"id": "anybody-s", "role": "owner"}]', now()); COMMIT;"""
    conn = await asyncpg.connect(runtime)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await conn.execute(adopt)
    await conn.execute("ROLLBACK")
    said = ("FAIL", "the database takes none over from outside")
    assert await finding(settings, "memberships taken over") == said
    env = {**os.environ, "SYNCD_DATABASE_URL": runtime, "SYNCD_MEMBERSHIPS": "token", "SYNCD_PORT": "0"}
    command = [sys.executable, "-m", "syncd", "serve"]
    serve = await asyncio.to_thread(subprocess.run, command, env=env, capture_output=True, text=True, check=False)
    assert serve.returncode == 1
    assert said[1] in serve.stderr
    assert "--memberships external" in serve.stderr
    told: list[str] = []
    for memberships, status in (("external", "ok"), ("external", "ok"), ("table", "FAIL")):
        await migrate(dsn, say=told.append, memberships=memberships)
        if memberships == "external":
            await conn.execute(adopt)
        assert (await finding(settings, "memberships taken over"))[0] == status
    await conn.close()
    assert told == ["memberships are taken over from outside", "memberships are taken over from outside no more"]


async def test_the_emitted_files_close_what_migrate_closes(database: EmbeddedPostgres, own: str, folder: Path) -> None:
    dsn = database.dsn("postgres", own)
    await run(dsn, f"GRANT CREATE, TEMPORARY ON DATABASE {own} TO PUBLIC")
    preamble = next(path for path in emit(folder) if path.name == "0_preamble.sql")
    programs.psql("-v", "ON_ERROR_STOP=1", "-f", preamble, dsn)
    assert (await finding(Settings(database_url=database.dsn("syncd_runtime", own)), "creating objects"))[0] == "ok"


async def finding(settings: Settings, check: str) -> tuple[str, str]:
    """The one finding of a check."""
    found = [(f.status, f.detail) for f in await examine(settings) if f.check == check]
    assert len(found) == 1, found
    return found[0]
