"""syncd inside your own ASGI application: `create_app` makes what FastAPI, Starlette and others mount.

    sync = create_app("postgresql://syncd_app@localhost/shop", authenticate=whose)
    app = FastAPI(lifespan=sync.lifespan)
    app.mount("/sync", sync)

docs/guide/mounting.md goes through it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import structlog

from syncd.app import Assembly, Host, build
from syncd.core.errors import DatabaseUnavailable, Forbidden, SyncdError, Unauthorized
from syncd.core.principal import External, Principal
from syncd.edge.answers import Receive, Scope, Send
from syncd.edge.host import Authenticate, HostIdentity
from syncd.edge.mounted import MountedApplication
from syncd.edge.stop_signals import StopSignals
from syncd.settings import Settings, SettingsError

log = structlog.get_logger("syncd.asgi")

Rule = Callable[..., Any]
RECHECK = 60.0
SHORTEST_SECRET = 32
NOT_OPEN = (
    "syncd is not open, so it cannot serve. A mounted application gets no lifespan of its own: give the host "
    "`lifespan=sync.lifespan`, or call `await sync.open()` when it starts and `await sync.close()` when it ends. For a "
    "server without lifespan, create_app(…, lazily=True) opens with the first request. See docs/guide/mounting.md."
)


class UnfitDatabase(DatabaseUnavailable):
    """Nobody may be served from this database as it is, and waiting does not change that. `why`: for the operator."""

    def __init__(self, why: str) -> None:
        super().__init__()
        self.why = why


class SyncApplication:
    """An ASGI application that is made by `create_app`. It can be opened again after it was closed, in another event
    loop as well, as tests do."""

    def __init__(
        self, settings: Settings, authenticate: Authenticate | None, prefix: str, recheck: float, lazily: bool,
        rules: Sequence[Rule],
    ) -> None:  # fmt: skip
        self._settings, self._authenticate, self._prefix = settings, authenticate, prefix
        self._recheck, self._lazily, self._rules = recheck, lazily, rules
        self._loop: asyncio.AbstractEventLoop | None = None
        self._assembly: Assembly | None = None
        self._application: MountedApplication | None = None
        self._signals: StopSignals | None = None
        self._draining: asyncio.Task[None] | None = None
        _log_by_the_host()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request, a WebSocket, or the lifespan of a server whose application this is. Raises RuntimeError where it
        is not open."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if self._application is None or self._loop is not asyncio.get_running_loop():
            if not self._lazily:
                raise RuntimeError(NOT_OPEN)
            log.warning("opened by a request", remedy="a server with lifespan closes syncd at its end")
            await self.open()
        assert self._application is not None
        await self._application(scope, receive, send)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Open for as long as the host serves: `FastAPI(lifespan=sync.lifespan)`, or `async with sync.lifespan():` in a
        lifespan of your own. Raises what `open` raises."""
        await self.open()
        try:
            yield
        finally:
            await self.close()

    async def open(self) -> None:
        """Opens the connections to the database, migrates it where `migrate_url` is set, and begins to listen.

        A database that is away is waited for: requests are answered with 503 until it is there. Raises RuntimeError
        where nobody may be served from it, with what to do: a role that row security does not bind, a schema that lacks
        migrations.
        """
        host = Host(None if self._authenticate is None else self._identities, self._prepare, self._rules)
        assembly = build(self._settings, host=host)
        self._loop, self._assembly = asyncio.get_running_loop(), assembly
        self._application = MountedApplication(
            assembly.http, assembly.sockets, assembly.backend, self._prefix, self._settings.idle_timeout
        )
        assembly.sockets.watch()
        self._signals = StopSignals(self._drain_soon)
        try:
            await assembly.backend.services()
        except UnfitDatabase as why:
            await self.close()
            raise RuntimeError(f"syncd does not serve like this. {why.why}") from None
        except SyncdError as why:
            # Serving anyway: /readyz says what is missing, and the first request that can will connect.
            log.warning("not ready", code=why.code)

    async def drain(self) -> None:
        """Ends the live connections in stages, each after what it is at: for a host that is about to stop, and before
        its server closes all connections at once."""
        if self._assembly is not None:
            await self._assembly.drain()

    def _drain_soon(self) -> None:
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self.drain())

    async def close(self) -> None:
        """Ends the live connections, what runs beside, and the connections to the database."""
        assembly, self._assembly, self._application, self._loop = self._assembly, None, None, None
        if self._signals is not None:
            self._signals.forget()
        if self._draining is not None:
            await asyncio.wait([self._draining])
        self._signals = self._draining = None
        if assembly is not None:
            await assembly.drain()
            await assembly.sockets.close()
            await assembly.backend.close()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.open()
        except RuntimeError as why:
            await send({"type": "lifespan.startup.failed", "message": str(why)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _identities(self, admission: Any) -> HostIdentity:
        assert self._authenticate is not None
        lists = self._settings.memberships == "token"
        return HostIdentity(self._authenticate, admission, lists=lists, recheck=self._recheck)

    async def _prepare(self) -> None:
        """Migrates where that is wanted, and looks whether anybody may be served. Raises DatabaseUnavailable."""
        from syncd.postgres import database_checks
        from syncd.postgres.migrate import migrate
        from syncd.postgres.schema_files import MigrationError
        from syncd.postgres.sessions import connect, refusals

        settings = self._settings
        assert settings.database_url is not None
        try:
            if settings.migrate_url is not None:
                await migrate(settings.migrate_url, say=lambda step: log.info(step), memberships=_taken_over(settings))
            conn = await connect(settings.database_url, statement_cache_size=0, timeout=10)
            try:
                async with conn.transaction(readonly=True):
                    problems = await database_checks.serving_problems(conn, settings.memberships, settings.context_key)
            finally:
                await conn.close()
        except MigrationError as why:
            raise _unfit(str(why)) from None
        except refusals() as why:
            log.warning("the database cannot be used", error=type(why).__name__, remedy="syncd doctor")
            raise DatabaseUnavailable from None
        if problems:
            raise _unfit(" ".join(problems))


def create_app(
    settings: Settings | str | None = None, *, authenticate: Authenticate | None = None, prefix: str = "",
    recheck: float = RECHECK, lazily: bool = False, rules: Iterable[Rule] = (), **more: Any,
) -> SyncApplication:  # fmt: skip
    """syncd as an ASGI application.

    `settings`: the address of a database, as the role that serves, or all settings; else they are read from the
    environment (`SYNCD_…`). `more`: further settings by name. `authenticate`: gets the scope of a request or a
    WebSocket, and returns a `Principal`, or None for nobody; without it tokens say whose a request is. `recheck`: after
    how many seconds it is asked again about a live connection. `prefix`: what stands before syncd's addresses where the
    host does not say so in `root_path`, as `mount` does. `lazily`: a request opens it where nothing else has. `rules`:
    functions that `syncd.rule` marked; they see each change before it is written.

    Raises SettingsError: a setting is missing, or cannot be used in a mounted application.
    """
    if not isinstance(settings, Settings):
        url = {} if settings is None else {"database_url": settings}
        settings = Settings.load(os.environ, **url, **more)
    elif more:
        raise SettingsError(f"give {', '.join(sorted(more))} in the settings, or a URL in place of them")
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        raise SettingsError(f"prefix={prefix!r} cannot be used: write it like /sync")
    if recheck <= 0:
        raise SettingsError("recheck= is a number of seconds, more than 0")
    _check(settings, authenticate is not None)
    return SyncApplication(settings, authenticate, prefix, recheck, lazily, tuple(rules))


def _check(settings: Settings, authenticates: bool) -> None:
    """Raises SettingsError."""
    if settings.database_url is None:
        raise SettingsError(
            "which database? Give create_app the URL of one, or set SYNCD_DATABASE_URL. The database that `syncd "
            "serve` keeps is its own"
        )
    if settings.demo:
        raise SettingsError("SYNCD_DEMO is for `syncd serve`: the board is at an address of its own there")
    if authenticates and "*" in settings.allowed_origins:
        raise SettingsError(
            "SYNCD_ALLOWED_ORIGINS=* is for tokens: with authenticate= any page on the web could write as its reader, "
            "whose cookie the browser sends along. Name the origins"
        )
    if authenticates:
        return
    if not (settings.jwt_secret or settings.jwt_public_key or settings.jwks_url or settings.oidc_issuer):
        raise SettingsError(
            "who says whose a request is? Give create_app authenticate=, or a key for tokens: SYNCD_JWT_SECRET, "
            "SYNCD_JWT_PUBLIC_KEY, SYNCD_JWKS_URL or SYNCD_OIDC_ISSUER"
        )
    if settings.jwt_secret and len(settings.jwt_secret.encode()) < SHORTEST_SECRET:
        raise SettingsError(f"SYNCD_JWT_SECRET can be guessed: give it {SHORTEST_SECRET} bytes or more")


def _taken_over(settings: Settings) -> Any:
    return "table" if settings.memberships == "table" else "external"


def _unfit(why: str) -> UnfitDatabase:
    log.error("syncd does not serve like this", why=why)
    return UnfitDatabase(why)


def _log_by_the_host() -> None:
    """To the host's logging, unless it has set up structlog itself."""
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, structlog.processors.KeyValueRenderer(key_order=["event"])],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


__all__ = [
    "Authenticate", "External", "Forbidden", "Principal", "Settings", "SettingsError", "SyncApplication",
    "Unauthorized", "create_app",
]  # fmt: skip
