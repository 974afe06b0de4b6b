"""What of a server the settings say alone: its bounds, its connections to others."""

from __future__ import annotations

import hashlib
import resource
from typing import TYPE_CHECKING

from syncd.bus.hints import Bus
from syncd.bus.postgres import NotifyBus
from syncd.core.issuers import issuers_of
from syncd.core.sharing import Sharing
from syncd.edge.admission import Admission
from syncd.edge.bytes_held import BytesHeld
from syncd.edge.connection import Bounds
from syncd.edge.tokens import Tokens
from syncd.protocol.normalize import Limits
from syncd.protocol.pull_messages import PAGE_BYTES
from syncd.service.quotas import Quotas
from syncd.settings import Settings
from syncd.store.pool import Pool
from syncd.store.standbys import PATIENCE

if TYPE_CHECKING:
    from syncd.edge.memberships import MembershipService

# What a worker has open beside its clients' connections and the pool's: files of imports, calls to other services.
SPARE_DESCRIPTORS = 128
# Users that one user blocks.
MOST_BLOCKS = 1000


def answer_bodies(settings: Settings) -> BytesHeld:
    """The bounds of what is on its way down: so many pages, each of which is what one push touched at most and its own
    size."""
    return BytesHeld(
        settings.max_touched + PAGE_BYTES,
        per_user=settings.max_bodies_per_user,
        per_address=settings.max_bodies_per_address,
        in_all=max(settings.max_bodies // 4, 3),
    )


def admission_of(settings: Settings) -> Admission:
    """How many connections there may be, of whom and from where."""
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


def connection_bounds(settings: Settings) -> Bounds:
    """The bounds of a connection and of the head of a request."""
    return Bounds(
        settings.max_head, settings.max_headers, settings.max_url, settings.head_timeout, settings.idle_timeout
    )


def pool_of(settings: Settings, standby: str = "") -> Pool:
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


def tokens_of(settings: Settings) -> Tokens:
    """The keys that tokens are checked with."""
    return Tokens(
        secret=settings.jwt_secret,
        public_key=settings.jwt_public_key,
        jwks_url=settings.jwks_url,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        issuers=issuers_of(settings.oidc_issuer),
        user_claim=settings.oidc_user_claim,
    )


def limits_of(settings: Settings, sharing: Sharing) -> Limits:
    """The bounds of a push and of what it touches."""
    return Limits(
        settings.max_changes, settings.max_change, settings.max_depth, settings.max_schema_version,
        settings.max_touched, settings.max_held, settings.max_held_bytes, make_spaces=settings.legacy_spaces == "own",
        space_bounds=sharing.bounds(),
    )  # fmt: skip


def sharing_of(settings: Settings) -> Sharing:
    """How spaces are shared, and the bounds of that."""
    return Sharing(
        ask=settings.invitations == "ask",
        owned=settings.max_spaces_owned,
        joined=settings.max_spaces_joined,
        added=settings.max_spaces_added,
        made=settings.spaces_per_hour,
        members=settings.members_per_hour,
        blocks=MOST_BLOCKS,
    )


def quotas_of(settings: Settings) -> Quotas:
    """What a user and a space may have, where an operator says nothing else."""
    return Quotas(
        settings.quota_requests, settings.quota_bytes_in, settings.quota_bytes_out, settings.quota_space_records,
        settings.quota_space_bytes, settings.quota_user_records, settings.quota_user_bytes, settings.quota_devices,
        settings.max_spaces_owned, settings.max_connections_per_user, settings.max_held, settings.max_held_bytes,
    )  # fmt: skip


def memberships_of(settings: Settings) -> MembershipService | None:
    """Loaded only where there is one to ask: an HTTP client is a sixth of what a worker loads."""
    if settings.memberships != "service" or not settings.memberships_url:
        return None
    from syncd.edge.memberships import MembershipService, MembershipSource

    return MembershipService(MembershipSource(settings.memberships_url, settings.memberships_header, settings.roles))


def bus_of(settings: Settings, key: bytes) -> Bus:
    """How this process hears from the others. The tag keeps two deployments on one NATS apart."""
    if settings.bus != "postgres":
        from syncd.bus.both import ListeningToo
        from syncd.bus.nats import NatsBus

        nats = NatsBus(settings.bus, tag=hashlib.blake2b(key, digest_size=8).hexdigest())
        return ListeningToo(nats, NotifyBus(settings.listen_url)) if settings.listen_url else nats
    assert settings.database_url is not None
    return NotifyBus(settings.listen_url or settings.database_url)
