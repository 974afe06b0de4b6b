"""Checks of a standby that is to be read: that it is one, of this database, for this role, and that it follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpg

from syncd.core.database_url import server_of
from syncd.postgres.findings import Finding, ok, warn
from syncd.postgres.sessions import UNSTOPPED, connect

STANDBY = (Path(__file__).parent / "checks" / "standby.sql").read_text(encoding="utf-8")
SYSTEM = "SELECT system_identifier FROM pg_catalog.pg_control_system()"
REFUSED = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
# What it may be behind without a word: a moment of a busy primary.
MOST_BEHIND = 16 * 1024 * 1024


async def check_standby(primary: Any, url: str) -> Finding:
    """Whether a server reads there. Nothing fails where it does not, so it is a warning. `primary`: a connection as the
    role that serves."""
    check = f"standby {server_of(url)}"
    try:
        conn = await connect(url, settings=UNSTOPPED, statement_cache_size=0, timeout=10)
    except REFUSED as error:
        return warn(check, f"cannot be reached: {str(error) or type(error).__name__}", "correct SYNCD_READ_URLS")
    try:
        async with conn.transaction(readonly=True):
            wanted, found = await primary.fetchrow(STANDBY), await conn.fetchrow(STANDBY)
            same = await _system(primary) == await _system(conn)
    finally:
        await conn.close()
    return _judged(check, wanted, found, same)


def _judged(check: str, wanted: Any, found: Any, same: bool) -> Finding:
    if not same:
        return warn(check, "is of another database", "name a standby of the database that SYNCD_DATABASE_URL names")
    if not found["recovering"]:
        return warn(
            check, "is no standby: it was promoted, or is the primary", "name another, or make it a standby again"
        )
    if found["role"] != wanted["role"]:
        return warn(check, f"is asked {found['role']}, the primary {wanted['role']}", "name the same role in both URLs")
    if found["at"] is None or wanted["at"] - found["at"] > MOST_BEHIND:
        return warn(check, "is far behind", "look at its log, and at pg_stat_replication on the primary")
    if not found["patient"]:
        remedy = "ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf(); on the standby"
        return warn(check, "follows; exports are read on the primary, as it may cancel what takes long", remedy)
    return ok(check, "follows, and exports are read there too")


async def _system(conn: Any) -> int:
    """Which cluster of databases it is; 0 where that is kept from this role."""
    try:
        async with conn.transaction():
            found: int = await conn.fetchval(SYSTEM)
    except asyncpg.InsufficientPrivilegeError:
        return 0
    return found
