"""Checks of a database, as the role that serves: all for `syncd doctor`, some at the start of `syncd serve`.

Each takes a connection inside a transaction: through a pooler, only that is sure to be one connection.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg

from syncd.core.numbers import ALL
from syncd.postgres import functions, migrate
from syncd.postgres.binaries import NEWEST, OLDEST
from syncd.postgres.contexts import BY_NAME, SQLSTATE, ContextSession
from syncd.postgres.findings import Finding, fail, ok, warn
from syncd.postgres.migrate import ACTING_IN
from syncd.postgres.schema_files import MigrationError, read_schema
from syncd.postgres.statements import statement

QUERIES = Path(__file__).parent / "checks"
MIGRATE = "syncd migrate --database-url postgresql://OWNER@HOST/DATABASE"
ADOPT = f"{MIGRATE} --memberships"
STANDBY = fail("standby", "this is a standby: nothing can be written", "point SYNCD_DATABASE_URL at the primary")
RESTORE = "as the owner: ALTER TABLE syncd.… ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
FROM_BACKUP = "restore the database from a backup"
SAFE = "ALTER SYSTEM RESET fsync; ALTER SYSTEM RESET full_page_writes; SELECT pg_reload_conf();"
SET_CLOCK = "timedatectl set-ntp true (on both machines)"
CONTEXTS = "who acts"
MAKE_ROLE = "CREATE ROLE syncd_app LOGIN PASSWORD '…' IN ROLE syncd_runtime;"


async def check_server(conn: Any, *, max_clock_skew: float = 60.0, pool: int = 0) -> list[Finding]:
    """Version, encoding, durability, clock, pooler; `pool` is how many connections the server will open."""
    before = time.time()
    row = await conn.fetchrow(_query("server"))
    here = (before + time.time()) / 2
    return [
        _version(row["version"] // 10000, row["version_text"]),
        _encoding(row["encoding"]),
        _durability(row),
        _clock(row["clock"] - here, max_clock_skew),
        _pooler(row["backend"] == conn.get_server_pid()),
        *([_connections(row["max_connections"], pool)] if pool else []),
        *([STANDBY] if row["standby"] else []),
    ]


async def serving_problems(conn: Any, memberships: str, context_key: str | None) -> list[str]:
    """Why nobody may be served from this database by this role; nothing where all is well. `memberships`,
    `context_key`: as the settings have them."""
    findings = [*await check_role(conn), await check_migrations(conn)]
    if not any(f.status == "FAIL" for f in findings):
        findings.append(await check_adoption(conn, memberships))
        findings += await check_contexts(conn, context_key)
    return [f"{f.detail}. Fix it with: {f.remedy}" for f in findings if f.status == "FAIL"]


async def check_migrations(conn: Any, *, directory: Path | None = None) -> Finding:
    """Whether the schema is the one that this program was written for."""
    try:
        missing = await migrate.pending(conn, directory=directory)
    except MigrationError as error:
        return fail("migrations", error.cause, error.remedy)
    if missing:
        return fail("migrations", f"the database lacks {', '.join(missing)}", MIGRATE)
    return ok("migrations", "the schema is current")


async def check_functions(conn: Any, *, directory: Path | None = None) -> list[Finding]:
    """Whether the functions are still as they were put in; nothing is said where they are to be put in anyway."""
    files = read_schema(directory)
    try:
        async with conn.transaction():
            if await functions.pending(conn, files):
                return []
            differing = await functions.changed(conn, files)
            rewritten = await functions.rewritten(conn, files)
    except (MigrationError, asyncpg.InsufficientPrivilegeError):
        return []
    if rewritten:
        differing = sorted({*(differing or ()), *rewritten})
    if differing is None:
        return [warn("functions", "another version of PostgreSQL put them in, so they were not compared", MIGRATE)]
    if differing:
        return [fail("functions", f"not as syncd put them in: {', '.join(differing)}", MIGRATE)]
    return [ok("functions", "all are as syncd put them in")]


async def check_held(conn: Any) -> list[Finding]:
    """Whether changes are held, of which nothing is said where the schema has no place for them yet."""
    try:
        async with conn.transaction():
            row = await conn.fetchrow(statement("held_count"))
    except (asyncpg.UndefinedFunctionError, asyncpg.InvalidSchemaNameError, asyncpg.InsufficientPrivilegeError):
        return []
    if not row["changes"]:
        return [ok("held changes", "none")]
    text = f"{row['changes']:,} of {row['users']:,} users may not be written, since {row['oldest']:%Y-%m-%d %H:%M}"
    return [warn("held changes", text, "syncd held list")]


async def check_numbers(conn: Any) -> list[Finding]:
    """How far the numbers of names and spaces are used up; nothing is said where the schema does not tell."""
    try:
        async with conn.transaction():
            row = await conn.fetchrow(statement("numbers_used"))
    except (asyncpg.UndefinedFunctionError, asyncpg.InvalidSchemaNameError, asyncpg.InsufficientPrivilegeError):
        return []
    return [numbers(row["names"], row["spaces"])]


def numbers(names: int, spaces: int) -> Finding:
    """What is to be said of so many numbers that are used up."""
    text = f"of 2,147,483,647 each, {names:,} of names and {spaces:,} of spaces are used"
    worst = max(names, spaces) / ALL
    if worst < 0.5:
        return ok("numbers", text)
    remedy = "a lower SYNCD_MAX_NAMES; in a new database, after `syncd export` and `syncd import --as-is`, few are used"
    return (fail if worst >= 0.9 else warn)("numbers", text, remedy)


async def check_role(conn: Any) -> list[Finding]:
    """Whether row security binds the role, and whether the log is append-only to it."""
    row = await conn.fetchrow(_query("role"))
    name = row["name"]
    problems = list(_role_problems(name, row))
    return problems or [
        ok("runtime role", f"{name} owns nothing, is bound by row security and can only append to the log")
    ]


async def check_adoption(conn: Any, memberships: str) -> Finding:
    """Whether the database takes memberships over exactly where `memberships` (the setting) says that they come so."""
    taken = await conn.fetchval("SELECT memberships FROM syncd.sync_server")
    if memberships != "table" and taken == "table":
        return fail("memberships taken over", "the database takes none over from outside", f"{ADOPT} external")
    if memberships == "table" and taken != "table":
        text = "the database takes them over from outside, and SYNCD_MEMBERSHIPS does not say so"
        return warn("memberships taken over", text, f"{ADOPT} table")
    return ok("memberships taken over", "none" if taken == "table" else "from outside, as SYNCD_MEMBERSHIPS says")


async def check_contexts(conn: Any, key: str | None) -> list[Finding]:
    """Whether who acts has to be proved, whether this server can (`key`), and who may set it without.

    Nothing is said where the schema does not tell.
    """
    try:
        async with conn.transaction():
            row = await conn.fetchrow(_query("contexts"))
    except (asyncpg.UndefinedFunctionError, asyncpg.InvalidSchemaNameError, asyncpg.InsufficientPrivilegeError):
        return []
    return list(_context_problems(row, key)) or [await _signing(conn, row["kind"], key)]


def _context_problems(row: Any, key: str | None) -> Iterator[Finding]:
    if row["setters"]:
        named = ", ".join(row["setters"])
        yield fail(CONTEXTS, f"{named} may set {ACTING_IN}", f"REVOKE SET ON PARAMETER {ACTING_IN} FROM {named};")
    if row["preset"]:
        yield fail(CONTEXTS, f"{ACTING_IN} has a value by configuration", f"ALTER … RESET {ACTING_IN}; and reload")
    if row["kind"] == "open":
        grant = f"as a superuser: GRANT SET ON PARAMETER {ACTING_IN} TO {row['owner']}; then {MIGRATE}"
        yield (fail if key else warn)(CONTEXTS, "the role that serves can act as any user: by a setting", grant)


async def _signing(conn: Any, kind: str, key: str | None) -> Finding:
    if kind == "unsigned":
        text = "not signed: the role that serves can act as any user"
        return ok(CONTEXTS, text) if key is None else warn(CONTEXTS, text, f"{MIGRATE} --contexts signed")
    if key is None:
        return fail(CONTEXTS, "the database asks who acts to be signed", "set SYNCD_CONTEXT_KEY to its key")
    session = ContextSession(key)
    try:
        async with conn.transaction():
            await session.begin(conn)
            await conn.execute(statement("act_as"), session.sign(BY_NAME, ""), False)
    except asyncpg.PostgresError as error:
        if error.sqlstate != SQLSTATE:
            raise
        return fail(CONTEXTS, "SYNCD_CONTEXT_KEY is not the database's key", f"{MIGRATE} --contexts signed, with it")
    return ok(CONTEXTS, "signed: the role that serves acts as nobody without the key")


async def check_ownership(conn: Any) -> list[Finding]:
    """Whether all that is in the schema is its owner's, and nothing is called there that is not syncd's."""
    row = await conn.fetchrow(_query("ownership"))
    if row is None:
        return []
    problems = []
    if row["foreign_owned"]:
        problems.append(f"not the owner's: {', '.join(row['foreign_owned'])}")
    if row["foreign_triggers"]:
        problems.append(f"not syncd's: the trigger {', '.join(row['foreign_triggers'])}")
    if problems:
        remedy = f"as a superuser: DROP it, or ALTER … OWNER TO {row['owner']};"
        return [fail("ownership", "; ".join(problems), remedy)]
    return [ok("ownership", "all that is in the schema syncd is its owner's")]


async def check_creating(conn: Any) -> Finding:
    """Whether the role that serves can make objects that others would find in place of PostgreSQL's own."""
    row = await conn.fetchrow(_query("creating"))
    name, database = row["name"], row["database"]
    given = [("CREATE", "schema", schema) for schema in row["schemas"]]
    given += [("CREATE", "database", database)] if row["in_database"] else []
    given += [("TEMPORARY", "database", database)] if row["temporary"] else []
    if given:
        held = ", ".join(f"{right} on the {kind} {place}" for right, kind, place in given)
        remedies = (f"REVOKE {right} ON {kind.upper()} {place} FROM PUBLIC, {name};" for right, kind, place in given)
        return fail("creating objects", f"{name} has {held}", " ".join(remedies))
    return ok("creating objects", "the role can make none, in no schema and not for a session")


