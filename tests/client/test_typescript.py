"""The TypeScript client's own checks and tests, against this repository's server and Python client."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "clients" / "typescript"
STAMP = FOLDER / "node_modules" / ".installed"
NEEDED = 20


def run(*command: str) -> None:
    """Runs it with what it needs to find this interpreter; its whole output is the failure."""
    environment = {**os.environ, "SYNCD_PYTHON": sys.executable, "CI": "1", "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=FOLDER, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(command)} failed:\n{done.stdout[-8000:]}\n{done.stderr[-4000:]}", pytrace=False)


@pytest.fixture(scope="module")
def npm() -> str:
    """npm, with the packages of the lock file installed; a second time that takes no time."""
    found, node = shutil.which("npm"), shutil.which("node")
    if found is None or node is None:
        pytest.fail("node and npm are needed: sh .ci/packages nodejs npm", pytrace=False)
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < NEEDED:
        pytest.fail(f"Node {NEEDED} or newer is needed, this is {version}.", pytrace=False)
    lock = hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()
    if not STAMP.is_file() or STAMP.read_text() != lock:
        run(found, "ci", "--no-audit", "--no-fund")
        STAMP.write_text(lock)
    return found


@pytest.mark.timeout(300)
def test_the_typescript_client_type_checks_and_has_the_house_s_style(npm: str) -> None:
    run(npm, "run", "check")


@pytest.mark.timeout(600)
def test_the_typescript_client_is_small_and_passes_its_own_tests(npm: str) -> None:
    run(npm, "test")
