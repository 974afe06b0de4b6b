"""The queue of examples/tasks: workers are killed and stopped anywhere, and each run's effect is there once."""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from syncd_client import Replica

from syncd.testing import Server
from tests.support.programs import REPOSITORY, psql

LEASE = 2.0
DISASTERS, ORDERS, ITEMS = 12, 2, 3


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


@pytest.fixture
def workers(syncd_server: Server) -> Iterator[Workers]:
    psql(
        "-d",
        syncd_server.owner_url,
        "-c",
        "SELECT syncd.sync_consumer_add('tasks', 'application', '{tasks}', '{runs}', 'now')",
    )
    workers = Workers(syncd_server, 3)
    try:
        workers.until("to_regclass('task_runs') IS NOT NULL")
        yield workers
    finally:
        workers.end()


def asked(phone: Replica, id: str, task: str, **given: Any) -> None:
    """A run that a phone asks for; it may be offline."""
    phone.put("runs", id, {"task": task, "input": given})


def test_workers_that_die_anywhere_do_each_thing_once(syncd_server: Server, workers: Workers) -> None:
    seed = int(os.environ.get("SEED") or secrets.randbits(32))
    print("SEED", seed)
    drawn = random.Random(seed)
    phone = syncd_server.replica("ada", app="tasks")
    for nth in range(DISASTERS):
        for n in range(ORDERS):
            asked(phone, f"o{nth}-{n}", "order", items=["tea"] * ITEMS, seconds=0.2)
        phone.sync()
        # Where this process was kept from looking they may be done already.
        done = f"SELECT count(*) FROM task_runs WHERE state = 'done' AND id LIKE 'o{nth}-%' AND parent IS NULL"
        workers.until(f"EXISTS (SELECT FROM task_runs WHERE state = 'running') OR ({done}) = {ORDERS}")
        time.sleep(drawn.uniform(0, 0.6))
        workers.disaster(drawn)
    workers.until("count(*) FILTER (WHERE state <> 'done') = 0 FROM task_runs")
    print(
        "attempts", workers.sql("SELECT parent IS NULL, attempt, count(*) FROM task_runs GROUP BY 1, 2 ORDER BY 1, 2")
    )
    phone.sync()
    runs = {run.id: run for run in phone.query("runs")}
    orders = [run for id, run in runs.items() if id.startswith("o")]
    assert len(orders) == ORDERS * DISASTERS
    assert len(runs) == len(orders) * (1 + ITEMS)
    assert {run["state"] for run in runs.values()} == {"done"}
    assert [run["result"] for run in orders] == [{"total": 3 * ITEMS}] * len(orders)
    assert Counter(entry["run"] for entry in phone.query("entries")) == dict.fromkeys(runs, 1)
    # Some were begun again.
    usual = f"CASE WHEN parent IS NULL THEN {ITEMS + 1} ELSE 1 END"
    assert workers.sql(f"SELECT count(*) > 0 FROM task_runs WHERE attempt > {usual}") == "t"


def test_a_worker_that_was_stopped_keeps_nothing_of_a_run_that_another_has(
    syncd_server: Server, workers: Workers
) -> None:
    phone = syncd_server.replica("ada", app="tasks")
    asked(phone, "first", "price", item="tea", seconds=LEASE)
    phone.sync()
    workers.until("EXISTS (SELECT FROM task_runs WHERE state = 'running')")
    [stopped] = workers.busy()
    stopped.send_signal(signal.SIGSTOP)
    workers.until("state = 'done' FROM task_runs")
    assert workers.sql("SELECT attempt FROM task_runs") == "2"
    for process in workers.running:
        if process is not stopped:
            process.kill()
    stopped.send_signal(signal.SIGCONT)
    # When it does something else it is done with the first.
    asked(phone, "second", "price", item="tea")
    phone.sync()
    workers.until("state = 'done' FROM task_runs WHERE id = 'second'")
    phone.sync()
    assert Counter(entry["run"] for entry in phone.query("entries")) == {"first": 1, "second": 1}


def test_a_run_waits_for_its_child_and_hears_of_its_failure(syncd_server: Server, workers: Workers) -> None:
    phone = syncd_server.replica("ada", app="tasks")
    asked(phone, "slow", "order", items=["tea"], seconds=LEASE * 2)
    asked(phone, "wrong", "order", items=[7])
    asked(phone, "unknown", "fly")
    phone.sync()
    workers.until("count(*) = 1 FROM task_runs WHERE id = 'slow' AND state = 'waiting'")
    phone.sync()
    assert phone.get("runs", "slow")["state"] == "waiting"
    workers.until("count(*) = 3 FROM task_runs WHERE parent IS NULL AND state IN ('done', 'failed')")
    phone.sync()
    slow, wrong, unknown = (phone.get("runs", id) for id in ("slow", "wrong", "unknown"))
    assert (slow["state"], slow["result"]) == ("done", {"total": 3})
    # Its worker was heard of, though the task took twice as long as a lease.
    assert workers.sql("SELECT attempt FROM task_runs WHERE parent = 'slow'") == "1"
    assert wrong["state"] == "failed"
    assert "ChildFailed" in wrong["error"]
    assert (unknown["state"], unknown["error"]) == ("failed", "KeyError('fly')")
    assert {entry["run"] for entry in phone.query("entries")} == {"slow", slow["child"]}
