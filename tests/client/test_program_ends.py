"""A program that ends without closing its live sync."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import atexit, sys, time
from syncd_client import Replica
atexit.register(time.sleep, 1.5)  # as a program that has something to do at its end
replica = Replica(sys.argv[1], app="app", url=sys.argv[2], token="t")
live = replica.live(on_state=lambda state: None)
replica.put("t", "r", {"n": 1})
time.sleep(float(sys.argv[3]))
"""


@pytest.mark.parametrize("seconds", ["0", "0.3"])
def test_a_program_that_ends_without_closing_its_live_sync_says_nothing(tmp_path: Path, seconds: str) -> None:
    command = [sys.executable, "-X", "dev", "-c", PROGRAM, str(tmp_path / "r.db"), "http://127.0.0.1:9", seconds]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "Traceback" not in ended.stderr
    assert "Error" not in ended.stderr
