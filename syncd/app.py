"""The composition root: the only file that names concrete classes and puts them together."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import resource
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from syncd import __version__
from syncd.bus.hints import Bus
from syncd.bus.postgres import NotifyBus
from syncd.core.database_url import server_of
from syncd.core.errors import SyncdError
from syncd.core.sharing import Sharing
from syncd.edge.addresses import Addresses
from syncd.edge.admission import Admission
from syncd.edge.authenticator import Authenticator, IdentitySource
from syncd.edge.bodies import Bodies
from syncd.edge.concurrency import ConcurrencyLimit
from syncd.edge.connection import Bounds, Connections
from syncd.edge.docs import Docs
from syncd.edge.endpoints.audit import AuditEndpoint
from syncd.edge.endpoints.backup import BackupEndpoint
from syncd.edge.endpoints.demo import Demo
from syncd.edge.endpoints.invitations import InvitationsEndpoint
from syncd.edge.endpoints.quota import QuotaEndpoint
from syncd.edge.endpoints.spaces import SpacesEndpoint
from syncd.edge.endpoints.sync import SyncEndpoint
from syncd.edge.http import Endpoints, HttpApplication
from syncd.edge.live_deps import LiveDeps
from syncd.edge.metrics import Board, numbers
from syncd.edge.rates import RateLimits, Rates
from syncd.edge.service_identity import ServiceIdentities
from syncd.edge.services import Backend, Services
from syncd.edge.sockets import Sockets
from syncd.edge.tokens import Tokens
from syncd.edge.welcome import Welcome
from syncd.live.hub import Hub
from syncd.postgres.migrate import pending
from syncd.postgres.schema_files import MigrationError, SchemaTooNew
from syncd.protocol.normalize import Limits
from syncd.protocol.pull_messages import PAGE_BYTES
from syncd.service.audit import RefusalCounts
from syncd.service.checks import Checks
from syncd.service.counts import Counts
from syncd.service.held import ChangedMembers, Releaser, ReleaseRound
from syncd.service.push import PushService
from syncd.service.quotas import Quotas, UsageRound, WrittenFeeds
from syncd.service.rules import Rules, rules_of
from syncd.service.schemas import CurrentSchemas
from syncd.service.spaces import SpaceService
from syncd.settings import Settings
from syncd.store.audit import Audit
from syncd.store.backup import Backups
from syncd.store.consumers import consumer_lags
from syncd.store.digest import Digests
from syncd.store.held import HeldChanges
from syncd.store.history import History
from syncd.store.live import Live
from syncd.store.log import Log, cursor_key
from syncd.store.numbers import used as numbers_used
from syncd.store.pool import Pool
from syncd.store.quotas import Totals
from syncd.store.rules import RuleReads
from syncd.store.schemas import SchemaReads
from syncd.store.service_tokens import ServiceTokens
from syncd.store.standbys import PATIENCE, Standby, Standbys
from syncd.store.webhooks import webhook_counts
from syncd.transfer.importer import Importer

if TYPE_CHECKING:
    from syncd.edge.memberships import MembershipService

Application = Any  # an ASGI application

WRITABLE_EVERY = 2.0
# What is counted of consumers, in seconds, and how many of them a page of numbers has room for.
CONSUMERS_EVERY, MOST_CONSUMERS = 5.0, 50
# What a worker has open beside its clients' connections and the pool's: files of imports, calls to other services.
SPARE_DESCRIPTORS = 128
# Users that one user blocks.
MOST_BLOCKS = 1000


class Host(NamedTuple):
    """The application that a server is mounted in. `identities`: who says whose a request is, None: tokens do;
    `prepare`: what is done before the database is used, and raises SyncdError where it cannot be; `rules`: its own."""

    identities: Callable[[Admission], IdentitySource] | None
    prepare: Callable[[], Awaitable[None]]
    rules: Sequence[Callable[..., Any]] = ()


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
    admission = _admission(settings)
    addresses = Addresses(settings.trusted_proxies)
    connections = Connections(admission, _bounds(settings), ConcurrencyLimit(settings.max_requests), addresses)
    bodies = Bodies(
        settings.max_body,
        slowest=settings.slowest_body,
        per_user=settings.max_bodies_per_user,
        per_address=settings.max_bodies_per_address,
        in_all=settings.max_bodies,
    )
    board, answers = board or Board(None, 0), _answers(settings)
    identities = host.identities(admission) if host and host.identities else _tokens(settings)
    resources = Resources(settings, connections, bodies, answers, identities)
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


def _answers(settings: Settings) -> Bodies:
    """The bounds of what is on its way down: so many pages, each of which is what one push touched at most and its own
    size."""
    return Bodies(
        settings.max_touched + PAGE_BYTES,
        per_user=settings.max_bodies_per_user,
        per_address=settings.max_bodies_per_address,
        in_all=max(settings.max_bodies // 4, 3),
    )


def _admission(settings: Settings) -> Admission:
    return Admission(
        per_user=settings.max_connections_per_user,
        per_address=settings.max_connections_per_address,
        frames=settings.max_frames_per_second,
        origins=settings.allowed_origins,
        most=settings.max_connections or _descriptors() - settings.pool_size - SPARE_DESCRIPTORS,
    )


def _descriptors() -> int:
    """How many files and connections this process may have open."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 20 if soft == resource.RLIM_INFINITY else max(soft, 2 * SPARE_DESCRIPTORS)


