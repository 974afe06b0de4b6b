"""The queue of examples/tasks: workers are killed and stopped anywhere, and each run's effect is there once."""

from __future__ import annotations

import os
import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from syncd.testing import Server
from tests.support.task_workers import LEASE, Workers, asked, started

DISASTERS, ORDERS, ITEMS = 12, 2, 3


@pytest.fixture
def workers(syncd_server: Server) -> Iterator[Workers]:
    with started(syncd_server, 3) as workers:
        yield workers


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


def test_a_stack_goes_on_at_the_step_that_it_was_at(syncd_server: Server, workers: Workers) -> None:
    seed = int(os.environ.get("SEED") or secrets.randbits(32))
    print("SEED", seed)
    drawn = random.Random(seed)
    phone = syncd_server.replica("ada", app="tasks")
    steps = [{"task": "append", "input": {"item": item, "seconds": 0.2}} for item in "abcd"]
    inner = {"task": "stack", "input": {"steps": steps[:2]}}
    asked(phone, "flat", "stack", steps=steps, before=["start"])
    asked(phone, "nested", "stack", steps=[steps[3], inner, steps[2]])
    asked(phone, "wrong", "stack", steps=[steps[0], {"task": "fly"}, steps[1]])
    asked(phone, "empty", "stack", steps=[], before="kept")
    asked(phone, "none", "stack")
    phone.sync()
    for _ in range(8):
        if workers.sql("SELECT count(*) FROM task_runs WHERE parent IS NULL AND state IN ('done', 'failed')") == "5":
            break
        time.sleep(drawn.uniform(0, 0.5))
        workers.disaster(drawn)
    workers.until("count(*) = 5 FROM task_runs WHERE parent IS NULL AND state IN ('done', 'failed')")
    phone.sync()
    flat, nested, wrong, empty, none = (phone.get("runs", id) for id in ("flat", "nested", "wrong", "empty", "none"))
    assert (flat["state"], flat["result"], flat["step"]) == ("done", ["start", "a", "b", "c", "d"], 4)
    assert (nested["state"], nested["result"]) == ("done", ["d", "a", "b", "c"])
    assert (empty["state"], empty["result"]) == ("done", "kept")
    assert (wrong["state"], wrong["step"]) == ("failed", 2)
    assert "ChildFailed" in wrong["error"]
    assert (none["state"], none["error"]) == ("failed", "KeyError('steps')")
    # Each step was one run, with its effect once; what came after the one that failed was not begun.
    runs = [run.id for run in phone.query("runs") if run["task"] == "append"]
    assert len(runs) == 4 + 4 + 1
    assert Counter(entry["run"] for entry in phone.query("entries")) == dict.fromkeys(runs, 1)
