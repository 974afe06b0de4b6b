"""A user of both generations with a space, and what a device of the first one makes of what it is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.wire import Device, Json, at, unique

Make = Callable[..., Device]


class Home:
    """A user with a space that others share, and devices of both generations."""

    def __init__(self, device: Make) -> None:
        self.user = unique("ada")
        self.old = device(self.user, "old", legacy=True)
        self.tablet = device(self.user, "tablet", legacy=True)
        self.ours = device(self.user, "ours")
        self.personal = f"_personal:{self.user}"
        self.space = self.ours.create(unique("garden"))

    def log(self) -> list[tuple[str, str, str]]:
        """The whole log, that of the personal space first: space, op, device."""
        changes = sorted(self.ours.drain(history=1)[0], key=lambda change: str(change["spaceId"]))
        return [(c["spaceId"], c["op"], c["clientId"]) for c in changes]

    def records(self) -> dict[str, set[str]]:
        """Where each record lives, as a device of ours sees it."""
        found: dict[str, set[str]] = {}
        for change in self.ours.drain()[0]:
            found.setdefault(change["id"], set()).add(change["spaceId"])
        return found


def known(*pages: list[Json]) -> dict[str, Json]:
    """What a device of the first generation has after these changes: by id alone, each field's latest write."""
    stamps: dict[tuple[str, str], str] = {}
    found: dict[str, Json] = {}
    for change in (change for page in pages for change in page):
        for name, register in change["fields"].items():
            if register["at"] >= stamps.get((change["id"], name), ""):
                stamps[change["id"], name] = register["at"]
                found.setdefault(change["id"], {})[name] = register["value"]
    return {record: fields for record, fields in found.items() if fields.get("deletedAt") is None}


def insert(record: str, when: int, **data: Any) -> Json:
    return {"table": "t", "id": record, "op": "insert", "data": {**data, "createdAt": at(when)}}


def delete(record: str, when: int, **more: Any) -> Json:
    return {"table": "t", "id": record, "op": "delete", "deletedAt": at(when), **more}


def in_space(home: Home, change: Json) -> Json:
    return {key: value for key, value in change.items() if key != "changeId"} | {"spaceId": home.space}


def titles(found: dict[str, Json]) -> dict[str, Any]:
    return {record: fields["title"] for record, fields in found.items()}
