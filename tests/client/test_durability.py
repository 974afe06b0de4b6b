"""Killed at any instant, or used by several at once, a replica loses nothing and sends nothing twice in effect."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from syncd_client import Replica

from tests.support.scripted import Script, applied, page

WRITER = """
import sys
from syncd_client import Replica
path, url, name = sys.argv[1:4]
replica = Replica(path, app="app", url=url or None, token="t", durability="normal")
print("ready", flush=True)
for n in range(1_000_000):
    with replica.batch() as batch:
        batch.put("t", f"{name}-{n}", {"n": n})
        batch.put("t", f"{name}-{n}-twin", {"n": n})
        batch.put("t", f"last-{name}", {"n": n})
    print(n, flush=True)
    if url and n % 5 == 4:
        replica.sync()
        print("synced", n, flush=True)
"""


def start(path: Path, url: str = "", name: str = "w") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), url, name]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert process.stdout.readline() == "0\n", "its first batch is written"
    return process


def kill(process: subprocess.Popen[str]) -> list[str]:
    """Kills it with -9; what it had said until then."""
    os.kill(process.pid, signal.SIGKILL)
    said, _ = process.communicate()
    return ["0", *said.splitlines()]


@pytest.fixture
def counting_endpoint() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Answers every push with `applied`, sometimes after a while, and keeps what it was sent."""
    pushes: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            pushes.append(body)
            time.sleep(random.random() * 0.02)
            self.answer(applied(body, cursor=f"c{len(pushes)}"))

        def do_GET(self) -> None:
            self.answer(page())

        def log_message(self, *args: Any) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # the client was killed
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", pushes
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_write_that_returned_survives_a_kill_and_no_batch_is_left_by_half(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    for round_ in range(4):
        process = start(path, name=str(round_))
        time.sleep(random.uniform(0.02, 0.2))
        said = kill(process)
        written = max(int(line) for line in said)
        with Replica(path, app="app") as replica:
            for n in range(written + 1):
                assert replica.get("t", f"{round_}-{n}") == {"n": n}
            mine = [change.id for change in replica.pending() if change.id.startswith(f"{round_}-")]
            whole = [name for n in range(len(mine) // 2) for name in (f"{round_}-{n}", f"{round_}-{n}-twin")]
            assert mine == whole, "a batch is there whole, in its order, or not at all"
            assert len(mine) // 2 in (written + 1, written + 2), "only what was being written may be missing"
            stamps = [change.change["fields"]["n"]["at"] for change in replica.pending()]
            assert stamps == sorted(set(stamps)), "no stamp twice, none goes back"


def test_killed_in_the_midst_of_syncing_it_sends_the_same_bytes_again(
    tmp_path: Path, counting_endpoint: tuple[str, list[dict[str, Any]]]
) -> None:
    url, pushes = counting_endpoint
    path = tmp_path / "r.db"
    written: set[str] = set()
    for round_ in range(5):
        process = start(path, url, str(round_))
        time.sleep(random.uniform(0.05, 0.25))
        said = [line for line in kill(process) if not line.startswith("synced")]
        written |= {f"{round_}-{line}" for line in said}
    with Replica(path, app="app", url=url, token="t", durability="normal") as replica:
        replica.sync()
        assert replica.pending() == []
        shown = {key[2] for key in replica.all_registers()}
    bodies: dict[str, set[str]] = {}
    sent: dict[str, int] = {}
    for push in pushes:
        assert push["atomic"]
        for change in push["changes"]:
            bodies.setdefault(change["changeId"], set()).add(json.dumps(change))
            sent[change["id"]] = len(bodies)
    assert written <= set(sent), "everything written was sent"
    assert shown == set(sent)
    assert all(len(versions) == 1 for versions in bodies.values()), "one changeId, one content"
    by_push = [[change["id"] for change in push["changes"]] for push in pushes]
    assert all(len(ids) % 3 == 0 for ids in by_push), "no batch was split"


def test_threads_and_processes_write_and_sync_one_file(
    tmp_path: Path, counting_endpoint: tuple[str, list[dict[str, Any]]]
) -> None:
    url, pushes = counting_endpoint
    path = tmp_path / "r.db"
    others = [start(path, url, f"p{number}") for number in range(2)]
    replica = Replica(path, app="app", url=url, token="t", durability="normal")
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for n in range(30):
                replica.put("t", f"{name}-{n}", {"n": n})
                if n % 10 == 9:
                    replica.sync()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = [kill(other) for other in others]
    replica.sync()
    assert failures == []
    assert replica.pending() == []
    wanted = {f"t{number}-{n}" for number in range(3) for n in range(30)}
    wanted |= {f"p{number}-{line}" for number in range(2) for line in said[number] if line.isdigit()}
    assert wanted <= {change["id"] for push in pushes for change in push["changes"]}
    sent = [(change["changeId"], json.dumps(change)) for push in pushes for change in push["changes"]]
    assert len({change_id for change_id, _ in sent}) == len(set(sent)), "one changeId, one content"
    replica.close()


def test_a_failure_while_applying_leaves_nothing_behind(
    open_replica: Callable[..., Replica], script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = open_replica()
    replica.put("t", "r", {"n": 1})
    before = replica.all_registers(), replica.pending(), replica.cursor
    with monkeypatch.context() as patched:
        patched.setattr("syncd_client.sync.apply._follow_spaces", lambda db, page: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            replica.sync()
    assert (replica.all_registers(), replica.pending(), replica.cursor) == before
    replica.sync()
    assert replica.pending() == []


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_the_durability_asked_for_is_the_one_that_holds(tmp_path: Path, durability: Any) -> None:
    with Replica(tmp_path / "r.db", app="app", durability=durability) as replica, replica.store.read() as db:
        assert db.execute("PRAGMA synchronous").fetchone()[0] == {"full": 2, "normal": 1}[durability]
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
