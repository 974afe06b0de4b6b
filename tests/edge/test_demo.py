"""`--demo`: sign-in by name into one shared space, and only where it was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from syncd.settings import Settings, SettingsError
from tests.support.harness import Server


@pytest.fixture(scope="module")
def demo(workspace: Path) -> Iterator[httpx.Client]:
    """A server with the demo, whether its page was built or not."""
    with Server(workspace / "demo", settings={"demo": True}) as server, httpx.Client(base_url=server.url) as client:
        yield client


def test_a_name_is_all_it_takes_and_all_are_in_one_space(demo: httpx.Client) -> None:
    signed = [demo.post("/demo/token", json={"name": name}).json() for name in ("Ann", "Bob", "Ann")]
    assert [one["userId"] for one in signed] == ["demo:Ann", "demo:Bob", "demo:Ann"]
    for one in signed:
        spaces = demo.get("/spaces", headers={"Authorization": f"Bearer {one['token']}"}).json()["spaces"]
        assert [(space["id"], space["role"]) for space in spaces if space["id"] == one["spaceId"]] == [
            ("demo-board", "writer")
        ]


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": " "}, {"name": 3}, {"name": "x" * 300}, {"name": "a\nb"}])
def test_what_is_no_name_is_refused(demo: httpx.Client, body: dict[str, object]) -> None:
    answer = demo.post("/demo/token", json=body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path",
    ["/demo/../pyproject.toml", "/demo/%2e%2e/%2e%2e/pyproject.toml", "/demo/..%2f..%2fREADME.md", "/demo/a%00b"],
)
def test_no_file_outside_the_demo_is_served(demo: httpx.Client, path: str) -> None:
    assert demo.get(path).status_code in (400, 404)  # a step is no part of an address, however it is written


def test_without_it_there_is_no_such_address(server: Server) -> None:
    assert httpx.get(f"{server.url}/demo/").status_code == 404
    assert httpx.post(f"{server.url}/demo/token", json={"name": "ann"}).status_code == 404


def test_it_does_not_go_with_keys_and_members_from_outside() -> None:
    with pytest.raises(SettingsError, match="SYNCD_DEMO"):
        Settings.load({"SYNCD_DEMO": "true", "SYNCD_JWKS_URL": "http://x"})
    with pytest.raises(SettingsError, match="SYNCD_DEMO"):
        Settings.load({"SYNCD_DEMO": "1", "SYNCD_MEMBERSHIPS": "token"})
