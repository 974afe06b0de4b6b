"""The functions in a database: whether they are those of this syncd, and how they get there.

A set of functions is known by the hash of its files. The database keeps every set it was given, with the release that
gave it. A set that is older than the newest is refused, so that an older syncd which is started by mistake does not
put its functions back under the workers of a newer one.
"""

from __future__ import annotations

import re
from typing import Any

import asyncpg

from syncd.postgres.schema_files import FUNCTIONS, MigrationError, SchemaFiles, SchemaTooNew, release

# Somebody else was before us, or had to wait for us as we for him: nothing was applied, and it is tried again.
IN_THE_WAY = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
# Not to_regclass: it is refused to a role that may not enter the schema, and that one is to be told what to do.
HAS_TABLE = """\
SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = 'syncd' AND c.relname = '{table}')
"""
# 'current', 'older' or 'pending'. Within one release (a developer's), a set that was there before the newest is older.
STATE = """\
SELECT CASE WHEN n.sha256 = '{sha256}' THEN 'current'
            WHEN n.release > '{release}' THEN 'older'
            WHEN n.release = '{release}'
                 AND EXISTS (SELECT FROM syncd.sync_functions o WHERE o.sha256 = '{sha256}') THEN 'older'
            ELSE 'pending' END
FROM (SELECT) one LEFT JOIN (SELECT * FROM syncd.sync_functions ORDER BY ordinal DESC LIMIT 1) n ON true"""
# Text, attributes and executors of every function that the files have, by signature.
FINGERPRINTS = """\
SELECT coalesce(pg_catalog.jsonb_object_agg(
    pg_catalog.concat(p.proname, '(', pg_catalog.pg_get_function_identity_arguments(p.oid), ')'),
    pg_catalog.md5(pg_catalog.concat(pg_catalog.pg_get_functiondef(p.oid), (
        SELECT pg_catalog.string_agg(a.grantee::pg_catalog.regrole::text, ',' ORDER BY a.grantee)
        FROM pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) a
        WHERE a.grantee IN (0, 'syncd_runtime'::pg_catalog.regrole, 'syncd_compactor'::pg_catalog.regrole,
                            pg_catalog.to_regrole('syncd_consumer')))))), '{{}}')
FROM pg_catalog.pg_proc p
WHERE p.pronamespace = 'syncd'::pg_catalog.regnamespace AND p.proname = ANY ('{names}')"""
# How a definition is printed depends on settings, which are therefore the same to record and to compare.
PRINTING = """\
SET LOCAL search_path = pg_catalog;
SET LOCAL quote_all_identifiers = off;
SET LOCAL datestyle = iso;
SET LOCAL intervalstyle = postgres;
SET LOCAL timezone = 'UTC';
"""
SERVER = "pg_catalog.current_setting('server_version_num')::integer / 10000"
RECORD = f"""\
INSERT INTO syncd.sync_functions (sha256, release, server, fingerprints)
VALUES ('{{sha256}}', '{{release}}', {SERVER}, ({FINGERPRINTS}))"""
RECORD_AGAIN = f"""\
UPDATE syncd.sync_functions SET fingerprints = ({FINGERPRINTS})
WHERE ordinal = (SELECT max(ordinal) FROM syncd.sync_functions)"""
# Null where another major version put them in, which may print the same function in another way.
CHANGED = f"""\
SELECT n.release < '{{release}}', CASE WHEN n.server = {SERVER} THEN ARRAY(
    SELECT coalesce(was.key, now.key)
    FROM pg_catalog.jsonb_each_text(n.fingerprints) was
    FULL JOIN pg_catalog.jsonb_each_text(({FINGERPRINTS})) now ON now.key = was.key
    WHERE was.value IS DISTINCT FROM now.value ORDER BY 1) END
FROM syncd.sync_functions n ORDER BY n.ordinal DESC LIMIT 1"""
# The text of those that PostgreSQL keeps as text: the same in every version, whatever the record says.
SOURCES = """\
SELECT p.proname::text AS name, p.prosrc AS source FROM pg_catalog.pg_proc p
WHERE p.pronamespace = 'syncd'::pg_catalog.regnamespace AND p.prosqlbody IS NULL"""
# Which parameters sync_user reads, of the two that say who acts; null where there is no such function.
READS = """\
SELECT ARRAY(SELECT w.word FROM unnest(ARRAY['backtrace_functions', 'syncd.user_no']) AS w (word)
             WHERE strpos(pg_catalog.pg_get_functiondef(p.oid), w.word) > 0)
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'syncd' AND p.proname = 'sync_user'"""
# While transactions are open that act by the functions of before. What the new ones say comes first.
READS_BOTH = """CREATE OR REPLACE FUNCTION syncd.sync_user() RETURNS integer LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(
    nullif(pg_catalog.split_part(pg_catalog.current_setting('{now}', true), ',', 1), ''),
    nullif(pg_catalog.split_part(pg_catalog.current_setting('{before}', true), ',', 1), ''))::integer"""
