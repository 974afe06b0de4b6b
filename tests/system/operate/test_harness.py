"""The servers of the tests: forked ones are as executed ones; one that is thrown away is gone, or it is said why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from syncd.postgres.launch import WORKER
from tests.support.command_line import syncd
from tests.support.harness import Server
from tests.support.processes import family, fork_server_of, named, runs, workers_of

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


def seen(server: Server) -> dict[str, Any]:
    """What `ps` and /proc show of a server's own processes, but for numbers that no two starts share."""
    assert server.process is not None
    supervisor = psutil.Process(server.process.pid)
    found: dict[str, Any] = {}
    for name, process in (("supervisor", supervisor), ("forks", fork_server_of(server))):
        words = [word for word in process.cmdline() if word and not word.isdigit()]
        files = sorted(type(file).__name__ for file in process.net_connections())
        signals = Path(f"/proc/{process.pid}/status").read_text()
        found[name] = {
            "words": words, "cwd": process.cwd(), "user": process.uids(), "sockets": files, "fds": process.num_fds(),
            "threads": process.num_threads(), "session": os.getsid(process.pid) == process.pid,
            "signals": [line for line in signals.splitlines() if line.startswith("Sig")],
        }  # fmt: skip
    found["workers"] = len(workers_of(server))
    return found


def test_a_forked_server_is_as_an_executed_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    for executed in (True, False):
        monkeypatch.setattr(Server, "executed", executed)
        with Server(folder / f"data-{executed}", workers=2, settings={"max_changes": 7}) as server:
            assert isinstance(server.process, subprocess.Popen) == executed
            shown.append(seen(server))
            processes = family(server)
            fork_server_of(server).kill()
            # All workers go with it, and there are others soon.
            psutil.wait_procs(named(processes, WORKER), 30)
            assert server.stop() == 0
            assert all(not runs(process) for process in processes)
    assert shown[0] == shown[1]


def test_a_forked_command_says_and_ends_as_an_executed_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = []
    for executed in (True, False):
        monkeypatch.setattr(Server, "executed", executed)
        done = [syncd("token"), syncd("--version"), syncd("serve", env={"SYNCD_PORT": "x"}), syncd("schema", "list")]
        answers.append([(one.returncode, one.stdout, one.stderr) for one in done])
    assert answers[0] == answers[1]
    assert {status for status, _, _ in answers[0]} > {0, 2}


def test_the_status_of_a_forked_server_that_was_killed_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "executed", False)
    with Server(folder / "data") as server:
        process = server.process
        assert process is not None
        assert process.poll() is None
        processes = family(server)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
        assert process.poll() == -signal.SIGKILL
        process.send_signal(signal.SIGTERM)
        assert psutil.wait_procs(processes, 30)[1] == []
