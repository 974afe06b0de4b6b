"""Connections whose settings are ours, whatever the role that logs in has set for itself by ALTER ROLE.

What the start of a connection names beats the settings of a role and of a database. A pooler refuses to start with
them: there they are set in each transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import asyncpg

# A library that is not there ends each connection at its start, the others end it soon after.
UNSTOPPED = {
    "local_preload_libraries": "",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "60s",
}
# What the right answer, what is acknowledged, and what the database's log shows depend on; for each transaction.
PINNED = {
    "row_security": "on",
    "synchronous_commit": "on",
    "log_parameter_max_length_on_error": "0",
    "debug_print_parse": "off",
    "debug_print_rewritten": "off",
    "debug_print_plan": "off",
    "exit_on_error": "off",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
}
AT_START = {
    **PINNED,
    **UNSTOPPED,
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
}
# An operator's transaction is open for as long as somebody takes to read what comes of it.
OPERATOR = {**AT_START, "idle_in_transaction_session_timeout": "0"}
# Not at the start: a whole server that is fenced off by this setting is one to keep away from.
WRITES = {"default_transaction_read_only": "off"}
SET_BY_ROLE = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_db_role_setting s
    JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
    JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database() AND s.setdatabase IN (0, d.oid)
    WHERE r.rolname = session_user
      AND EXISTS (SELECT FROM unnest(s.setconfig) AS c WHERE c LIKE 'default\\_transaction\\_read\\_only=%'))
"""


async def connect(dsn: str, *, settings: Mapping[str, str] = AT_START, **how: Any) -> Any:
    """As asyncpg.connect; with `settings`, or without them where a pooler refuses them.

    A server is also written to where it is only the role that says read-only.
    """
    # What the URL names is the operator's word.
    settings = {name: value for name, value in settings.items() if f"{name}=" not in dsn}
    try:
        return await asyncpg.connect(dsn, server_settings=settings, **how)
    except asyncpg.ProtocolViolationError:
        return await asyncpg.connect(dsn, **how)
    except asyncpg.TargetServerAttributeNotMatched:
        return await _read_only_by_role(dsn, settings, **how)


async def through_pooler(connection: Any) -> bool:
    """Whether a pooler stands between, which hands out a process id of its own making, not that of the server process
    behind it. It is asked in a transaction, which only one process is given."""
    async with connection.transaction():
        return bool(await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid())


def refusals() -> tuple[type[Exception], ...]:
    """What asyncpg raises when there is no way in, or none any more: no server, no such role, a bad URL, a dead one."""
    lost = asyncpg.InternalClientError  # the connection ended in the middle of an answer
    return (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError, lost)


async def _read_only_by_role(dsn: str, settings: Mapping[str, str], **how: Any) -> Any:
    """Raises TargetServerAttributeNotMatched where it is not the role. Where the role says so and the server is fenced
    off as well, the two cannot be told apart, and it is written to: `doctor` names the role's setting, to be reset."""
    connection = await asyncpg.connect(dsn, server_settings={**settings, **WRITES}, **how)
    if not await connection.fetchval(SET_BY_ROLE):
        await connection.close()
        raise asyncpg.TargetServerAttributeNotMatched("the server is read-only")
    # Loaded here: with all that it loads it is a quarter of the start of a command.
    import structlog

    log = structlog.get_logger("syncd.postgres")
    log.warning("the role is set to read-only, which is not heeded", remedy="syncd doctor")
    return connection
