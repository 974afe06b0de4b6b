"""A visitor: a browser with stores of its own, and a network that can be cut."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from playwright.async_api import BrowserContext, Page, WebSocket

from tests.support.proxy import Proxy

# The same piece of work for a second, and how much longer than the quickest it took on the whole.
SHARED = """() => {
  const took = []
  for (const end = performance.now() + 1000; performance.now() < end;) {
    const began = performance.now()
    for (let n = 0, sum = 0; n < 200_000; n++) sum = (sum + n * n) % 1_000_003
    took.push(performance.now() - began)
  }
  return took.reduce((sum, one) => sum + one) / took.length / Math.min(...took)
}"""


class Visitor:
    """One browser context. All that it says to the server goes through `network`, so that cutting it cuts everything:
    Chromium's own offline mode leaves sockets that are open alone."""

    def __init__(self, context: BrowserContext, network: Proxy) -> None:
        self.context, self.network = context, network

    @property
    def url(self) -> str:
        """The server, as this visitor reaches it."""
        return self.network.url

    async def shared(self) -> float:
        """How many times as long as by itself a page's work takes just now, for what else the machine does."""
        page = await self.context.new_page()
        found: float = await page.evaluate(SHARED)
        await page.close()
        return found

    async def go_offline(self) -> None:
        """No request and no socket comes through, nor does the page's host answer."""
        await self.context.set_offline(True)
        self.network.faults = replace(self.network.faults, refuse=True)
        self.network.reset()

    async def go_online(self) -> None:
        """Everything works again."""
        self.network.heal()
        await self.context.set_offline(False)


class Tab:
    """A page with a replica in it, driven from here."""

    def __init__(self, page: Page, url: str, token: Callable[[str], str]) -> None:
        self.page, self._url, self._token = page, url, token
        self._sockets: list[WebSocket] = []
        page.on("websocket", lambda socket: self._sockets.append(socket))

    @property
    def connections(self) -> int:
        """How many sockets this page has open."""
        return sum(not socket.is_closed() for socket in self._sockets)

    def options(self, user: str, **more: Any) -> dict[str, Any]:
        """What a replica of this user is opened with."""
        retry = {"attempts": 1}
        return {"app": "app", "url": self._url, "token": self._token(user), "retry": retry, **more}

    async def open(self, user: str, name: str = "replica", *, live: bool = True, **more: Any) -> None:
        """Opens a replica, and lets it be live."""
        values = [name, self.options(user, **more)]
        await self.page.evaluate("([name, options]) => openReplica(name, options)", values)
        if live:
            await self.page.evaluate("goLive()")

    async def call(self, method: str, *values: Any) -> Any:
        """What a method of the replica answers; its names are the page's."""
        return await self.page.evaluate("([method, values]) => replica[method](...values)", [method, list(values)])

    async def synced(self, patience: float = 60.0) -> None:
        """Waits until the server has all that was written here, and all of the server's is here."""
        done = await self.page.evaluate("patience => live.waitUntilSynced(patience)", patience * 1000)
        assert done, await self.state()

    async def state(self) -> dict[str, Any]:
        """How the connection stands."""
        return dict(await self.page.evaluate("({ ...live.state, leading: live.leading })"))

    async def eventually(self, expression: str, value: Any = None, patience: float = 60.0) -> None:
        """Waits until an expression of the page, or a function of `value`, also an async one, is true."""
        deadline = time.monotonic() + patience
        while not await self.page.evaluate(expression, value):
            assert time.monotonic() < deadline, f"it never came to {expression}"
            await asyncio.sleep(0.03)

    async def rows(self, table: str = "t", space: str | None = None) -> dict[str, Any]:
        """The records of a table: fields by id."""
        found = await self.call("query", table, [], {"space": space})
        return {row["id"]: row["fields"] for row in found}

    async def pending(self) -> list[dict[str, Any]]:
        """What waits to be sent."""
        return list(await self.call("pending"))
