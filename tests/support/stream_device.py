"""A device on server-sent events: what came is kept in order, and every wait says for what."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import httpx

from tests.support.harness import Server

Json = dict[str, Any]
F = TypeVar("F")
WITHIN = 60.0


class SentEvent(NamedTuple):
    """One event. `id` is None where it had none."""

    name: str
    id: str | None
    data: Any


class Stream:
    """A stream that was opened. `events`: everything that came; `ended`: the server ended it."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.events: list[SentEvent] = []
        self.ended = False
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        rest = b""
        with contextlib.suppress(httpx.HTTPError):
            async for data in self.response.aiter_bytes():
                # By hand: a line of these ends with a line feed, not with all that Python takes for an end.
                *events, rest = (rest + data).split(b"\n\n")
                self.events += [parsed(event.decode().split("\n")) for event in events]
                self._news.set()
            self.ended = True
        self._news.set()

    async def until(self, condition: Callable[[], F], within: float = WITHIN) -> F:
        """Waits until something holds that what came has to do with."""
        deadline = time.monotonic() + within
        while not (found := condition()):
            assert time.monotonic() < deadline, f"it never came; what did: {self.events[-6:]}"
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await self._news.wait()
        return found

    def all(self, name: str) -> list[SentEvent]:
        """The events of a name that have come so far."""
        return [event for event in self.events if event.name == name]

    async def next(self, name: str, number: int = 1, within: float = WITHIN) -> SentEvent:
        """The first, second, … event of a name."""
        await self.until(lambda: len(self.all(name)) >= number, within)
        return self.all(name)[number - 1]

    def changes(self) -> list[Json]:
        """All changes that have come, in order."""
        return [change for event in self.all("changes") for change in event.data["changes"]]

    async def brings(self, record: str, within: float = WITHIN) -> Json:
        """Waits for a change of a record, which may have come already."""
        return (await self.until(lambda: [c for c in self.changes() if c["id"] == record], within))[0]

    @property
    def last_id(self) -> str:
        """What a browser sends as Last-Event-ID when it comes back."""
        return next((event.id for event in reversed(self.events) if event.id is not None), "")

    async def ends(self, within: float = WITHIN) -> None:
        """Waits until the server has ended it."""
        await self.until(lambda: self.ended, within)

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])


def parsed(lines: list[str]) -> SentEvent:
    """An event from its lines."""
    fields = {name: value.removeprefix(" ") for name, _, value in (line.partition(":") for line in lines)}
    assert fields.keys() <= {"event", "id", "data"}, lines
    return SentEvent(fields["event"], fields.get("id"), json.loads(fields["data"]))


@asynccontextmanager
async def stream_of(
    server: Server,
    user: str,
    app: str = "notes",
    *,
    token: str = "",
    headers: dict[str, str] | None = None,
    protocol: bool = True,
    **query: Any,
) -> AsyncIterator[Stream]:
    """A user's stream, closed at the end."""
    sent = {"Authorization": f"Bearer {token or server.token(user)}", **(headers or {})}
    if protocol:
        sent["X-Sync-Protocol"] = "1"
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=httpx.Timeout(30, read=None)) as http,
        http.stream("GET", f"/sync/{app}/stream", params=query, headers=sent) as response,
    ):
        assert response.status_code == 200, await response.aread()
        stream = Stream(response)
        try:
            yield stream
        finally:
            await stream.close()
