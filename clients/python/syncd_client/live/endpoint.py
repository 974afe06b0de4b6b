"""The replica as its live sync needs it, put together for the replica with threads and for the one of asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from ..data.change import name_space
from ..store.identity import Identity
from ..store.store import Store
from ..sync import transport
from ..sync.http import AsyncHttpSender, SendRequest, SendRequestAsync
from ..sync.pace import Pace, Paces
from ..sync.reply import Page
from ..sync.report import Applied, Limits, Report
from ..sync.retry import LivePolicy, RetryPolicy
from ..sync.server import Server
from ..sync.session import Session
from ..sync.steps import Scope
from ..sync.verification import due
from .hub import Bulletin, Hub
from .tasks import in_thread

_ONCE = RetryPolicy(attempts=1)  # the live sync has a backoff of its own


class LiveReplica(Protocol):
    """A replica, as far as its live sync needs it."""

    app: str
    identity: Identity
    schema_version: int | None
    limits: Limits
    paces: Paces
    server: Server
    store: Store
    bulletin: Bulletin
    wall: Callable[[], int]
    verify_every: float | None

    def session(self, scope: Scope, retry: RetryPolicy) -> Session:
        """A sync to be performed by the caller, who holds the lease."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A replica, seen by its live sync.

    `fresh` asks for the token and raises SyncdError. `exchange` performs one sync over HTTP, for which the
    caller has the exchange lock; it verifies the replica where `verification_due` says so. `publish` announces what an
    answer changed. `socket` is passed on to `websockets.connect` (`ssl`, `proxy`, …).
    """

    app: str
    identity: Identity
    url: str
    schema_version: int | None
    store: Store
    hub: Hub
    limits: Limits
    pace: Pace
    policy: LivePolicy
    renewable: bool
    wall: Callable[[], int]
    named: Callable[[str | None], str]
    fresh: Callable[[], Awaitable[str]]
    exchange: Callable[[Scope], Awaitable[Report]]
    verification_due: Callable[[], bool]
    publish: Callable[[Page | None, Applied], None]
    socket: Mapping[str, Any]

    @property
    def socket_url(self) -> str:
        """The URL of the socket: the replica's url with ws for http, its path kept."""
        scheme, _, rest = self.url.partition("://")
        return f"{scheme.replace('http', 'ws')}://{rest}/ws/{quote(self.app, safe='')}"


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """The application's choices: see Replica.live."""

    policy: LivePolicy
    socket: Mapping[str, Any]


def for_loop(replica: LiveReplica, send: SendRequestAsync, options: LiveOptions, hub: Hub) -> Endpoint:
    """For a replica whose application runs the loop."""
    url, tokens = replica.server.url_and_tokens()
    fresh = tokens.ask_async
    return _build(replica, hub, options, fresh, _over_loop(replica, send, fresh, hub, url))


@asynccontextmanager
async def for_thread(
    replica: LiveReplica, send: SendRequest | None, options: LiveOptions, hub: Hub
) -> AsyncIterator[Endpoint]:
    """For a replica of threads; `http` where the application has given a client of its own."""
    url, tokens = replica.server.url_and_tokens()

    async def fresh() -> str:
        return await in_thread(tokens.ask)

    if send is not None:
        yield _build(replica, hub, options, fresh, _over_threads(replica, send, fresh, hub, url))
        return
    own = AsyncHttpSender()
    try:
        yield _build(replica, hub, options, fresh, _over_loop(replica, own, fresh, hub, url))
    finally:
        await own.close()


def _build(
    replica: LiveReplica,
    hub: Hub,
    options: LiveOptions,
    fresh: Callable[[], Awaitable[str]],
    exchange: Callable[[Scope], Awaitable[Report]],
) -> Endpoint:
    url, tokens = replica.server.url_and_tokens()
    return Endpoint(
        app=replica.app,
        identity=replica.identity,
        url=url,
        schema_version=replica.schema_version,
        store=replica.store,
        hub=hub,
        limits=replica.limits,
        pace=replica.paces.socket,
        policy=options.policy,
        renewable=tokens.renewable,
        wall=replica.wall,
        named=lambda space: name_space(space, replica.identity.user),
        fresh=fresh,
        exchange=exchange,
        verification_due=lambda: due(replica.store, replica.verify_every, replica.wall()),
        publish=replica.bulletin.publish_answer,
        socket=options.socket,
    )


def _over_loop(
    replica: LiveReplica, send: SendRequestAsync, fresh: Callable[[], Awaitable[str]], hub: Hub, url: str
) -> Callable[[Scope], Awaitable[Report]]:
    async def notify(conflict: Any) -> None:
        hub.publish(conflict)

    async def exchange(scope: Scope) -> Report:
        session = await in_thread(replica.session, scope, _ONCE)
        await transport.perform_async(session, send, url, fresh, notify)
        return session.report

    return exchange


def _over_threads(
    replica: LiveReplica, send: SendRequest, fresh: Callable[[], Awaitable[str]], hub: Hub, url: str
) -> Callable[[Scope], Awaitable[Report]]:
    async def exchange(scope: Scope) -> Report:
        session = await in_thread(replica.session, scope, _ONCE)
        token = await fresh()
        await in_thread(transport.perform, session, send, url, lambda: token, hub.publish)
        return session.report

    return exchange
