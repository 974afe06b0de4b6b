"""`syncd.testing` after a test that is interrupted, or what its servers are forked from has died: there are others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# It is stopped, so that the question is under way for as long as it takes.
INTERRUPTED = """
import os, signal
from syncd.testing import Server
from syncd.testing.hosting import host_process

def interrupt(number, frame):
    os.kill(host.pid, signal.SIGCONT)
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
with Server() as server:
    first = host_process()
    host = first._process
    os.kill(host.pid, signal.SIGSTOP)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        server.stop()
    except KeyboardInterrupt:
        print("interrupted")
"""
DIED = """
import os, signal
from syncd.testing import ServeError, Server
from syncd.testing.hosting import host_process

with Server() as server:
    first = host_process()
    os.kill(first._process.pid, signal.SIGKILL)
    try:
        server.stop()
    except ServeError as why:
        print(str(why).splitlines()[0])
"""
LATER = """
with Server() as server, Server() as other:
    server.space("garden", members={"ada": "owner"})
    assert server.url != other.url
    assert host_process() is not first
    assert not first.folder.exists()
    print("served")
"""


@pytest.mark.parametrize(
    ("what", "said"),
    [(INTERRUPTED, "interrupted"), (DIED, "what servers are forked from has ended")],
    ids=["interrupted", "died"],
)
def test_the_next_test_has_a_server(tmp_path: Path, what: str, said: str) -> None:
    # Of a working directory nothing is imported.
    (tmp_path / "json.py").write_text("raise SystemExit('not of the library')", encoding="utf-8")
    program = tmp_path / "own" / "tests.py"
    program.parent.mkdir()
    program.write_text(what + LATER, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.split("\n") == [said, "served", ""], done.stdout + done.stderr
