"""The fixtures that pytest has where syncd is installed: a small project's tests, in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = """
import pytest

@pytest.fixture(scope="session")
def syncd_settings():
    return {"max_change": 200}
"""
TESTS = """
import pytest

def test_one_has_what_it_wrote(syncd_server):
    phone = syncd_server.replica("ada", app="notes")
    phone.put("pages", "p1", {"title": "Beds"})
    phone.sync()
    assert phone.get("pages", "p1")["title"] == "Beds"

def test_another_has_nothing_of_it(syncd_server):
    phone = syncd_server.replica("ada", app="notes")
    phone.sync()
    assert phone.get("pages", "p1") is None
    phone.put("pages", "p1", {"title": 200 * "x"})
    phone.sync()
    assert [change.code for change in phone.rejected()] == ["change_too_large"]

@pytest.fixture(scope="session")
def seen():
    return set()

@pytest.mark.parametrize("number", [1, 2])
def test_all_share_one(syncd_shared_server, seen, number):
    seen.add(syncd_shared_server.url)
    assert len(seen) == 1
"""
FAILS = """
def test_that_fails(syncd_server):
    syncd_server.request("ada", "GET", "/nowhere")
"""
UNUSED = """
import sys

def test_nothing_is_loaded():
    loaded = [name for name in sys.modules if name.split(".")[0] in ("syncd", "asyncpg", "httpx2", "syncd_client")]
    assert sorted(loaded) == ["syncd", "syncd.testing", "syncd.testing.plugin"]
"""

pytestmark = pytest.mark.timeout(300)


def run(folder: Path, **files: str) -> tuple[int, str]:
    """A run of pytest over these files; its exit code and what it said."""
    (folder / "pytest.ini").touch()
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    command += ["-p", "no:schemathesis", "-p", "no:asyncio"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_each_test_has_a_server_of_its_own_or_all_have_one(tmp_path: Path) -> None:
    code, said = run(tmp_path, conftest=CONFTEST, test_notes=TESTS)
    assert (code, "4 passed" in said) == (0, True), said


def test_what_the_server_said_is_shown_with_a_test_that_failed(tmp_path: Path) -> None:
    code, said = run(tmp_path, test_fails=FAILS)
    assert code == 1
    assert "GET /nowhere as ada: 404" in said
    assert "what syncd_server said" in said
    assert "bus is up" in said


def test_a_run_that_asks_for_no_server_loads_nothing(tmp_path: Path) -> None:
    code, said = run(tmp_path, test_unused=UNUSED)
    assert code == 0, said
