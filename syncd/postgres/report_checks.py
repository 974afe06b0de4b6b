"""Checks of the views for reports and of the roles that read them, where there are any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from syncd.postgres.findings import Finding, fail, ok

CHECK = "reports"
QUERY = Path(__file__).parent / "checks" / "reports.sql"
APPLY = "syncd views apply"


async def check_reports(conn: Any) -> list[Finding]:
    """Whether who reads a view sees what is theirs; nothing is said where there are no views."""
    async with conn.transaction():
        await conn.execute("SET LOCAL search_path = pg_catalog")
        row = await conn.fetchrow(QUERY.read_text(encoding="utf-8"))
    if row is None:
        return []
    return list(_problems(row)) or [ok(CHECK, "the views show each login what is its own")]


def _problems(row: Any) -> Iterator[Finding]:
    if row["unbound_role"]:
        yield fail(CHECK, "syncd_views logs in, or is not bound by row security",
                   "ALTER ROLE syncd_views NOLOGIN NOSUPERUSER NOBYPASSRLS;")  # fmt: skip
    if row["members"]:
        named = ", ".join(row["members"])
        yield fail(CHECK, f"{named} can act as syncd_views, which sees all memberships",
                   f"REVOKE syncd_views FROM {named};")  # fmt: skip
    if row["unbound_tables"]:
        named = ", ".join(row["unbound_tables"])
        yield fail(
            CHECK,
            f"who reads a view sees rows of every space in {named}",
            f"{APPLY}; until then `syncd views drop --all`",
        )
    if row["open_views"]:
        named = ", ".join(row["open_views"])
        yield fail(CHECK, f"a reader's function may see rows of others in {named}", APPLY)
    if row["astray_views"]:
        named = ", ".join(row["astray_views"])
        yield fail(CHECK, f"who reads {named} sees what its owner sees, and that is not syncd_views",
                   f"{APPLY}; of one of your own: move it to another schema, or DROP VIEW")  # fmt: skip
    if row["told_copies"]:
        named = ", ".join(row["told_copies"])
        yield fail(CHECK, f"EXPLAIN tells a reader values of others in {named}", APPLY)
    if row["unsafe_logins"]:
        named = ", ".join(row["unsafe_logins"])
        yield fail(CHECK, f"{named} reads the views, and is a superuser or a member of another role of syncd's",
                   f"make a login for reports alone: REVOKE syncd_reports FROM {named};")  # fmt: skip
