"""The tests of docs/guide/testing-your-app.md, in the files that the page says, pass."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import REPOSITORY

PAGE = (REPOSITORY / "docs/guide/testing-your-app.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SAYS = re.compile(r"print\(.*\)  # (.*)")

pytestmark = pytest.mark.timeout(300)


def ran(folder: Path, *command: str) -> str:
    """What it printed."""
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_block_of_the_page_is_in_a_file_and_every_file_runs(tmp_path: Path) -> None:
    assert len(BLOCKS) == PAGE.count("```python")
    for name, code in BLOCKS:
        with (tmp_path / name).open("a", encoding="utf-8") as file:
            file.write(code + "\n\n")
    (tmp_path / "pytest.ini").touch()
    tests = sum(code.count("def test_") for _, code in BLOCKS)
    assert f"{tests} passed" in ran(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    [said] = [SAYS.findall(code) for name, code in BLOCKS if name == "try.py"]
    assert ran(tmp_path, "try.py").splitlines() == said
