"""Replies for the client, fed one by one: a test says what the server answers, and sees what it was asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
from syncd_client import Replica
from syncd_client.data.change import Packed
from syncd_client.data.digest import bucket_of
from syncd_client.store.outbox import pack
from syncd_client.sync.apply import apply_page
from syncd_client.sync.reply import Page, build_page
from syncd_client.sync.report import Applied

Answer = httpx2.Response | Exception | Callable[[Any], Any]


def page(*changes: dict[str, Any], cursor: str = "c1", more: bool = False, **other: Any) -> dict[str, Any]:
    """The body of an answer to a pull."""
    return {"serverChanges": list(changes), "syncedUntil": cursor, "hasMore": more, "spaces": {}} | other


def applied(body: dict[str, Any], *changes: dict[str, Any], **other: Any) -> dict[str, Any]:
    """The body of an answer to a push that applied everything."""
    results = [
        {"changeId": change["changeId"], "eventId": f"e{index}", "seq": index + 1, "status": "applied"}
        for index, change in enumerate(body["changes"])
    ]
    return page(*changes, **({"results": results, "conflicts": []} | other))


def wire(record: str, client: str = "other", op: str = "update", space: str = "_personal:u", **fields: Any) -> Any:
    """A change of the server: each field is (value, at)."""
    registers = {name: {"value": value, "at": at} for name, (value, at) in fields.items()}
    return {
        "changeId": f"{client}-{record}",
        "eventId": "e",
        "seq": 1,
        "table": "t",
        "id": record,
        "op": op,
        "spaceId": space,
        "clientId": client,
        "fields": registers,
    }


class Script:
    """The server's part. `answers` are used up in order; then everything is applied, and nothing new."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[httpx2.Request] = []

    @property
    def pushes(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.asked if request.method == "POST"]

    @property
    def pulls(self) -> list[httpx2.URL]:
        return [request.url for request in self.asked if request.method == "GET"]

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        answer: Any = self.answers.pop(0) if self.answers else self._agree
        if callable(answer):
            answer = answer(json.loads(request.content) if request.content else None)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx2.Response) else httpx2.Response(200, json=answer)

    @staticmethod
    def _agree(body: Any) -> Any:
        return page() if body is None else applied(body)


def problem(status: int, code: str, *pointers: str, **headers: str) -> httpx2.Response:
    """A refusal of the server."""
    errors = [{"pointer": pointer, "detail": f"bad: {pointer}"} for pointer in pointers]
    body = {
        "type": f"/docs/errors#{code}",
        "title": code,
        "status": status,
        "code": code,
        "detail": "No.",
        "errors": errors,
    }
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(
        status, content=json.dumps(body), headers={"content-type": "application/problem+json"} | named
    )


def spread(count: int) -> list[str]:
    """So many records, each in a bucket of its own."""
    found: dict[int, str] = {}
    for n in range(100_000):
        found.setdefault(bucket_of("t", f"r{n}"), f"r{n}")
        if len(found) == count:
            break
    return list(found.values())


def take(
    replica: Replica,
    frame: dict[str, Any],
    pushed: tuple[Packed, ...] = (),
    cursor: str | None = "c",
    *,
    more: bool | None = None,
) -> Applied:
    """Applies a frame of a live connection; of an answer to a push over HTTP that says whether there is `more`."""
    built: Page = build_page(frame, frame.get("changes"), cursor, bool(pushed) if more is None else more, pushed)
    with replica.store.write() as db:
        return apply_page(db, built, pushed)


def packed(replica: Replica) -> tuple[Packed, ...]:
    """What a live connection sends now."""
    with replica.store.read() as db:
        return tuple(pack(db, 2**62, 1000, 10**6))
