"""Replicas whose server is a script of replies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from syncd_client import Replica, RetryPolicy

from tests.client.scripted import Script

QUICK = RetryPolicy(attempts=3, first=0.001, longest=0.002, patience=0.5)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def open_replica(tmp_path: Path, script: Script) -> Iterator[Callable[..., Replica]]:
    """Opens replicas that talk to the script; every file and connection is closed in the end."""
    opened: list[Replica] = []
    http = httpx.Client(transport=httpx.MockTransport(script))

    def open_one(name: str = "replica", **options: Any) -> Replica:
        standard = {"app": "app", "url": "http://server", "token": "t", "durability": "normal", "http": http}
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
