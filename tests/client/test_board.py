"""The demo's board: its own checks and tests, the page as the server serves it, and the wheel that has it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.harness import Server

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "examples" / "board"
STAMP = FOLDER / "node_modules" / ".installed"

pytestmark = pytest.mark.timeout(300)


def run(folder: Path, *command: str) -> None:
    """Runs it; its whole output is the failure."""
    environment = {**os.environ, "CI": "1", "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(command)} failed:\n{done.stdout[-8000:]}\n{done.stderr[-4000:]}", pytrace=False)


@pytest.fixture(scope="module")
def npm() -> str:
    """npm, with the packages of the lock file installed; a second time that takes no time."""
    found = shutil.which("npm")
    if found is None or shutil.which("node") is None:
        pytest.fail("node and npm are needed: sh .ci/packages nodejs npm", pytrace=False)
    lock = hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()
    if not STAMP.is_file() or STAMP.read_text() != lock:
        run(FOLDER, found, "ci", "--no-audit", "--no-fund")
        STAMP.write_text(lock)
    return found


@pytest.fixture(scope="module")
def built(npm: str) -> Path:
    """The folder of the built page."""
    run(FOLDER, npm, "run", "build")
    return FOLDER / "dist"


@pytest.fixture(scope="module")
def open_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the embedded PostgreSQL, which runs as another user, may be."""
    folder = Path(tmp_path_factory.mktemp("board"))
    for parent in (folder, *list(folder.parents)[:3]):
        parent.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path, open_folder: Path) -> Path:
    """The wheel, unpacked: what `pip install` would put into site-packages."""
    run(REPOSITORY, sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(open_folder / "wheels"))
    [file] = (open_folder / "wheels").glob("*.whl")
    unpacked = open_folder / "site"
    zipfile.ZipFile(file).extractall(unpacked)
    return unpacked


@pytest.fixture(scope="module")
def page(wheel: Path, open_folder: Path) -> Iterator[httpx.Client]:
    """`syncd serve --demo` from the wheel, where there is no Node."""
    env = {"PYTHONPATH": str(wheel), "PATH": str(Path(sys.executable).parent)}
    server = Server(open_folder / "data", settings={"demo": True}, env=env)
    with server, httpx.Client(base_url=server.url) as client:
        yield client


def precached(page: httpx.Client) -> list[str]:
    """What the service worker keeps, as addresses."""
    return [f"/demo/{url}" for url in re.findall(r'url:"([^"]+)"', page.get("/demo/sw.js").text)]


def test_the_board_type_checks_has_the_house_s_style_and_passes_its_own_tests(npm: str) -> None:
    run(FOLDER, npm, "run", "check")
    run(FOLDER, npm, "test")


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
