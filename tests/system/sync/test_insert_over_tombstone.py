"""An insert with a greater stamp brings a deleted record back, in whatever order the two arrive."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.wire import Device

FIRST, LATER = "2026-01-01T10:00:00.000000Z", "2026-01-01T11:00:00.000000Z"


def _insert(at: str, legacy: bool) -> dict[str, Any]:
    content: dict[str, Any] = (
        {"data": {"title": "x", "updatedAt": at}} if legacy else {"fields": {"title": {"value": "x", "at": at}}}
    )
    return {"changeId": f"insert-{at}", "table": "t", "id": "r", "op": "insert", **content}


def _delete(at: str) -> dict[str, Any]:
    return {"changeId": f"delete-{at}", "table": "t", "id": "r", "op": "delete", "deletedAt": at}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("lives", [False, True])
def test_the_later_of_an_insert_and_a_delete_stands(device: Callable[..., Device], legacy: bool, lives: bool) -> None:
    changes = [_insert(LATER, legacy), _delete(FIRST)] if lives else [_insert(FIRST, legacy), _delete(LATER)]
    for n, order in enumerate(itertools.permutations(changes)):
        writer = device(f"births-{legacy}-{lives}-{n}")
        for change in order:
            writer.push(change)
        records = device(f"births-{legacy}-{lives}-{n}", "another").pull()["serverChanges"]
        assert [record["id"] for record in records] == (["r"] if lives else [])
