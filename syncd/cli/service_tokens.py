"""What `syncd token` does about tokens of services, which the database knows."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from syncd.cli.operator_command import run_on_database
from syncd.cli.options import progress
from syncd.core.ids import SERVICES, fault_in_user
from syncd.settings import Settings

if TYPE_CHECKING:
    from syncd.store.audit import AuditOperator
    from syncd.store.service_tokens import ServiceOperator

# So that who finds one knows what it is. 32 bytes by chance follow.
PREFIX = "syncds_"

Work = Callable[["ServiceOperator", "AuditOperator"], Awaitable[None]]


def make_service_token(
    settings: Settings, url: str | None, service: str, user: str | None, spaces: Sequence[str], role: str,
    ttl: float | None,
) -> str:  # fmt: skip
    """A new token; `ttl` in seconds, None: for ever. `user`: on whose behalf, None: the service's own."""
    acting = f"{SERVICES}{service}" if user is None else user
    if wrong := fault_in_user(service) or fault_in_user(acting):
        raise click.UsageError(f"the service or user {wrong}")
    if user is not None and user.startswith(SERVICES):
        raise click.UsageError("a service acts as itself without USER")
    token = f"{PREFIX}{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(token.encode()).digest()
    expires = None if ttl is None else time.time() + ttl

    async def work(operator: ServiceOperator, noted: AuditOperator) -> None:
        number = await operator.make(service, user, digest, spaces, role, expires)
        detail = {"service": service, "number": number, "spaces": list(spaces)[:20], "role": role}
        await noted.note("service_token_made", None, acting, detail)
        progress(f"token {number} of {service}, which acts as {acting}; it is shown once:")

    _run(settings, url, work)
    return token


def show_service_tokens(settings: Settings, url: str | None) -> None:
    """Prints a line for each."""

    async def work(operator: ServiceOperator, noted: AuditOperator) -> None:
        rows = [("number", "service", "acts as", "spaces", "made", "ends")]
        for one in await operator.list():
            ends = f"revoked {_day(one.revoked)}" if one.revoked else _day(one.expires) or "never"
            rows.append((str(one.ordinal), one.service, one.user_id, ",".join(one.spaces), _day(one.made), ends))
        if len(rows) == 1:
            progress("no service has a token: make one with `syncd token --service NAME --spaces ID,ID`")
            return
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())

    _run(settings, url, work)


def revoke_service_token(settings: Settings, url: str | None, number: int) -> None:
    """`syncd token revoke NUMBER`: it is refused from now on."""

    async def work(operator: ServiceOperator, noted: AuditOperator) -> None:
        service = await operator.revoke(number)
        if service is None:
            raise click.ClickException(f"no token {number} is valid: see `syncd token list`")
        await noted.note("service_token_revoked", None, None, {"service": service, "number": number})
        progress(f"token {number} of {service} is revoked")

    _run(settings, url, work)


def _day(seconds: float | None) -> str:
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"


def _run(settings: Settings, url: str | None, work: Work) -> None:
    async def on_connection(connection: Any, _: str) -> None:
        import asyncpg

        from syncd.store.audit import AuditOperator
        from syncd.store.service_tokens import ServiceOperator

        try:
            async with connection.transaction():
                await work(ServiceOperator(connection), AuditOperator(connection))
        except asyncpg.PostgresError as why:
            if why.sqlstate == "SY010":
                raise click.ClickException("a space of these is not there") from None
            raise

    run_on_database(settings, url, on_connection, unbound=True)
