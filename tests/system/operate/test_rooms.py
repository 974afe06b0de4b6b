"""Rooms: each contract about imports fails when it is broken, and a room without a place fails too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.programs import REPOSITORY

PACKAGES = {"syncd": REPOSITORY / "syncd", "syncd_client": REPOSITORY / "clients/python/syncd_client"}
SETTINGS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
CONTRACTS = [contract["name"] for contract in SETTINGS["contracts"]]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Both packages, to be spoilt."""
    for name, package in PACKAGES.items():
        shutil.copytree(package, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.sql"))
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def linted(tree: Path) -> str:
    """What the linter says, on long lines."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "300"}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout
    return done.stdout


def test_an_import_that_goes_up_and_one_of_io_break_each_contract(tree: Path) -> None:
    planted = {
        "syncd/core/ids.py": "from syncd.store import pool",
        "syncd/protocol/messages.py": "import socket",
        "syncd/edge/host.py": "import django",
        "syncd/live/state.py": "import asyncio",
        "syncd_client/data/merge.py": "from syncd_client.live import hub",
        "syncd_client/data/clock.py": "import os",
        "syncd_client/store/store.py": "if TYPE_CHECKING:\n    from syncd_client.store import records",
    }
    for path, line in planted.items():
        with (tree / path).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
    said = linted(tree)
    assert [name for name in CONTRACTS if f"{name} BROKEN" not in said] == []
    for importer, imported in (
        ("syncd.core.ids", "syncd.store.pool"),
        ("syncd.protocol.messages", "socket"),
        ("syncd.edge.host", "django"),
        ("syncd.live.state", "asyncio"),
        ("syncd_client.data.merge", "syncd_client.live.hub"),
        ("syncd_client.data.clock", "os"),
    ):
        assert f"{importer} -> {imported} " in said
    assert "No cycles are allowed in syncd_client.store." in said


def test_a_room_without_a_place_breaks_the_contract_of_its_package(tree: Path) -> None:
    for package in PACKAGES:
        (tree / package / "attic.py").write_text('"""A new room."""\n', encoding="utf-8")
    said = linted(tree)
    assert [package for package in PACKAGES if f"{package}.attic" not in said] == []