def _bounds(settings: Settings) -> Bounds:
    return Bounds(
        settings.max_head, settings.max_headers, settings.max_url, settings.head_timeout, settings.idle_timeout
    )


def _for_pages(application: HttpApplication, settings: Settings) -> Application:
    if not settings.allowed_origins:
        return application
    from starlette.middleware.cors import CORSMiddleware

    return CORSMiddleware(
        application,
        allow_origins=settings.allowed_origins,
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=[
            "Authorization", "Content-Type", "Content-Encoding", "Last-Event-ID", "X-Client-Id", "X-Sync-Protocol",
        ],
        expose_headers=["Retry-After"],
        max_age=600,
    )  # fmt: skip


class Resources:
    """What a worker has from its start on, before there is a database."""

    def __init__(
        self, settings: Settings, connections: Connections, bodies: Bodies, answers: Bodies, identities: IdentitySource
    ) -> None:
        self.connections, self.bodies, self.answers = connections, bodies, answers
        self.pool = _pool(settings)
        self.counts, self.refusals, self.audit = Counts(), RefusalCounts(), Audit(self.pool)
        standbys = [Standby(server_of(url), _pool(settings, url)) for url in settings.read_urls]
        self.standbys = Standbys(self.pool, standbys, self.counts) if standbys else None
        self.quotas, self.sharing = _quotas(settings), _sharing(settings)
        self.rates = Rates(RateLimits(self.quotas.requests, self.quotas.bytes_in, self.quotas.bytes_out), self.met)
        self.limits, self.skew = _limits(settings, self.sharing), int(settings.max_clock_skew * 1_000_000)
        self.authenticator = Authenticator(
            identities, claims=settings.memberships == "token", service=_memberships(settings),
            rates=self.rates, most=settings.max_spaces_listed, limit=connections.limit,
            on_refused=partial(self.refusals.add, "refused_tokens"),
            services=ServiceIdentities(ServiceTokens(self.pool)),
        )  # fmt: skip

    def met(self, quota: str, space: str = "") -> None:
        """Counts that somebody met a quota."""
        self.counts.quota_hits[quota] += 1
        self.refusals.add("quota_hits", quota, space)


