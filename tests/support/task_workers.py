"""Processes of examples/tasks that work, and are killed or stopped."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from syncd_client import Replica

from syncd.testing import Server
from tests.support.programs import REPOSITORY, psql

LEASE = 2.0


class Workers:
    """Some processes that work."""

    def __init__(self, server: Server, many: int) -> None:
        self._server = server
        self._folder = server.folder
        self.running = [self.another() for _ in range(many)]

    def another(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "TASKS_DATABASE": self._server.database_url, "TASKS_LEASE": str(LEASE)}
        command = [sys.executable, "-m", "examples.tasks"]
        with (self._folder / "workers.log").open("ab") as log:
            return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log)

    def sql(self, statement: str) -> str:
        return psql("-At", "-d", self._server.owner_url, "-c", statement).strip()

    def until(self, condition: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while self.sql(f"SELECT {condition}") != "t":
            log = (self._folder / "workers.log").read_text()[-4000:]
            assert time.monotonic() < deadline, f"{condition}: {self.sql('SELECT * FROM task_runs')}\n{log}"
            time.sleep(0.1)

    def busy(self) -> list[subprocess.Popen[bytes]]:
        """Those that have a run."""
        owners = self.sql("SELECT split_part(owner, ':', 2) FROM task_runs WHERE state = 'running'").split()
        return [one for one in self.running if str(one.pid) in owners]

    def disaster(self, drawn: random.Random) -> None:
        """One that has a run, where there is one, is killed, or stopped for so long that another has its run."""
        process = drawn.choice(self.busy() or self.running)
        if drawn.random() < 0.3:
            process.send_signal(signal.SIGSTOP)
            time.sleep(LEASE * drawn.uniform(0.2, 2))
            process.send_signal(signal.SIGCONT)
            return
        process.kill()
        process.wait()
        self.running[self.running.index(process)] = self.another()

    def end(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()


@contextlib.contextmanager
def started(server: Server, many: int) -> Iterator[Workers]:
    """So many workers of a server whose consumer is made."""
    add = "SELECT syncd.sync_consumer_add('tasks', 'application', '{tasks}', '{runs}', 'now')"
    psql("-d", server.owner_url, "-c", add)
    workers = Workers(server, many)
    try:
        workers.until("to_regclass('task_runs') IS NOT NULL")
        yield workers
    finally:
        workers.end()


def asked(phone: Replica, id: str, task: str, **given: Any) -> None:
    """A run that a phone asks for; it may be offline."""
    phone.put("runs", id, {"task": task, "input": given})
