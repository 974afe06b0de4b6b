"""What endpoints and live connections work with, and where they have it from."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from syncd.core.errors import DatabaseUnavailable
from syncd.edge.live_deps import LiveDeps
from syncd.service.counts import Counts
from syncd.service.push import PushService
from syncd.service.rules import Rules
from syncd.service.spaces import SpaceService
from syncd.store.audit import Audit
from syncd.store.digest import Digests
from syncd.store.erasures import Erasures
from syncd.store.held import HeldChanges
from syncd.store.history import History
from syncd.store.log import Log
from syncd.store.usage import Totals


class Services(NamedTuple):
    """What there is once the database is. `key` signs cursors; `wrote` is told (space, app, seq) of a push."""

    log: Log
    key: bytes
    pushes: PushService
    wrote: Callable[[str, str, int], None]
    counts: Counts
    history: History
    digests: Digests
    held: HeldChanges
    totals: Totals
    audit: Audit
    erasures: Erasures
    spaces: SpaceService
    live: LiveDeps
    rules: Rules


class Backend(ABC):
    """Opens the services when they are first asked for, and once."""

    def __init__(self) -> None:
        self._services: Services | None = None
        self._opening = asyncio.Lock()

    async def services(self) -> Services:
        """Raises SyncdError until they can be opened."""
        if self._services is None:
            async with self._opening:
                if self._services is None:
                    self._services = await self.open()
        return self._services

    def live(self) -> LiveDeps:
        """What live connections work with. Raises DatabaseUnavailable until it is there."""
        if self._services is None:
            raise DatabaseUnavailable
        return self._services.live

    @abstractmethod
    async def open(self) -> Services:
        """Opens them. Raises SyncdError where it cannot; it is tried again."""

    @abstractmethod
    async def ready(self) -> list[str]:
        """Why it could not serve just now; nothing where it can."""

    @abstractmethod
    async def close(self) -> None:
        """Closes what was opened."""