class WorkerBackend(Backend):
    """The half of a worker that needs a database: opened when there is one, and closed at the end."""

    def __init__(self, settings: Settings, resources: Resources, board: Board, host: Host | None = None) -> None:
        super().__init__()
        self._host = host
        self._settings, self._resources, self._board = settings, resources, board
        self._hub: Hub | None = None
        self._schemas = CurrentSchemas(SchemaReads(resources.pool))

    async def open(self) -> Services:
        """Raises SyncdError: busy, database_unavailable."""
        resources, pool = self._resources, self._resources.pool
        if self._host is not None:
            await self._host.prepare()
        await pool.open()
        log_ = Log(
            pool, most_devices=resources.quotas.devices, on_wait=resources.connections.limit.waited,
            on_hit=resources.met, standbys=resources.standbys,
        )  # fmt: skip
        key, written, changed = await cursor_key(pool), WrittenFeeds(), ChangedMembers()
        await self._schemas.load()
        authenticator = resources.authenticator
        hub = Hub(
            log_, Live(pool), _bus(self._settings, key), key, authenticator.ask if authenticator.asks else None,
            counts=resources.counts, on_members=changed.add, on_committed=written.add,
        )  # fmt: skip
        await hub.open()
        self._hub = hub
        held, totals, check = HeldChanges(pool), Totals(pool), self._checks()
        self._watch(hub)
        releaser = Releaser(log_, held, key, resources.limits, resources.skew, hub.committed, check)
        self._keep_current(hub, releaser, totals, written, changed)
        spaces = SpaceService(
            pool, resources.authenticator.managed_elsewhere, hub.members_were_changed, resources.sharing
        )
        pushes = PushService(log_, key, resources.limits, resources.skew, check)
        admission = resources.connections.admission
        live = LiveDeps(hub, resources.authenticator, admission, resources.bodies, resources.answers, pushes)
        history, digests = History(pool, resources.standbys), Digests(pool, resources.standbys)
        return Services(
            log=log_, key=key, pushes=pushes, wrote=hub.committed, counts=hub.counts, history=history,
            digests=digests, held=held, totals=totals, audit=resources.audit, spaces=spaces, live=live,
        )  # fmt: skip

    def _checks(self) -> Checks:
        """What a push is checked by: schemas, and the application's rules."""
        own = self._host.rules if self._host is not None else ()
        rules = Rules([*own, *(rules_of(self._settings.rules) if self._settings.rules else ())])
        return Checks(self._schemas, rules, RuleReads(self._resources.pool))

    def _watch(self, hub: Hub) -> None:
        """Begins to look at how the worker is, and to say so."""
        pool, connections = self._resources.pool, self._resources.connections
        hub.spawn(_publish(self._board, hub, connections.ended, connections.limit))
        hub.spawn(connections.limit.watch())
        hub.spawn(_stay_where_writes_go(pool))
        hub.spawn(_count_numbers(pool, hub.counts))
        if self._board.worker == 0:
            hub.spawn(_count_consumers(pool, hub.counts))
        if self._resources.standbys is not None:
            hub.spawn(self._resources.standbys.watch())

    def _keep_current(
        self, hub: Hub, releaser: Releaser, totals: Totals, written: WrittenFeeds, changed: ChangedMembers
    ) -> None:
        """Begins to write what was held and may be written by now, and to count what is kept."""
        resources = self._resources
        ask = partial(_ask_again, resources.authenticator, hub) if resources.authenticator.asks else None
        hub.keep_doing(ReleaseRound(releaser, hub.counts, changed, ask))
        usage = UsageRound(
            totals, resources.quotas, written, hub.log.full, releaser, hub.counts, resources.rates.override,
            self._settings.quota_every, partial(resources.refusals.write, resources.audit),
        )  # fmt: skip
        hub.keep_doing(usage)
        hub.keep_doing(self._schemas.follow)

    async def ready(self) -> list[str]:
        """Why it could not serve just now; nothing where it can."""
        pool = self._resources.pool
        try:
            await pool.attempt(pool.must_write)
            waiting = await pool.attempt(pending)
        except SyncdError as why:
            return [why.code]
        except SchemaTooNew:
            # A newer syncd upgraded the database while this one serves, which goes on until it is replaced.
            waiting = []
        except MigrationError as why:
            return [str(why)]
        missing = [f"migrations to apply: {', '.join(waiting)}; run `syncd migrate`"] if waiting else []
        return missing + self._schemas.reasons()

    async def close(self) -> None:
        """Ends what runs, and closes the connections to others."""
        if self._hub is not None:
            await self._hub.close()
        await self._resources.authenticator.close()
        if self._resources.standbys is not None:
            await self._resources.standbys.close()
        await self._resources.pool.close()


def _endpoints(settings: Settings, resources: Resources, token: str | None) -> Endpoints:
    authenticator, docs = resources.authenticator, Docs()
    backups = Backups(resources.pool, resources.standbys)
    backup = BackupEndpoint(
        authenticator, backups, Importer(resources.pool, resources.limits, resources.sharing),
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
    )


def _pool(settings: Settings, standby: str = "") -> Pool:
    """Connections to the database, or to a standby of it by its URL, for which nothing waits long."""
    if settings.database_url is None:
        raise ValueError("database_url is needed")
    return Pool(
        standby or settings.database_url,
        size=settings.pool_size + bool(standby),
        lock_ms=settings.lock_timeout_ms,
        statement_ms=settings.statement_timeout_ms,
        max_names=settings.max_names,
        context_key=settings.context_key,
        timeout=PATIENCE if standby else 10.0,
        writes=not standby,
    )


def _tokens(settings: Settings) -> Tokens:
    return Tokens(
        secret=settings.jwt_secret,
        public_key=settings.jwt_public_key,
        jwks_url=settings.jwks_url,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )


