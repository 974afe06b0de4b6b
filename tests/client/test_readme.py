"""The README's code works as written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[2] / "clients" / "python" / "README.md"


def test_the_code_of_the_readme_runs(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNCD_URL", server.url)
    monkeypatch.setenv("SYNCD_TOKEN", server.token("readme"))
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 5
    names: dict[str, Any] = {}
    exec(compile("\n".join(blocks), str(README), "exec"), names)
    said = capsys.readouterr().out
    for block in blocks:
        for line in re.findall(r"print\(.*\)  # (.*)", block):
            assert line in said.splitlines()
