"""Webhooks of tests, kept as an operator keeps them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from syncd.consumers.message import secret_text
from syncd.consumers.webhook_sender import WebhookOptions, WebhookRunner
from syncd.store.consumers import ConsumerOperator
from syncd.store.webhooks import Webhook, WebhookOperator
from tests.support.consuming import eventually
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.wire import unique


@asynccontextmanager
async def sending(dsn: str, options: WebhookOptions) -> AsyncIterator[None]:
    """Sends for all webhooks, over a login's connection."""
    task = asyncio.create_task(WebhookRunner(dsn, options).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        # What is left would be sent by the next one.
        await run(dsn, "UPDATE syncd.sync_webhooks SET state = 'paused' WHERE state <> 'paused'")


class Hook:
    """A webhook to a receiver, kept by an operator."""

    def __init__(self, server: Server, name: str, secret: str) -> None:
        self.server, self.name, self.secret = server, name, secret

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[WebhookOperator]:
        connection = await asyncpg.connect(self.server.owner_dsn)
        try:
            yield WebhookOperator(connection)
        finally:
            await connection.close()

    async def now(self) -> Webhook:
        async with self.operator() as operator:
            return next(one for one in await operator.all() if one.name == self.name)

    async def until(self, what: Callable[[Webhook], bool]) -> Webhook:
        return await eventually(self.now, what)

    async def into(self, state: str) -> None:
        async with self.operator() as operator:
            assert await operator.into(self.name, state, None, of=["active", "paused", "draining"])

    async def behind(self) -> int:
        found = await run(
            self.server.owner_dsn, f"SELECT changes FROM syncd.sync_consumer_lags() WHERE name = '{self.name}'"
        )
        return int(found[0][0])


async def hook(server: Server, url: str, app: str, **how: Any) -> Hook:
    name, key = unique("hook"), os.urandom(32)
    connection = await asyncpg.connect(server.owner_dsn)
    async with connection.transaction():
        await ConsumerOperator(connection).add(name, "syncd_owner", [app], how.pop("tables", None), "beginning")
        values = (how.get("ops"), how.get("fields"), how.get("private", True))
        await WebhookOperator(connection).add(name, url, key, *values)
    await connection.close()
    return Hook(server, name, secret_text(key))
