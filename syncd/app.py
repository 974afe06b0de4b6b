"""The composition root: the only file that names concrete classes and puts them together."""

from __future__ import annotations

from typing import Any

import structlog

from syncd import __version__
from syncd.core.errors import SyncdError
from syncd.edge.callers import Callers
from syncd.edge.http import Backend, HttpApplication
from syncd.edge.spaces import SpacesEndpoint
from syncd.edge.sync import Service, SyncEndpoint
from syncd.edge.tokens import MembershipService, Tokens
from syncd.protocol.preparation import Limits
from syncd.service.spaces import SpaceService
from syncd.settings import Settings
from syncd.store.log import Log, cursor_key
from syncd.store.migrate import MigrationError, pending
from syncd.store.pool import Pool

Application = Any  # an ASGI application

log = structlog.get_logger("syncd")


def build(settings: Settings) -> Application:
    """The ASGI application for these settings. `database_url` and a key for tokens must be given."""
    application = _http(settings)
    if not settings.allowed_origins:
        return application
    from starlette.middleware.cors import CORSMiddleware

    return CORSMiddleware(
        application,
        allow_origins=settings.allowed_origins,
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Content-Encoding", "X-Client-Id", "X-Sync-Protocol"],
        expose_headers=["Retry-After"],
        max_age=600,
    )


def _http(settings: Settings) -> HttpApplication:
    if settings.database_url is None:
        raise ValueError("database_url is needed")
    pool = Pool(
        settings.database_url,
        size=settings.pool_size,
        lock_ms=settings.lock_timeout_ms,
        statement_ms=settings.statement_timeout_ms,
    )
    tokens = Tokens(
        secret=settings.jwt_secret,
        public_key=settings.jwt_public_key,
        jwks_url=settings.jwks_url,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )
    asked = settings.memberships == "service" and settings.memberships_url
    service = MembershipService(asked) if asked else None
    callers = Callers(tokens, claims=settings.memberships == "token", service=service)
    limits = Limits(settings.max_changes, settings.max_change, settings.max_depth, settings.max_schema_version)

    async def open_() -> tuple[Service, SpaceService]:
        await pool.open()
        return Service(Log(pool), await cursor_key(pool)), SpaceService(pool, callers.managed_elsewhere)

    async def ready() -> list[str]:
        try:
            waiting = await pool.attempt(pending)
        except SyncdError as why:
            return [why.code]
        except MigrationError as why:
            return [str(why)]
        return [f"migrations to apply: {', '.join(waiting)}; run `syncd migrate`"] if waiting else []

    async def close() -> None:
        await callers.close()
        await pool.close()

    return HttpApplication(
        SyncEndpoint(callers, limits, settings.max_clock_skew),
        SpacesEndpoint(callers),
        Backend(open_, ready, close),
        max_body=settings.max_body,
        version=__version__,
    )
