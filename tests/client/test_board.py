"""The demo's board: its own checks and tests, the page as the server serves it, and the wheel that has it."""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import node
from tests.support.documentation import site
from tests.support.harness import Server

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def built() -> Path:
    """The folder of the built page. The tests in a browser may be using it now, so it is built once for both."""
    return node.board()


@pytest.fixture(scope="module")
def wheel(built: Path, workspace: Path) -> Path:
    """The wheel, unpacked: what `pip install` would put into site-packages."""
    site()
    wheels = workspace / "board-wheels"
    node.run(node.REPOSITORY, sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels)
    [file] = wheels.glob("*.whl")
    unpacked = workspace / "board-site"
    zipfile.ZipFile(file).extractall(unpacked)
    return unpacked


@pytest.fixture(scope="module")
def page(wheel: Path, workspace: Path) -> Iterator[httpx.Client]:
    """`syncd serve --demo` from the wheel, where there is no Node."""
    env = {"PYTHONPATH": str(wheel), "PATH": str(Path(sys.executable).parent)}
    server = Server(workspace / "board-data", settings={"demo": True}, env=env)
    with server, httpx.Client(base_url=server.url) as client:
        yield client


def precached(page: httpx.Client) -> list[str]:
    """What the service worker keeps, as addresses."""
    return [f"/demo/{url}" for url in re.findall(r'url:"([^"]+)"', page.get("/demo/sw.js").text)]


def test_the_board_type_checks_has_the_house_s_style_and_passes_its_own_tests() -> None:
    node.checked(node.BOARD)
    node.run(node.BOARD, "npm", "test")


def test_a_wheel_has_the_documentation_and_serves_it(page: httpx.Client, wheel: Path) -> None:
    assert (wheel / "syncd" / "docs" / "index.html").is_file()
    assert page.get("/docs/operate/running.html").status_code == 200


def test_a_wheel_has_the_board_and_its_server_is_the_one_that_serves_it(wheel: Path, built: Path) -> None:
    files = {str(file.relative_to(built)) for file in built.rglob("*") if file.is_file()}
    packed = {str(file.relative_to(wheel / "syncd" / "board")) for file in (wheel / "syncd" / "board").rglob("*.*")}
    assert packed == files
    assert "index.html" in packed


def test_the_page_is_served_with_all_that_it_names_and_nothing_from_elsewhere(page: httpx.Client) -> None:
    answer = page.get("/demo/")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-cache"
    policy = answer.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"} <= set(policy)
    named = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert len(named) >= 4
    for address in named:
        assert address.startswith("/demo/")
        found = page.get(address)
        assert found.status_code == 200, address
        if "/assets/" in address:
            assert found.headers["cache-control"] == "public, max-age=31536000, immutable"


def test_the_service_worker_keeps_the_page_and_no_answer_of_the_server(page: httpx.Client) -> None:
    kept = precached(page)
    assert "/demo/index.html" in kept
    assert any(address.endswith(".js") for address in kept)
    assert {page.get(address).status_code for address in kept} == {200}
    worker = page.get("/demo/sw.js")
    assert worker.headers["cache-control"] == "no-cache"
    assert "text/javascript" in worker.headers["content-type"]
    assert not re.search(r"NetworkFirst|CacheFirst|StaleWhileRevalidate", worker.text)


def test_without_the_slash_it_leads_there(page: httpx.Client) -> None:
    answer = page.get("/demo")
    assert (answer.status_code, answer.headers["location"]) == (308, "/demo/")