# Whether sync_user reads another parameter than the one that the owner may set by now.
ACTING = """\
SELECT pg_catalog.has_parameter_privilege(p.proowner, 'backtrace_functions', 'SET')
       <> (strpos(pg_catalog.pg_get_functiondef(p.oid), 'backtrace_functions') > 0)
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'syncd' AND p.proname = 'sync_user'"""
# The transactions that are open in this database.
OPEN = """\
SELECT l.virtualtransaction FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'virtualxid' AND l.granted AND a.datname = pg_catalog.current_database()
  AND l.pid <> pg_catalog.pg_backend_pid()"""
NEWEST = "SELECT release FROM syncd.sync_functions ORDER BY ordinal DESC LIMIT 1"


def filled(query: str, files: SchemaFiles) -> str:
    """One of the queries above, for this syncd's functions."""
    names, numbers = ",".join(files.names), ",".join(map(str, release()))
    return query.format(sha256=files.sha256, release=f"{{{numbers}}}", names=f"{{{names}}}")


async def pending(conn: Any, files: SchemaFiles) -> bool:
    """Whether the functions have to be put in. To be asked within a transaction.

    Raises:
        SchemaTooNew: those that are there are newer.
    """
    if not files.functions:
        return False
    if not await conn.fetchval(HAS_TABLE.format(table="sync_functions")):
        return True
    state = await conn.fetchval(filled(STATE, files))
    if state == "older":
        there = ".".join(map(str, (await conn.fetchval(NEWEST))[:3]))
        raise SchemaTooNew(
            f"the database has the functions of a newer syncd (release {there})",
            "Run that one. To go back to these functions on purpose, with no newer syncd running: "
            "syncd migrate --older-functions",
        )
    return bool(state == "pending")


async def changed(conn: Any, files: SchemaFiles) -> list[str] | None:
    """The signatures of the functions that are not as they were put in: altered, gone, or overloaded.

    None where that cannot be told, because another version of PostgreSQL put them in.
    """
    await conn.execute(PRINTING)
    row = await conn.fetchrow(filled(CHANGED, files))
    return None if row is None else row[1]


async def rewritten(conn: Any, files: SchemaFiles) -> list[str]:
    """The names of the functions whose text is not the one in this syncd's files."""
    wanted = files.sources
    return sorted(
        {row["name"] for row in await conn.fetch(SOURCES) if wanted.get(row["name"], row["source"]) != row["source"]}
    )


async def outdated(conn: Any, files: SchemaFiles) -> bool:
    """Whether they are to be put in again: altered by hand, recorded by an older release or PostgreSQL, or made for
    another parameter."""
    await conn.execute(PRINTING)
    row = await conn.fetchrow(filled(CHANGED, files))
    if row is None or row[0] or row[1] is None or row[1] != [] or await conn.fetchval(ACTING):
        return True
    return bool(await rewritten(conn, files))


async def put_in(conn: Any, files: SchemaFiles, *, settled: bool = False) -> None:
    """All functions and grants, and the record of them: as the owner, within a transaction.

    Where those of before say in another parameter who acts, both are read until it is put in `settled`: when no
    transaction is open any more that they act in.
    """
    before = await conn.fetchval(READS)
    for file in files.functions:
        try:
            await conn.execute(file.sql)
        except IN_THE_WAY:
            raise
        except asyncpg.PostgresError as error:
            where = f"{FUNCTIONS}/{file.area}.sql{line_of(file.sql, error)}"
            raise MigrationError(f"{where} failed: {error}", _remedy(error)) from error
    now = await conn.fetchval(READS)
    if before and now and not settled and (others := [name for name in before if name not in now]):
        await conn.execute(READS_BOTH.format(now=now[0], before=others[0]))
    await conn.execute(PRINTING)
    await conn.execute(filled(RECORD_AGAIN if settled else RECORD, files))


def _remedy(error: asyncpg.PostgresError) -> str:
    if isinstance(error, asyncpg.InvalidFunctionDefinitionError):
        return (
            "The functions are as they were. One whose parameters or result change is not replaced but made under "
            "another name, or dropped before: see docs/internals/adr/0026-the-schema-s-code-has-one-place.md."
        )
    return "The functions are as they were."


def line_of(sql: str, error: asyncpg.PostgresError) -> str:
    """Where in a text an error is, as far as the database says."""
    position = getattr(error, "position", None)
    return f", line {sql[: int(position)].count(chr(10)) + 1}," if position and re.fullmatch(r"\d+", position) else ""
