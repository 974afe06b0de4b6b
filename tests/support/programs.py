"""Programs that tests need and no Python package brings.

Asked for where they are used, so that what a run needs follows from the tests that were chosen.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def need(*packages: str) -> None:
    """Debian's packages of these names: there, else installed where root runs the tests, else the test fails."""
    _installed("packages", *packages)


def postgresql_15() -> Path:
    """The folder of Debian's PostgreSQL 15, the oldest version that is served."""
    need("postgresql-15")
    return Path("/usr/lib/postgresql/15/bin")


def psql(*arguments: str | Path) -> str:
    """What Debian's psql answers; `subprocess.CalledProcessError` where it fails."""
    need("postgresql-15")
    return subprocess.run(["psql", "-Xq", *arguments], check=True, capture_output=True, text=True).stdout


def need_chromium() -> None:
    """A Chromium for Playwright, in the same way."""
    _installed("chromium", sys.executable)


def _installed(script: str, *arguments: str) -> None:
    command = ["sh", f".ci/{script}", *arguments]
    with alone(REPOSITORY / ".ci"):
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        said = f"{done.stdout}{done.stderr}".strip()
        pytest.fail(f"{said}\n(or as root: {' '.join(command)})", pytrace=False)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time does something to this folder."""
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    with (Path(tempfile.gettempdir()) / f"syncd-tests-{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
