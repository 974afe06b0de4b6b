"""`syncd doctor`: every check says what is wrong and the command that fixes it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from syncd.cli import checks
from syncd.cli.migrate import refusals
from syncd.cli.options import TopicsCommand, load_settings, settings_options
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.findings import Finding, fail, ok, warn
from syncd.postgres.launch import EmbeddedError
from syncd.settings import Settings

COLOURS = {"ok": "green", "warn": "yellow", "FAIL": "red"}


@click.command("doctor", cls=TopicsCommand)
@click.option("--json", "as_json", is_flag=True, help="One JSON array, for programs.")
@settings_options()
def doctor_command(as_json: bool, **options: Any) -> None:
    """Check the database, the roles, row security, the clock and the configuration.

    Give it what the server gets: the same options and SYNCD_… variables. The exit code is 1 when one fails.
    """
    findings = asyncio.run(examine(load_settings(**options)))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(findings), indent=2).decode())
    else:
        for finding in findings:
            _show(finding)
    sys.exit(1 if any(finding.status == "FAIL" for finding in findings) else 0)


async def examine(settings: Settings, *, directory: Path | None = None) -> list[Finding]:
    """All findings, in the order in which to fix them."""
    findings = [checks.check_environment(), *checks.check_data_dir(settings), *checks.check_keys(settings)]
    if settings.database_url is not None:
        findings += await _database(settings, settings.database_url, directory)
    else:
        findings += await _embedded(settings, directory)
    findings.append(await checks.check_jwks(settings))
    findings += await checks.check_issuers(settings)
    findings.append(await checks.check_memberships(settings))
    return [finding for finding in findings if finding.detail]


async def _embedded(settings: Settings, directory: Path | None) -> list[Finding]:
    try:
        database = EmbeddedPostgres(settings.data_dir)
        found = [ok("embedded database", f"PostgreSQL programs in {database.bindir}")]
    except EmbeddedError as error:
        return [fail("embedded database", str(error), "see above, or set SYNCD_DATABASE_URL")]
    if not database.made:
        return [*found, ok("database", "not made yet: `syncd serve` makes it")]
    if not database.running_elsewhere():
        return [
            *found,
            warn("database", "not running, so not checked", "start `syncd serve`, then run this again"),
        ]
    return [*found, *await _database(settings, database.runtime_dsn, directory)]


async def _database(settings: Settings, url: str, directory: Path | None) -> list[Finding]:
    from syncd.postgres import database_checks
    from syncd.postgres.report_checks import check_reports
    from syncd.postgres.sessions import UNSTOPPED, connect
    from syncd.postgres.standby_checks import check_standby

    try:
        conn = await connect(url, settings=UNSTOPPED, statement_cache_size=0, timeout=10)
    except refusals() as error:
        reason = str(error) or type(error).__name__
        return [fail("database", f"cannot be reached: {reason}", f"psql '{checks.without_password(url)}'")]
    try:
        # One transaction: through a pooler, one connection.
        async with conn.transaction(readonly=True):
            pool = settings.workers * settings.pool_size
            migrations = await database_checks.check_migrations(conn, directory=directory)
            return [
                ok("database", "reachable"),
                *await database_checks.check_server(conn, max_clock_skew=settings.max_clock_skew, pool=pool),
                migrations,
                *(
                    [await database_checks.check_adoption(conn, settings.memberships)]
                    if migrations.status == "ok"
                    else []
                ),
                *await database_checks.check_role(conn),
                await database_checks.check_creating(conn),
                await database_checks.check_role_settings(conn),
                *await database_checks.check_contexts(conn, settings.context_key),
                await database_checks.check_row_security(conn, directory=directory),
                *await database_checks.check_functions(conn, directory=directory),
                *await database_checks.check_ownership(conn),
                *await check_reports(conn),
                *await database_checks.check_held(conn),
                *await database_checks.check_numbers(conn),
                *[await check_standby(conn, standby) for standby in settings.read_urls],
            ]
    finally:
        await conn.close()


def _show(finding: Finding) -> None:
    status = click.style(f"{finding.status:4}", fg=COLOURS[finding.status], bold=finding.status != "ok")
    click.echo(f"{status}  {finding.check}: {finding.detail}")
    if finding.remedy:
        click.echo(f"      fix it: {finding.remedy}")
