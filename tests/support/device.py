"""A device by plain HTTP: it keeps nothing, so a test sees exactly what was sent and what came back."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import httpx

from syncd.core.clock import format_instant
from tests.support.harness import Server

Change = dict[str, Any]


class Clock:
    """Instants that never stand still and never go back, as text."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self) -> str:
        self._last = max(self._last + 1, time.time_ns() // 1000)
        return format_instant(self._last)


class Device:
    """One device of one user. `url` is another way to the server, through a proxy for instance."""

    def __init__(
        self,
        server: Server,
        user: str,
        client: str = "device",
        *,
        app: str = "notes",
        url: str = "",
        spaces: list[dict[str, str]] | None = None,
        token: str = "",
        timeout: float = 30.0,
    ) -> None:
        self.user, self.client, self.app = user, client, app
        self.clock = Clock()
        headers = {
            "Authorization": f"Bearer {token or server.token(user, spaces)}",
            "X-Client-Id": client,
            "X-Sync-Protocol": "1",
        }
        self.http = httpx.AsyncClient(base_url=url or server.url, headers=headers, timeout=timeout)

    def change(self, change_id: str, record: str, value: Any, *, space: str = "", at: str = "") -> Change:
        """An update of one field of one record."""
        fields = {"value": {"value": value, "at": at or self.clock()}}
        change = {"changeId": change_id, "table": "items", "id": record, "op": "update", "fields": fields}
        return {**change, "spaceId": space} if space else change

    async def send(self, changes: Iterable[Change], *, pull: bool = False, **body: Any) -> httpx.Response:
        """A push, whatever becomes of it."""
        return await self.http.post(f"/sync/{self.app}", json={"changes": list(changes), "pull": pull, **body})

    async def push(self, changes: Iterable[Change], **body: Any) -> dict[str, Any]:
        """A push that must be answered with 200."""
        return answer(await self.send(changes, **body))

    async def ask(self, since: str = "", **query: Any) -> httpx.Response:
        """A pull, whatever becomes of it."""
        return await self.http.get(f"/sync/{self.app}/pull", params={"since": since, **query})

    async def pull(self, since: str = "", **query: Any) -> dict[str, Any]:
        """A pull that must be answered with 200."""
        return answer(await self.ask(since, **query))

    async def drain(self, since: str = "", **query: Any) -> tuple[list[Change], str]:
        """Everything there is since a cursor, and the cursor after it."""
        found: list[Change] = []
        while True:
            page = await self.pull(since, **query)
            found += page["serverChanges"]
            since = page["syncedUntil"]
            if not page["hasMore"]:
                return found, since

    async def create_space(self, space: str, **members: str) -> str:
        """A space of this user's, with further members by user and role."""
        made = await self.http.post("/spaces", json={"id": space, "name": space})
        assert made.status_code == 201, made.text
        for user, role in members.items():
            await self.put_member(space, user, role)
        return space

    async def put_member(self, space: str, user: str, role: str = "writer") -> None:
        """Adds a member."""
        answer(await self.http.put(f"/spaces/{space}/members/{user}", json={"role": role}))

    async def close(self) -> None:
        await self.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def answer(response: httpx.Response) -> dict[str, Any]:
    """The JSON of an answer that must be 200."""
    assert response.status_code == 200, f"{response.status_code} {response.text}"
    body: dict[str, Any] = response.json()
    return body


def statuses(body: dict[str, Any]) -> list[str]:
    """What became of each change of a push."""
    return [result["status"] for result in body["results"]]
