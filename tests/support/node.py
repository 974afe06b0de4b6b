"""Node's side of the tests: packages of a lock file, and the board's page. Several test processes may ask at once."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import REPOSITORY, alone

BOARD = REPOSITORY / "examples" / "board"
CLIENT = REPOSITORY / "clients" / "typescript"


def run(folder: Path, *command: str | Path) -> None:
    """Runs it in the folder; its whole output is the failure."""
    environment = {**os.environ, "SYNCD_PYTHON": sys.executable, "CI": "1", "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = f"{done.stdout[-8000:]}\n{done.stderr[-4000:]}"
        pytest.fail(f"{' '.join(map(str, command))} failed:\n{said}", pytrace=False)


def packages(folder: Path) -> Path:
    """The folder's `node_modules`, as its lock file says; a second time that takes no time."""
    run(REPOSITORY, "sh", ".ci/node")
    lock = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    stamp = folder / "node_modules" / ".installed"
    with alone(folder):
        if not stamp.is_file() or stamp.read_text() != lock:
            run(folder, "npm", "ci", "--no-audit", "--no-fund")
            stamp.write_text(lock)
    return folder / "node_modules"


def checked(folder: Path) -> None:
    """Its types and its style are in order, as `make check` says, which does not look twice at the same files."""
    packages(folder)
    with alone(folder):
        run(REPOSITORY, "make", "-s", str(folder.relative_to(REPOSITORY) / "node_modules" / ".checked"))


def board() -> Path:
    """The folder of the board's page, built unless it is newer than all that it is made of."""
    packages(BOARD)
    page = BOARD / "dist" / "index.html"
    sources = [BOARD / "index.html", BOARD / "vite.config.ts", BOARD / "package-lock.json"]
    for folder in (BOARD / "src", BOARD / "public", CLIENT / "src"):
        sources += [file for file in folder.rglob("*") if file.is_file()]
    with alone(BOARD):
        if not page.is_file() or page.stat().st_mtime < max(file.stat().st_mtime for file in sources):
            run(BOARD, "npm", "run", "build")
    return page.parent
