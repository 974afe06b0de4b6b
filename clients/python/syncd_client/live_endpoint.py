"""What a live sync needs of its replica, put together for the replica with threads and for the one of asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from . import transport
from .apply import Applied
from .change import name_space
from .copied import Incarnation
from .digest import due
from .events import Hub
from .pace import Pace
from .reply import Page
from .retry import LivePolicy, RetryPolicy
from .store import Store
from .sync import Limits, Report, Scope
from .tasks import in_thread

if TYPE_CHECKING:
    from .replica import Replica

_ONCE = RetryPolicy(attempts=1)  # the live sync has a backoff of its own


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A replica, seen by its live sync.

    `fresh` asks for the token and raises SyncdError. `exchange` performs one sync over HTTP, for which the
    caller has the turn; it verifies the replica where `verification_due` says so. `tell` announces what an
    answer changed. `socket` is passed on to `websockets.connect` (`ssl`, `proxy`, …).
    """

    app: str
    client: Callable[[], str]
    url: str
    schema_version: int | None
    store: Store
    hub: Hub
    limits: Limits
    incarnation: Incarnation | None
    pace: Pace
    policy: LivePolicy
    renewable: bool
    wall: Callable[[], int]
    claim_user: Callable[[str], None]
    named: Callable[[str | None], str]
    fresh: Callable[[], Awaitable[str]]
    exchange: Callable[[Scope], Awaitable[Report]]
    verification_due: Callable[[], bool]
    tell: Callable[[Page | None, Applied], None]
    socket: Mapping[str, Any]

    @property
    def address(self) -> str:
        """Where the socket is: the replica's url with ws for http, its path kept."""
        scheme, _, rest = self.url.partition("://")
        return f"{scheme.replace('http', 'ws')}://{rest}/ws/{quote(self.app, safe='')}"


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """What the application chose: see Replica.live."""

    policy: LivePolicy
    socket: Mapping[str, Any]


def for_loop(replica: Replica, http: httpx.AsyncClient, options: LiveOptions, hub: Hub) -> Endpoint:
    """For a replica whose application runs the loop."""
    url, tokens = replica.address()
    fresh = tokens.ask_async
    return _build(replica, hub, options, fresh, _over_loop(replica, http, fresh, hub, url))


@asynccontextmanager
async def for_thread(
    replica: Replica, http: httpx.Client | None, options: LiveOptions, hub: Hub
) -> AsyncIterator[Endpoint]:
    """For a replica of threads; `http` where the application has given a client of its own."""
    url, tokens = replica.address()

    async def fresh() -> str:
        return await in_thread(tokens.ask)

    if http is not None:
        yield _build(replica, hub, options, fresh, _over_threads(replica, http, fresh, hub, url))
        return
    async with httpx.AsyncClient(timeout=transport.TIMEOUT) as own:
        yield _build(replica, hub, options, fresh, _over_loop(replica, own, fresh, hub, url))


def _build(
    replica: Replica,
    hub: Hub,
    options: LiveOptions,
    fresh: Callable[[], Awaitable[str]],
    exchange: Callable[[Scope], Awaitable[Report]],
) -> Endpoint:
    url, tokens = replica.address()
    return Endpoint(
        app=replica.app,
        client=lambda: replica.client_id,
        url=url,
        schema_version=replica.schema_version,
        store=replica.store,
        hub=hub,
        limits=replica.limits,
        incarnation=replica.incarnation,
        pace=replica.paces.socket,
        policy=options.policy,
        renewable=tokens.renewable,
        wall=replica.wall,
        claim_user=replica.claim_user,
        named=lambda space: name_space(space, replica.user),
        fresh=fresh,
        exchange=exchange,
        verification_due=lambda: due(replica.store, replica.verify_every, replica.wall()),
        tell=replica.bulletin.tell,
        socket=options.socket,
    )


def _over_loop(
    replica: Replica, http: httpx.AsyncClient, fresh: Callable[[], Awaitable[str]], hub: Hub, url: str
) -> Callable[[Scope], Awaitable[Report]]:
    async def notify(conflict: Any) -> None:
        hub.publish(conflict)

    async def exchange(scope: Scope) -> Report:
        session = await in_thread(replica.session, scope, _ONCE)
        await transport.perform_async(session, http, url, fresh, notify)
        return session.report

    return exchange


def _over_threads(
    replica: Replica, http: httpx.Client, fresh: Callable[[], Awaitable[str]], hub: Hub, url: str
) -> Callable[[Scope], Awaitable[Report]]:
    async def exchange(scope: Scope) -> Report:
        session = await in_thread(replica.session, scope, _ONCE)
        token = await fresh()
        await in_thread(transport.perform, session, http, url, lambda: token, hub.publish)
        return session.report

    return exchange
