"""docs/guide/types-from-schemas.md: its commands make what it shows, and its Python is well typed and runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import syncd
from tests.support.programs import REPOSITORY

GUIDE = REPOSITORY / "docs/guide"
PAGE = (GUIDE / "types-from-schemas.md").read_text(encoding="utf-8")
SCHEMAS = (GUIDE / "schemas.md").read_text(encoding="utf-8")
SCHEMA = re.findall(r"^```json\n(.*?)^```", SCHEMAS, re.MULTILINE | re.DOTALL)[0]
[COMMANDS] = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
[PYTHON] = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.timeout(300)
def test_the_commands_make_what_the_page_shows_and_its_program_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shop.json").write_text(SCHEMA, encoding="utf-8")
    for line in COMMANDS.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "syncd"
        done = syncd(*arguments)
        assert done.returncode == 0, done.stderr
    assert f"```ts\n{Path('shop.ts').read_text(encoding='utf-8')}```" in PAGE
    Path("program.py").write_text(PYTHON, encoding="utf-8")
    said = subprocess.run([sys.executable, "program.py"], capture_output=True, text=True, check=False)
    assert said.stdout.splitlines() == re.findall(r"print\(.*\)  # (.*)", PYTHON), said.stderr
    cache = REPOSITORY / ".mypy_cache/types-guide"
    checker = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir", cache, "program.py"]
    checked = subprocess.run(checker, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
