"""What a worker is made of: what it has from its start on, and what it opens when there is a database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

from syncd.app.from_settings import (
    bus_of,
    limits_of,
    memberships_of,
    pool_of,
    quotas_of,
    sharing_of,
)
from syncd.app.watching import (
    ask_again,
    count_consumers,
    count_numbers,
    drop_pages,
    publish_numbers,
    stay_where_writes_go,
)
from syncd.core.database_url import server_of
from syncd.core.errors import SyncdError
from syncd.edge.admission import Admission
from syncd.edge.authenticator import Authenticator, IdentitySource
from syncd.edge.bytes_held import BytesHeld
from syncd.edge.connection import Connections
from syncd.edge.live_deps import LiveDeps
from syncd.edge.metrics import Board
from syncd.edge.rates import RateLimits, Rates
from syncd.edge.service_identity import ServiceIdentities
from syncd.edge.services import Backend, Services
from syncd.live.hub import Hub
from syncd.postgres.migrate import pending
from syncd.postgres.schema_files import MigrationError, SchemaTooNew
from syncd.protocol.import_lines import ImportLine
from syncd.service.checks import Checks
from syncd.service.counts import Counts
from syncd.service.held import ChangedMembers, Releaser, ReleaseRound
from syncd.service.projections import ProjectionRound
from syncd.service.push import PushService
from syncd.service.refusals import RefusalCounts
from syncd.service.rules import Rules, rules_of
from syncd.service.schemas import CurrentSchemas
from syncd.service.spaces import SpaceService
from syncd.service.usage import UsageRound, WrittenFeeds
from syncd.settings import Settings
from syncd.store.audit import Audit
from syncd.store.digest import Digests
from syncd.store.erasures import Erasures
from syncd.store.held import HeldChanges
from syncd.store.history import History
from syncd.store.live import Live
from syncd.store.log import Log, cursor_key
from syncd.store.reports import Projections
from syncd.store.rules import RuleReads
from syncd.store.schemas import SchemaReads
from syncd.store.service_tokens import ServiceTokens
from syncd.store.shared_pages import SharedPages
from syncd.store.standbys import Standby, Standbys
from syncd.store.usage import Totals


class Host(NamedTuple):
    """The application that a server is mounted in. `identities`: who says whose a request is, None: tokens do;
    `prepare`: what is done before the database is used, and raises SyncdError where it cannot be; `rules`: its own."""

    identities: Callable[[Admission], IdentitySource] | None
    prepare: Callable[[], Awaitable[None]]
    rules: Sequence[Callable[..., Any]] = ()


class Resources:
    """What a worker has from its start on, before there is a database."""

    def __init__(
        self, settings: Settings, connections: Connections, bodies: BytesHeld, answers: BytesHeld,
        identities: IdentitySource, rules: Sequence[Callable[..., Any]] = (),
    ) -> None:  # fmt: skip
        self._given_rules, self._rules_module = rules, settings.rules
        self.connections, self.bodies, self.answers = connections, bodies, answers
        self.pool = pool_of(settings)
        self.counts, self.audit = Counts(), Audit(self.pool)
        self.refusals = RefusalCounts(self.counts.quota_hits)
        self.schemas = CurrentSchemas(SchemaReads(self.pool))
        standbys = [Standby(server_of(url), pool_of(settings, url)) for url in settings.read_urls]
        self.standbys = Standbys(self.pool, standbys, self.counts) if standbys else None
        self.quotas, self.sharing = quotas_of(settings), sharing_of(settings)
        self.rates = Rates(
            RateLimits(self.quotas.requests, self.quotas.bytes_in, self.quotas.bytes_out), self.refusals.quota
        )
        self.limits, self.skew = limits_of(settings, self.sharing), int(settings.max_clock_skew * 1_000_000)
        self.authenticator = Authenticator(
            identities, claims=settings.memberships == "token", service=memberships_of(settings),
            rates=self.rates, most=settings.max_spaces_listed, limit=connections.limit,
            on_refused=partial(self.refusals.add, "refused_tokens"),
            services=ServiceIdentities(ServiceTokens(self.pool)),
        )  # fmt: skip

    @cached_property
    def rules(self) -> Rules:
        """The application's rules, whose module is imported when it is needed."""
        return Rules([*self._given_rules, *(rules_of(self._rules_module) if self._rules_module else ())])

    def fault_in_import(self, change: ImportLine) -> str | None:
        """What is wrong with a change that a user imports. Raises Busy."""
        return self.rules.fault_in_import(change) or self.schemas.fault_in_import(change)