async def check_role_settings(conn: Any) -> Finding:
    """Whether a role of syncd's, or the one that logs in, has settings of its own: it can set them for itself."""
    rows = await conn.fetch(_query("role_settings"))
    if rows:
        named = ", ".join(f"{row['role']} sets {row['setting']}" for row in rows)
        remedy = " ".join(f"ALTER ROLE {row['role']}{row['place']} RESET {row['name']};" for row in rows)
        return warn("role settings", named, f"where they are not yours: {remedy}")
    return ok("role settings", "no role of syncd's has settings of its own")


async def check_row_security(conn: Any, *, directory: Path | None = None) -> Finding:
    """Whether every table and policy of the schema is as the migrations made it."""
    found = {row["name"]: row for row in await conn.fetch(_query("row_security"))}
    wanted = _wanted_policies(directory)
    problems = [text for name, policies in wanted.items() for text in _table_problems(name, found.get(name), policies)]
    if problems:
        return fail("row security", "; ".join(problems), RESTORE if found.keys() >= wanted.keys() else FROM_BACKUP)
    count = sum(len(policies) for policies in wanted.values())
    return ok("row security", f"enabled and forced on {len(wanted)} tables, with {count} policies")


def _query(name: str) -> str:
    return (QUERIES / f"{name}.sql").read_text(encoding="utf-8")


