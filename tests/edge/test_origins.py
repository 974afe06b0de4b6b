"""Pages of a web origin may call the server when the operator allows that origin, and not otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.harness import Server

PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-client-id"}


@pytest.fixture(scope="module")
def url(workspace: Path) -> Iterator[str]:
    with Server(workspace / "origins", settings={"allowed_origins": "https://app.example"}) as server:
        yield server.url


def test_an_allowed_origin_may_ask_and_read(url: str) -> None:
    asked = httpx.options(f"{url}/sync/todo", headers={"Origin": "https://app.example", **PREFLIGHT})
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == "https://app.example"
    answered = httpx.get(f"{url}/health", headers={"Origin": "https://app.example"})
    assert answered.headers["access-control-allow-origin"] == "https://app.example"


def test_another_origin_is_not_let_in(url: str) -> None:
    asked = httpx.options(f"{url}/sync/todo", headers={"Origin": "https://evil.example", **PREFLIGHT})
    assert asked.status_code == 400
    assert "access-control-allow-origin" not in asked.headers
    answered = httpx.get(f"{url}/health", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answered.headers
