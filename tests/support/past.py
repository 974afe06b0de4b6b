"""Looks into the past and restores, as a device asks for them over the wire."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx

from tests.support.model import Cell, Cells
from tests.support.wire import Device, Json

NOTHING = Cell(None, "", "")


def address(space: str, record: str = "r", table: str = "t", what: str = "") -> str:
    """Of a record, or of one of its ways."""
    return f"/sync/app/records/{quote(table, safe='')}/{quote(record, safe='')}{what}?spaceId={quote(space, safe='')}"


def ask(device: Device, path: str, **query: Any) -> httpx.Response:
    """A look into the past, whatever comes of it."""
    more = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in query.items())
    return device.request("GET", f"{path}{'&' if '?' in path else '?'}{more}" if more else path)


def get(device: Device, path: str, **query: Any) -> Any:
    """A look into the past that must be answered 200."""
    answer = ask(device, path, **query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def history(device: Device, space: str, record: str = "r", limit: int = 1000) -> list[Json]:
    """All changes of a record, newest first, in pages."""
    found: list[Json] = []
    query: Json = {"limit": limit}
    while True:
        page = get(device, address(space, record, what="/history"), **query)
        found += page["changes"]
        assert len(page["changes"]) <= limit
        if not page["hasMore"]:
            assert page["complete"]
            return found
        query["before"] = found[-1]["seq"]


def listing(device: Device, space: str, limit: int = 1000, **moment: Any) -> tuple[list[Json], int]:
    """All records of a space as it was, in pages, and the seq that this is after."""
    found: list[Json] = []
    query: Json = {**moment, "limit": limit}
    while True:
        page = get(device, f"/sync/app/spaces/{quote(space, safe='')}/at", **query)
        assert page["complete"]
        found += page["records"]
        if not page["hasMore"]:
            return found, page["seq"]
        query = {"limit": limit, "after": page["next"]}


def restore(device: Device, path: str, **body: Any) -> httpx.Response:
    """A restore, whatever comes of it."""
    return device.request("POST", path, json=body)


def restored(device: Device, path: str, **body: Any) -> list[Json]:
    """A restore that must be answered 200; its results."""
    answer = restore(device, path, **body)
    assert answer.status_code == 200, answer.text
    results: list[Json] = answer.json()["results"]
    return results


def back(space: str) -> str:
    """Where a space is restored."""
    return f"/sync/app/spaces/{quote(space, safe='')}/restore"


def cells(registers: Json) -> Cells:
    return {name: Cell(r["value"], r["at"], r["clientId"]) for name, r in registers.items()}


def plain(record: Cells | None) -> Json | None:
    """What an application sees: None for a deleted record, and no field where its value is null."""
    if record is None or record.get("deletedAt", NOTHING).value is not None:
        return None
    return {name: cell.value for name, cell in record.items() if cell.value is not None}
