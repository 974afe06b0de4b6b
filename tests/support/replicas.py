"""Replicas whose server is a script of replies, and what is done to replicas by tests of several files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from syncd_client import (
    HttpSender,
    Replica,
    RetryPolicy,
)

from tests.support.scripted import Script

QUICK = RetryPolicy(attempts=3, first=0.001, longest=0.002, patience=0.5)


class Wall:
    """A wall clock that a test sets, in microseconds."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def open_replica(tmp_path: Path, script: Script) -> Iterator[Callable[..., Replica]]:
    """Opens replicas that talk to the script; every file and connection is closed in the end."""
    opened: list[Replica] = []
    http = httpx2.Client(transport=httpx2.MockTransport(script))

    def open_one(name: str = "replica", **options: Any) -> Replica:
        standard = {
            "app": "app",
            "url": "http://server",
            "token": "t",
            "durability": "normal",
            "send": HttpSender(http),
        }
        replica = Replica(tmp_path / f"{name}.db", **(standard | {"retry": QUICK} | options))
        opened.append(replica)
        return replica

    yield open_one
    for replica in opened:
        replica.close()
    http.close()


@pytest.fixture
def replica(open_replica: Callable[..., Replica]) -> Replica:
    return open_replica()


def copy(replica: Replica, tmp_path: Path, name: str) -> None:
    """As a backup does it: everything that belongs to the file."""
    with replica.store.read() as db:
        path = Path(db.execute("PRAGMA database_list").fetchone()[2])
    for file in tmp_path.glob(f"{path.name}*"):
        shutil.copy2(file, tmp_path / file.name.replace(path.stem, name, 1))


def values(replica: Replica, id: str = "r") -> dict[str, Any] | None:
    """What an application sees, without fields that are null."""
    record = replica.get("t", id)
    return None if record is None else {name: value for name, value in record.items() if value is not None}