class WorkerBackend(Backend):
    """The half of a worker that needs a database: opened when there is one, and closed at the end."""

    def __init__(self, settings: Settings, resources: Resources, board: Board, host: Host | None = None) -> None:
        super().__init__()
        self._host = host
        self._settings, self._resources, self._board = settings, resources, board
        self._hub: Hub | None = None

    async def open(self) -> Services:
        """Raises SyncdError: busy, database_unavailable."""
        resources, pool = self._resources, self._resources.pool
        if self._host is not None:
            await self._host.prepare()
        await pool.open()
        log_ = Log(
            pool,
            most_devices=resources.quotas.devices,
            on_wait=resources.connections.limit.waited,
            on_hit=resources.refusals.quota,
            standbys=resources.standbys,
        )
        key, written, changed = await cursor_key(pool), WrittenFeeds(), ChangedMembers()
        await self._resources.schemas.load()
        authenticator = resources.authenticator
        hub = Hub(
            log_, Live(pool), bus_of(self._settings, key), key, authenticator.ask if authenticator.asks else None,
            counts=resources.counts, on_members=changed.add, on_committed=written.add,
        )  # fmt: skip
        await hub.open()
        self._hub = hub
        held, totals, check = HeldChanges(pool), Totals(pool), self._checks()
        self._watch(hub, log_.pages)
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
            digests=digests, held=held, totals=totals, audit=resources.audit,
            erasures=Erasures(pool), spaces=spaces, live=live, rules=resources.rules,
        )  # fmt: skip

    def _checks(self) -> Checks:
        """What a push is checked by: schemas, and the application's rules."""
        return Checks(self._resources.schemas, self._resources.rules, RuleReads(self._resources.pool))

    def _watch(self, hub: Hub, pages: SharedPages) -> None:
        """Begins to look at how the worker is, and to say so."""
        pool, connections = self._resources.pool, self._resources.connections
        hub.spawn(publish_numbers(self._board, hub, connections.ended, connections.limit, pages))
        hub.spawn(drop_pages(pages))
        hub.spawn(connections.limit.watch())
        hub.spawn(stay_where_writes_go(pool))
        hub.spawn(count_numbers(pool, hub.counts))
        if self._board.worker == 0:
            hub.spawn(count_consumers(pool, hub.counts))
            hub.keep_doing(ProjectionRound(Projections(pool)))
        if self._resources.standbys is not None:
            hub.spawn(self._resources.standbys.watch())

    def _keep_current(
        self, hub: Hub, releaser: Releaser, totals: Totals, written: WrittenFeeds, changed: ChangedMembers
    ) -> None:
        """Begins to write what was held and may be written by now, and to count what is kept."""
        resources = self._resources
        ask = partial(ask_again, resources.authenticator, hub) if resources.authenticator.asks else None
        hub.keep_doing(ReleaseRound(releaser, hub.counts, changed, ask))
        usage = UsageRound(
            totals, resources.quotas, written, hub.log.full, releaser, hub.counts, resources.rates.override,
            self._settings.quota_every, partial(resources.refusals.write, resources.audit),
        )  # fmt: skip
        hub.keep_doing(usage)
        hub.keep_doing(self._resources.schemas.follow)

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
        return missing + self._resources.schemas.reasons() + self._resources.rules.reasons()

    async def close(self) -> None:
        """Ends what runs, and closes the connections to others."""
        if self._hub is not None:
            await self._hub.close()
        await self._resources.authenticator.close()
        if self._resources.standbys is not None:
            await self._resources.standbys.close()
        await self._resources.pool.close()
