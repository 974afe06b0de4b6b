"""Replicas of this client whose live sync talks to a script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from syncd_client import (
    AsyncHttpSender,
    AsyncReplica,
    RetryPolicy,
)

from tests.support.scripted import Script
from tests.support.scripted_live import LiveScript

EARLY, LATE = "2001-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"
Open = Callable[..., AsyncReplica]


@pytest.fixture
async def open_async(tmp_path: Path, script: Script, live_script: LiveScript) -> AsyncIterator[Open]:
    """Opens replicas whose sockets go to one script and whose HTTP goes to the other."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx2.AsyncClient(transport=httpx2.MockTransport(script)))
        opened: list[AsyncReplica] = []

        def open_one(name: str = "replica", **options: Any) -> AsyncReplica:
            standard = {
                "app": "app",
                "url": live_script.url,
                "token": "t",
                "durability": "normal",
                "send": AsyncHttpSender(http),
            }
            replica = AsyncReplica(tmp_path / f"{name}.db", **(standard | {"retry": RetryPolicy(attempts=1)} | options))
            opened.append(replica)
            return replica

        yield open_one
        for replica in opened:
            await replica.close()


@pytest.fixture
def replica(open_async: Open) -> AsyncReplica:
    return open_async()


def is_live(live: Any) -> Callable[[], bool]:
    return lambda: live.state.name == "live"