def _version(major: int, text: str) -> Finding:
    if major < OLDEST:
        return fail("version", f"PostgreSQL {text} is too old", f"upgrade to PostgreSQL {OLDEST} to {NEWEST}")
    if major > NEWEST:
        return warn(
            "version",
            f"PostgreSQL {text} is newer than what this syncd was tested with ({OLDEST} to {NEWEST})",
        )
    return ok("version", f"PostgreSQL {text}")


def _encoding(encoding: str) -> Finding:
    if encoding != "UTF8":
        return fail(
            "encoding",
            f"the database is {encoding}: not every text can be kept",
            "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0;",
        )
    return ok("encoding", "UTF8")


def _durability(row: Any) -> Finding:
    unsafe = [name for name in ("fsync", "full_page_writes") if row[name] == "off"]
    if unsafe:
        return warn("durability", f"{' and '.join(unsafe)} off: a power cut can lose what was acknowledged", SAFE)
    if row["synchronous_commit"] == "off":
        return warn(
            "durability",
            "synchronous_commit is off: a crash can lose what was acknowledged",
            "ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf();",
        )
    return ok("durability", "a commit is on disk when it is acknowledged")


def _clock(difference: float, most: float) -> Finding:
    if abs(difference) > min(most, 60.0):
        return fail("clock", f"the database's clock is {difference:+.1f} s off this machine's", SET_CLOCK)
    if abs(difference) > 1.0:
        return warn("clock", f"the database's clock is {difference:+.1f} s off this machine's", SET_CLOCK)
    return ok("clock", f"within {max(abs(difference), 0.001):.3f} s of this machine's")


def _pooler(direct: bool) -> Finding:
    if direct:
        return ok("pooler", "a direct connection")
    return warn(
        "pooler",
        "a pooler is in between: LISTEN/NOTIFY, by which live sockets hear of changes at once, "
        "needs a direct connection, so they hear by polling",
    )