def _limits(settings: Settings, sharing: Sharing) -> Limits:
    return Limits(
        settings.max_changes, settings.max_change, settings.max_depth, settings.max_schema_version,
        settings.max_touched, settings.max_held, settings.max_held_bytes, make_spaces=settings.legacy_spaces == "own",
        space_bounds=sharing.bounds(),
    )  # fmt: skip


def _sharing(settings: Settings) -> Sharing:
    return Sharing(
        ask=settings.invitations == "ask",
        owned=settings.max_spaces_owned,
        joined=settings.max_spaces_joined,
        added=settings.max_spaces_added,
        made=settings.spaces_per_hour,
        members=settings.members_per_hour,
        blocks=MOST_BLOCKS,
    )


def _quotas(settings: Settings) -> Quotas:
    return Quotas(
        settings.quota_requests, settings.quota_bytes_in, settings.quota_bytes_out, settings.quota_space_records,
        settings.quota_space_bytes, settings.quota_user_records, settings.quota_user_bytes, settings.quota_devices,
        settings.max_spaces_owned, settings.max_connections_per_user, settings.max_held, settings.max_held_bytes,
    )  # fmt: skip


def _memberships(settings: Settings) -> MembershipService | None:
    """Loaded only where there is one to ask: an HTTP client is a sixth of what a worker loads."""
    if settings.memberships != "service" or not settings.memberships_url:
        return None
    from syncd.edge.memberships import MembershipService, MembershipSource

    return MembershipService(MembershipSource(settings.memberships_url, settings.memberships_header, settings.roles))


def _demo(settings: Settings) -> Demo:
    if not settings.jwt_secret:
        raise ValueError("the demo makes tokens, which needs a secret")
    claims = {"iss": settings.jwt_issuer, "aud": settings.jwt_audience}
    return Demo(settings.jwt_secret, {name: value for name, value in claims.items() if value})


async def _ask_again(authenticator: Authenticator, hub: Hub, user: str) -> None:
    """Takes in which spaces a user is in by now, where a service says so. Raises MembershipsUnavailable."""
    said = await authenticator.ask(user)
    await hub.live.resolve_user(user, said.spaces, said.as_of)


async def _publish(board: Board, hub: Hub, ended: dict[str, int], limit: ConcurrencyLimit) -> None:
    """Puts this worker's numbers where the others find them."""
    while True:
        hub.counts.requests, hub.counts.request_limit = limit.counted, int(limit.limit)
        board.put(numbers(hub.counts, hub.bus, ended))
        await asyncio.sleep(1)


async def _count_numbers(pool: Pool, counts: Counts) -> None:
    """How far the numbers of names and spaces are used up, now and then."""
    while True:
        with contextlib.suppress(SyncdError):
            counts.names, counts.spaces = await numbers_used(pool)
        await asyncio.sleep(60)


async def _count_consumers(pool: Pool, counts: Counts) -> None:
    """How far consumers are behind, of the MOST_CONSUMERS that are behind most, and what became of as many webhooks'
    messages. It goes through all feeds for each consumer."""
    while True:
        begun = asyncio.get_running_loop().time()
        with contextlib.suppress(SyncdError):
            lags = sorted(await consumer_lags(pool), key=lambda lag: lag.changes)[-MOST_CONSUMERS:]
            counts.consumers = {lag.name: [lag.processes, lag.feeds, lag.changes, lag.seconds] for lag in lags}
            sent = (await webhook_counts(pool))[:MOST_CONSUMERS]
            counts.webhooks = {
                one.name: [one.sent, one.failed, one.retries, one.dead, one.seconds, *one.buckets] for one in sent
            }
        took = asyncio.get_running_loop().time() - begun
        await asyncio.sleep(max(CONSUMERS_EVERY, 50 * took))


async def _stay_where_writes_go(pool: Pool) -> None:
    """A worker that only reads would not notice that its database is written to elsewhere by now."""
    while True:
        await asyncio.sleep(WRITABLE_EVERY)
        with contextlib.suppress(SyncdError):
            await pool.attempt(pool.must_write)


def _bus(settings: Settings, key: bytes) -> Bus:
    """How this process hears from the others. The tag keeps two deployments on one NATS apart."""
    if settings.bus != "postgres":
        from syncd.bus.both import ListeningToo
        from syncd.bus.nats import NatsBus

        nats = NatsBus(settings.bus, tag=hashlib.blake2b(key, digest_size=8).hexdigest())
        return ListeningToo(nats, NotifyBus(settings.listen_url)) if settings.listen_url else nats
    assert settings.database_url is not None
    return NotifyBus(settings.listen_url or settings.database_url)
