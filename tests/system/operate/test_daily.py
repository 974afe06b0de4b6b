"""Daily work: what each `make` command needs, and that a test without a database stays without one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import REPOSITORY

STARTS = """
import subprocess
def test_that_starts_one():
    try: subprocess.run(["true"], check=True)
    except Exception: pass
"""
STARTS_NONE = "def test_that_starts_none(): pass\n"


def planned(*arguments: str) -> str:
    """What `make` would do, with `.venv` as it has to be."""
    command = ["make", "--no-print-directory", "-n", "--old-file=.venv/.installed", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout


def test_some_tests_install_only_what_they_need_and_all_install_everything() -> None:
    assert ".ci/packages" not in planned("test", "ARGS=-k clock")
    assert ".ci/chromium" not in planned("test", "ARGS=-k clock")
    assert ".ci/packages" not in planned("fast")
    everything = planned("test")
    for package in ("postgresql-15", "pgbouncer", "nats-server", "curl", "git", "unzip", "zstd"):
        assert package in everything.split()
    assert ".ci/chromium" in everything


def test_the_check_has_both_languages() -> None:
    done = planned("--always-make", "check")
    for tool in ("ruff check", "mypy", "lint-imports"):
        assert tool in done
    for folder in ("clients/typescript", "examples/board"):
        assert f"cd {folder} && npm run --silent check" in done


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("packages", "no-such-program"), "apt-get install no-such-program"),
        (("node",), "Node 20.19 or newer with npm is needed"),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_mends_it(
    tmp_path: Path, command: tuple[str, ...], said: str
) -> None:
    """PATH has nothing: no apt-get, no Node."""
    for name in ("sh", "cat"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    script = [str(tmp_path / "sh"), f".ci/{command[0]}", *command[1:]]
    done = subprocess.run(
        script, cwd=REPOSITORY, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert said in done.stderr


def test_a_test_without_a_database_that_starts_a_process_fails(tmp_path: Path) -> None:
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    (tmp_path / "tests" / "test_server.py").write_text(STARTS)
    (tmp_path / "tests" / "unit" / "test_some.py").write_text(STARTS + STARTS_NONE)
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "tests.support.plugin", "-c", os.devnull]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [*pytest_, "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "1 failed, 2 passed" in done.stdout, done.stdout
    assert "Failed: it starts a process, which no test of tests/unit/ or clients/python/tests/ does" in done.stdout
