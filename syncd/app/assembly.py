"""A server put together from its parts, for some settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from syncd import __version__
from syncd.app.backend import Host, Resources, WorkerBackend
from syncd.app.from_settings import (
    admission_of,
    answer_bodies,
    connection_bounds,
    tokens_of,
)
from syncd.edge.addresses import Addresses
from syncd.edge.bytes_held import BytesHeld
from syncd.edge.concurrency import ConcurrencyLimit
from syncd.edge.connection import Connections
from syncd.edge.docs import Docs
from syncd.edge.endpoints.audit import AuditEndpoint
from syncd.edge.endpoints.backup import BackupEndpoint
from syncd.edge.endpoints.demo import Demo
from syncd.edge.endpoints.invitations import InvitationsEndpoint
from syncd.edge.endpoints.me import MeEndpoint
from syncd.edge.endpoints.quota import QuotaEndpoint
from syncd.edge.endpoints.spaces import SpacesEndpoint
from syncd.edge.endpoints.sync import SyncEndpoint
from syncd.edge.http import Endpoints, HttpApplication
from syncd.edge.metrics import Board
from syncd.edge.sockets import Sockets
from syncd.edge.welcome import Welcome
from syncd.settings import Settings
from syncd.store.backup import Backups
from syncd.transfer.importer import Importer

Application = Any  # an ASGI application


class Assembly(NamedTuple):
    """A server: its ASGI application, the protocols for its connections and its WebSockets, and how its live
    connections are ended. `http`, `backend`: of what the application is made."""

    application: Application
    connections: Connections
    sockets: Sockets
    drain: Callable[[], Awaitable[None]]
    http: HttpApplication
    backend: WorkerBackend


def build(settings: Settings, board: Board | None = None, token: str = "", host: Host | None = None) -> Assembly:
    """The server for these settings. `database_url` and a key for tokens must be given. `board` is for its numbers, and
    `token` the command that prints one of its tokens. `host`: the application that it is mounted in."""
    admission = admission_of(settings)
    addresses = Addresses(settings.trusted_proxies)
    connections = Connections(
        admission, connection_bounds(settings), ConcurrencyLimit(settings.max_requests), addresses
    )
    bodies = BytesHeld(
        settings.max_body,
        slowest=settings.slowest_body,
        per_user=settings.max_bodies_per_user,
        per_address=settings.max_bodies_per_address,
        in_all=settings.max_bodies,
    )
    board, answers = board or Board(None, 0), answer_bodies(settings)
    identities = host.identities(admission) if host and host.identities else tokens_of(settings)
    rules = host.rules if host else ()
    resources = Resources(settings, connections, bodies, answers, identities, rules)
    backend = WorkerBackend(settings, resources, board, host)
    http = HttpApplication(
        _endpoints(settings, resources, None if host and host.identities else token), backend, board, connections.ended,
        bodies=bodies, answers=answers, rates=resources.rates, version=__version__, addresses=addresses,
    )  # fmt: skip
    sockets = Sockets(backend.live, admission, settings.max_body + 1024, settings.ping_interval, addresses)

    async def drain() -> None:
        http.streams.drain()
        await sockets.drain(settings.shutdown_timeout)

    return Assembly(_for_pages(http, settings), connections, sockets, drain, http, backend)


def _for_pages(application: HttpApplication, settings: Settings) -> Application:
    if not settings.allowed_origins:
        return application
    from starlette.middleware.cors import CORSMiddleware

    return CORSMiddleware(
        application,
        allow_origins=settings.allowed_origins,
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=[
            "Authorization",
            "Content-Type",
            "Content-Encoding",
            "Last-Event-ID",
            "X-Client-Id",
            "X-Sync-Protocol",
        ],
        expose_headers=["Retry-After"],
        max_age=600,
    )


def _endpoints(settings: Settings, resources: Resources, token: str | None) -> Endpoints:
    authenticator, docs = resources.authenticator, Docs()
    backups = Backups(resources.pool, resources.standbys)
    backup = BackupEndpoint(
        authenticator, backups,
        Importer(resources.pool, resources.limits, resources.sharing, resources.fault_in_import),
        skew=settings.max_clock_skew, most=settings.max_import, at_once=max(1, settings.pool_size // 4),
    )  # fmt: skip
    return Endpoints(
        SyncEndpoint(authenticator, resources.limits, resources.answers),
        SpacesEndpoint(authenticator),
        InvitationsEndpoint(authenticator),
        QuotaEndpoint(authenticator, resources.connections.admission, resources.quotas),
        AuditEndpoint(authenticator),
        backup,
        docs,
        Welcome(token, docs=docs.there, demo=settings.demo),
        _demo(settings) if settings.demo else None,
        MeEndpoint(authenticator) if settings.erase_me else None,
    )


def _demo(settings: Settings) -> Demo:
    if not settings.jwt_secret:
        raise ValueError("the demo makes tokens, which needs a secret")
    claims = {"iss": settings.jwt_issuer, "aud": settings.jwt_audience}
    return Demo(settings.jwt_secret, {name: value for name, value in claims.items() if value})
