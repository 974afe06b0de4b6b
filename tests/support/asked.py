"""All that a server answers about what it holds: asked of one before an upgrade and of one after it."""

from __future__ import annotations

import httpx

from tests.support import past
from tests.support.harness import Server
from tests.support.wire import Device, Json

USERS = ("ann", "bob", "cid", "dan")
# Reads a folded log too: what is missing there is said, and said the same.
NAMED = ("code", "complete", "record", "records", "changes", "seq", "hasMore")


def answers(http: httpx.Client, server: Server, cursors: dict[str, str]) -> Json:
    """By user: everything, everything as a log, what came since a cursor of old, and every look into the past."""
    return {user: _answers(Device(http, server, user, "asking"), http, server, cursors) for user in USERS}


def _answers(device: Device, http: httpx.Client, server: Server, cursors: dict[str, str]) -> Json:
    changes, _ = device.drain()
    spaces = device.request("GET", "/spaces").json()
    digest = past.get(device, "/sync/app/digest")
    first = Device(http, server, device.user, "old", legacy=True)
    return {
        "changes": changes,
        "log": device.drain(history=1, limit=3)[0],
        "first": first.drain()[0],
        "since": device.drain(cursors[device.user])[0],
        "spaces": spaces,
        "digest": [{name: space[name] for name in ("spaceId", "records", "digest")} for space in digest["spaces"]],
        "records": {
            f"{change['spaceId']} {change['id']}": _record(device, change["spaceId"], change["id"])
            for change in changes
        },
        "past": {
            space: [_told(device, f"/sync/app/spaces/{space}/at", seq=seq) for seq in range(0, 50, 7)]
            for space in sorted({change["spaceId"] for change in changes if ":" not in change["spaceId"]})
        },
    }


def _record(device: Device, space: str, record: str) -> list[Json]:
    return [_told(device, past.address(space, record, what=what)) for what in ("", "/history")]


def _told(device: Device, path: str, **query: int) -> Json:
    answer = past.ask(device, path, **query).json()
    return {name: answer[name] for name in NAMED if name in answer}
