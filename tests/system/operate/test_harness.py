"""A server of the tests that is thrown away does not wait for ever for what holds on to its database."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.harness import Server

HOLDS = """
import fcntl, sys, time
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


def test_what_holds_on_to_the_database_is_killed_and_named(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "patience", 0.05)
    monkeypatch.setattr(Server, "template", None)
    (workspace / "held-on-to").mkdir()
    server = Server(workspace / "held-on-to", start=False)
    holds = [sys.executable, "-c", HOLDS, str(workspace / "held-on-to" / "lock")]
    with subprocess.Popen(holds, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            server.process = subprocess.Popen(["sleep", "600"], text=True)
            with pytest.raises(RuntimeError, match=f"{holder.pid}"):
                server.discard()
            assert holder.wait(10) == -9
        finally:
            holder.kill()