def _connections(most: int, pool: int) -> Finding:
    if pool > most - 10:
        return warn(
            "connections",
            f"the workers open up to {pool} connections and max_connections is {most}",
            "lower --workers or --pool-size, or ALTER SYSTEM SET max_connections = …;",
        )
    return ok("connections", f"up to {pool} of {most}")


def _role_problems(name: str, row: Any) -> Iterator[Finding]:
    check = "runtime role"
    if row["superuser"]:
        yield fail(
            check,
            f"{name} is a superuser: row security does not bind it",
            f"{MAKE_ROLE} and connect as syncd_app",
        )
        return
    if row["bypasses"]:
        yield fail(check, f"{name} has BYPASSRLS: row security does not bind it", f"ALTER ROLE {name} NOBYPASSRLS;")
    if row["can_become"]:
        others = ", ".join(row["can_become"])
        yield fail(
            check,
            f"{name} can become {others}, whom row security does not bind",
            f"REVOKE {others} FROM {name};",
        )
    if row["owns"]:
        yield fail(
            check,
            f"{name} owns, or can act as the owner of, {', '.join(row['owns'])}",
            f"keep that role for `syncd migrate`, and serve as another: {MAKE_ROLE}",
        )
    elif row["may_rewrite"]:
        yield fail(
            check,
            f"{name} can change or delete what is in the log",
            f"REVOKE UPDATE, DELETE, TRUNCATE ON syncd.sync_changes FROM {name}, syncd_runtime;",
        )
    yield from _rights(check, name, row)


def _rights(check: str, name: str, row: Any) -> Iterator[Finding]:
    """What a role that row security binds may do, and should not, or may not, and should."""
    if row["is_backend"] and not row["owns"]:
        yield warn(
            check,
            f"{name} may call syncd.write, and so acts as any user without a proof",
            f"serve as another role than your backend's: REVOKE syncd_writer FROM {name};",
        )
    if row["may_create"] and not row["owns"]:
        yield fail(
            check,
            f"{name} can create objects in the schema syncd",
            f"REVOKE CREATE ON SCHEMA syncd FROM {name}, syncd_runtime, PUBLIC;",
        )
    if row["may_enter"] is not None and not (row["may_enter"] and row["may_append"]):
        yield fail(check, f"{name} may not use the schema syncd", f"GRANT syncd_runtime TO {name};")


def _wanted_policies(directory: Path | None) -> dict[str, set[str]]:
    """Table -> names of its policies, as the migrations leave them."""
    wanted: dict[str, set[str]] = {}
    for migration in read_schema(directory).migrations:
        for match in _SECURITY.finditer(re.sub(r"--.*", "", migration.sql)):
            if match["table"]:
                wanted.setdefault(match["table"].lower(), set())
            elif match["verb"].upper() == "CREATE":
                wanted.setdefault(match["on"].lower(), set()).add(match["policy"].lower())
            else:
                wanted.get(match["on"].lower(), set()).discard(match["policy"].lower())
    return wanted


# Those that `migrate --legacy-view` and `views apply` add, where they were asked for.
OF_REPORTS = {"reports_read", "reports_bound"}
ADDED = {
    "sync_changes": {"view_reads", *OF_REPORTS},
    "sync_records": OF_REPORTS,
    **{table: {"reports_read"} for table in ("sync_names", "sync_spaces", "sync_memberships", "sync_report_roles")},
}
_SECURITY = re.compile(
    r"ALTER\s+TABLE\s+(?:syncd\.)?(?P<table>\w+)\s+ENABLE\s+ROW\s+LEVEL\s+SECURITY"
    r"|(?P<verb>CREATE|DROP)\s+POLICY\s+(?:IF\s+EXISTS\s+)?(?P<policy>\w+)\s+ON\s+(?:syncd\.)?(?P<on>\w+)",
    re.IGNORECASE,
)


def _table_problems(name: str, row: Any, policies: set[str]) -> Iterator[str]:
    if row is None:
        yield f"the table {name} is missing"
        return
    if not row["enabled"]:
        yield f"row security is off on {name}"
    elif not row["forced"]:
        yield f"row security is not forced on {name}"
    if lacking := policies - set(row["policies"]):
        yield f"{name} lacks the policy {', '.join(sorted(lacking))}"
    if foreign := set(row["policies"]) - policies - ADDED.get(name, set()):
        yield f"{name} has a policy that is not syncd's: {', '.join(sorted(foreign))}"
