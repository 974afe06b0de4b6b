"""A device that speaks the wire protocol and knows nothing else: requests in, answers out, no merging."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.support.harness import Server

Json = dict[str, Any]


def unique(name: str) -> str:
    """A name that no other test uses: all share one server."""
    return f"{name}-{secrets.token_hex(5)}"


def at(micros: int) -> str:
    """An instant well in the past, `micros` after its start, as a device writes it."""
    return (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def ahead(seconds: float) -> str:
    """An instant `seconds` from now."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def edit(record: str, when: int | str = 1, *, change_id: str | None = "", **values: Any) -> Json:
    """An update of a record, all fields at one instant. Its id is new unless given; None leaves it out."""
    stamp = at(when) if isinstance(when, int) else when
    change: Json = {"table": "t", "id": record, "op": "update"}
    change["fields"] = {name: {"value": value, "at": stamp} for name, value in values.items()}
    if change_id is not None:
        change["changeId"] = change_id or secrets.token_hex(8)
    return change


class Device:
    """One device of one user. `app` is the app it syncs; `legacy`: it speaks like the first generation."""

    def __init__(
        self,
        http: httpx.Client,
        server: Server,
        user: str,
        client: str = "c1",
        *,
        app: str = "app",
        legacy: bool = False,
    ) -> None:
        self.http, self.user, self.client, self.app = http, user, client, app
        self.headers = {"authorization": f"Bearer {server.token(user)}", "x-client-id": client}
        if not legacy:
            self.headers["x-sync-protocol"] = "1"

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {**self.headers, **more.pop("headers", {})}
        return self.http.request(method, path, headers=headers, **more)

    def send(self, *changes: Json, **members: Any) -> httpx.Response:
        """A push, whatever comes of it."""
        return self.request("POST", f"/sync/{self.app}", json={"changes": list(changes), "pull": False, **members})

    def push(self, *changes: Json, **members: Any) -> Any:
        """A push that must be answered 200."""
        answer = self.send(*changes, **members)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def write(self, *changes: Json) -> None:
        """A push of which every change must be applied."""
        results = self.push(*changes)["results"]
        assert [r["status"] for r in results] == ["applied"] * len(changes), results

    def ask(self, since: str = "", **query: Any) -> httpx.Response:
        """A pull, whatever comes of it."""
        return self.request("GET", f"/sync/{self.app}/pull", params={"since": since, **query})

    def pull(self, since: str = "", **query: Any) -> Any:
        """A pull that must be answered 200."""
        answer = self.ask(since, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def pages(self, since: str = "", **query: Any) -> Iterator[Any]:
        """Pulls until there is no more."""
        for _ in range(10_000):
            page = self.pull(since, **query)
            yield page
            if not page["hasMore"]:
                return
            since = page["syncedUntil"]
        raise AssertionError("hasMore without end")

    def drain(self, since: str = "", **query: Any) -> tuple[list[Json], str]:
        """All changes after a cursor, and the last cursor."""
        pages = list(self.pages(since, **query))
        return [change for page in pages for change in page["serverChanges"]], pages[-1]["syncedUntil"]

    def create(self, space: str) -> str:
        """A new space of its own."""
        answer = self.request("POST", "/spaces", json={"id": space, "name": space})
        assert answer.status_code == 201, answer.text
        return space

    def member(self, space: str, user: str, role: str = "writer") -> None:
        """Adds a member, or changes a role."""
        answer = self.request("PUT", f"/spaces/{space}/members/{user}", json={"role": role})
        assert answer.status_code == 200, answer.text

    def remove(self, space: str, user: str) -> None:
        """Removes a member, or leaves."""
        answer = self.request("DELETE", f"/spaces/{space}/members/{user}")
        assert answer.status_code == 204, answer.text


def values(changes: list[Json]) -> dict[str, Json]:
    """The records that changes make when applied in order, as plain values by id; deleted ones are left out."""
    found: dict[str, Json] = {}
    for change in changes:
        record = found.setdefault(change["id"], {})
        record |= {name: register["value"] for name, register in change["fields"].items()}
    return {name: record for name, record in found.items() if record.get("deletedAt") is None}
