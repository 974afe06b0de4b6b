"""Several workers behind one address: whoever is killed, the others serve, and nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.harness import Server
from tests.support.processes import backends_of, family, fork_server_of, postmaster_of, running, runs, workers_of

pytestmark = pytest.mark.waits


@pytest.fixture
def pair(folder: Path) -> Iterator[Server]:
    """A server with two workers."""
    # A stop that somebody holds up takes longer than the harness waits.
    with Server(folder / "data", workers=2, settings={"shutdown_timeout": 120}) as running:
        yield running


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


class Writer(threading.Thread):
    """Pushes one record after the other, again when there was no answer; a ledger of what was acknowledged."""

    def __init__(self, server: Server, user: str) -> None:
        super().__init__()
        self.server = server
        self.user = user
        self.acknowledged: list[str] = []
        self.statuses: set[int] = set()
        self.failures: list[str] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        """Until told to stop."""
        headers = {"Authorization": f"Bearer {self.server.token(self.user)}"}
        number = 0
        with httpx.Client(base_url=self.server.url, headers=headers, timeout=10) as client:
            while not self.stopping.is_set():
                if self._pushed(client, f"r{number}"):
                    self.acknowledged.append(f"r{number}")
                    number += 1
                else:
                    time.sleep(0.05)

    def _pushed(self, client: httpx.Client, record: str) -> bool:
        field = {"value": record, "at": "2026-01-01T00:00:00Z"}
        change = {"changeId": record, "table": "t", "id": record, "op": "insert", "fields": {"name": field}}
        try:
            answer = client.post("/sync/kill", json={"clientId": f"{self.user}-1", "changes": [change], "pull": False})
        except httpx.HTTPError:
            return False
        self.statuses.add(answer.status_code)
        if answer.status_code not in (200, 503):
            self.failures.append(f"{answer.status_code} {answer.text}\n{self.server.output()[-5000:]}")
        return answer.status_code == 200 and answer.json()["results"][0]["status"] in ("applied", "duplicate")


def stored(server: Server, user: str) -> list[str]:
    """The records that the server has of a user."""
    headers = {"Authorization": f"Bearer {server.token(user)}"}
    found: list[str] = []
    since = ""
    while True:
        page = httpx.get(f"{server.url}/sync/kill/pull", params={"since": since}, headers=headers, timeout=30).json()
        found += [change["id"] for change in page["serverChanges"]]
        since = page["syncedUntil"]
        if not page["hasMore"]:
            return found


@pytest.fixture
def writers(pair: Server) -> Iterator[list[Writer]]:
    """Four users who write all the time."""
    running = [Writer(pair, f"user-{n}") for n in range(4)]
    for writer in running:
        writer.start()
    wait_for(lambda: all(len(writer.acknowledged) > 5 for writer in running))
    yield running
    settle(running)


def settle(writers: list[Writer]) -> None:
    """Stop them."""
    for writer in writers:
        writer.stopping.set()
    for writer in writers:
        writer.join(30)


def check(server: Server, writers: list[Writer]) -> None:
    """Everybody could write again, and every acknowledged record is there once."""
    before = [len(writer.acknowledged) for writer in writers]
    wait_for(lambda: all(len(w.acknowledged) > b + 5 for w, b in zip(writers, before, strict=True)))
    settle(writers)
    for writer in writers:
        found = stored(server, writer.user)
        assert len(found) == len(set(found))
        assert set(writer.acknowledged) <= set(found)
        # A push that got no answer may have been committed: at most the one that was under way.
        assert len(found) <= len(writer.acknowledged) + 1
        assert writer.statuses <= {200, 503}, "\n".join(writer.failures)


def test_both_workers_serve_one_address(pair: Server) -> None:
    assert len(workers_of(pair)) == 2
    listening = [c for p in workers_of(pair) for c in p.net_connections("inet") if c.status == "LISTEN"]
    assert {connection.laddr.port for connection in listening} == {pair.port}


def test_a_killed_worker_is_replaced(pair: Server, writers: list[Writer]) -> None:
    for _ in range(3):
        victim = workers_of(pair)[0]
        victim.kill()
        wait_for(lambda: not runs(victim) and len(workers_of(pair)) == 2)  # noqa: B023
    check(pair, writers)
    assert "starting another" in pair.output()


def test_a_worker_is_forked_from_a_process_that_has_nothing_which_two_must_not_share(pair: Server) -> None:
    parent = fork_server_of(pair)
    before = workers_of(pair)
    for victim in before:
        victim.kill()
    wait_for(lambda: len(workers_of(pair)) == 2 and not any(runs(victim) for victim in before))
    for worker in workers_of(pair):
        # The same program in the same process image: what is started anew has a command line of its own.
        assert (worker.ppid(), worker.cmdline()) == (parent.pid, parent.cmdline())
    assert parent.num_threads() == 1
    # Not even one to the database: all that it has is the address.
    assert [(c.status, c.laddr.port) for c in parent.net_connections("inet")] == [("LISTEN", pair.port)]
    assert len(parent.net_connections("unix")) == 2, "more than the two ends by which a signal wakes it"


def test_workers_end_with_who_forked_them_and_others_are_there(pair: Server, writers: list[Writer]) -> None:
    parent, before = fork_server_of(pair), workers_of(pair)
    parent.kill()
    wait_for(lambda: not any(runs(process) for process in (parent, *before)))
    check(pair, writers)
    assert {worker.ppid() for worker in workers_of(pair)} == {fork_server_of(pair).pid} != {parent.pid}


def test_no_secret_is_in_the_environment_of_who_serves(folder: Path) -> None:
    secret = "a secret of forty characters, not guessed"
    with Server(folder / "data", settings={"jwt_secret": secret}) as one:
        for process in (fork_server_of(one), *workers_of(one)):
            assert not [name for name in process.environ() if name.startswith("SYNCD_")]
            assert secret not in Path(f"/proc/{process.pid}/environ").read_text()


def test_no_secret_is_in_the_environment_of_who_compacts(folder: Path) -> None:
    secret = "a secret of forty characters, not guessed"
    # Due at once, and again and again.
    with Server(folder / "data", settings={"jwt_secret": secret, "compact_every": 1}) as one:
        seen: dict[int, str] = {}
        deadline = time.monotonic() + 60
        while not seen and time.monotonic() < deadline:
            for process in running(family(one), "syncd.cli.compactor"):
                with contextlib.suppress(OSError):
                    seen[process.pid] = Path(f"/proc/{process.pid}/environ").read_text()
    assert seen
    assert not [text for text in seen.values() if "SYNCD_" in text or secret in text]


FORKED = """
import os, random, sys, uuid
from syncd.cli import fork_server
from syncd.cli.signals import Signals

def serve(settings, listener, report, board, token):
    os.write(report, f"{os.getpid()} {random.random()} {uuid.uuid4()}".encode())

fork_server.serve = serve
with Signals() as signals:
    for _ in range(3):
        worker = fork_server.Worker(int(sys.argv[1]), None, "", None, signals)
        worker.start()
        print(os.read(worker.reports, 1000).decode(), flush=True)
        while worker.ended() is None:
            signals.wait(60.0)
        assert worker.start_at
"""


def test_no_two_workers_draw_the_same() -> None:
    with socket.socket() as listener:
        listener.set_inheritable(True)
        command = [sys.executable, "-c", FORKED, str(listener.fileno())]
        said = subprocess.run(command, capture_output=True, text=True, check=True, pass_fds=[listener.fileno()]).stdout
    drawn = [line.split() for line in said.splitlines()]
    assert len(drawn) == 3
    for column in zip(*drawn, strict=True):
        assert len(set(column)) == 3


def test_all_workers_killed_are_replaced(pair: Server, writers: list[Writer]) -> None:
    for victim in workers_of(pair):
        victim.kill()
    check(pair, writers)


def test_a_killed_database_comes_back_and_the_workers_reconnect(pair: Server, writers: list[Writer]) -> None:
    same = {worker.pid for worker in workers_of(pair)}
    for _ in range(3):
        postmaster_of(pair).kill()
        before = sum(len(writer.acknowledged) for writer in writers)
        wait_for(lambda: sum(len(writer.acknowledged) for writer in writers) > before + 20)  # noqa: B023
    check(pair, writers)
    assert {worker.pid for worker in workers_of(pair)} == same
    assert pair.output().count("the database is back") == 3


def test_a_killed_backend_is_reconnected(pair: Server, writers: list[Writer]) -> None:
    backends_of(pair)[0].kill()
    check(pair, writers)


def test_a_killed_supervisor_leaves_nothing_and_loses_nothing(pair: Server, writers: list[Writer]) -> None:
    for _ in range(3):
        left = family(pair)
        assert len(left) > 5
        pair.kill()
        wait_for(lambda: not any(runs(process) for process in left))  # noqa: B023
        pair.start()
    check(pair, writers)


def test_a_stop_leaves_nothing_and_is_clean(pair: Server, writers: list[Writer]) -> None:
    left = family(pair)
    assert pair.stop() == 0
    assert [process for process in left if runs(process)] == []
    assert "database system is shut down" in (pair.data_dir / "postgres.log").read_text()
    pair.start()
    check(pair, writers)


def test_a_stop_is_not_held_up_by_idle_connections(pair: Server) -> None:
    with httpx.Client(base_url=pair.url) as client, socket.create_connection(("127.0.0.1", pair.port)):
        assert client.get("/healthz").status_code == 200
        assert pair.stop() == 0


def test_a_second_signal_ends_the_waiting(folder: Path) -> None:
    with Server(folder / "data", settings={"shutdown_timeout": 60}) as server:
        # A request whose body never comes is in flight for ever.
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            token = server.token("ann")
            head = f"POST /sync/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 9\r\n"
            connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 100 ")  # it waits for the body
            assert server.process is not None
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(30) == 0
        server.stop()


def test_a_worker_that_cannot_start_ends_the_program_with_its_reason(folder: Path) -> None:
    (folder / "httptools.py").write_text("raise ImportError('a broken installation')")
    with pytest.raises(RuntimeError, match=r"(?s)a broken installation.*the workers did not start"):
        Server(folder / "data", env={"PYTHONPATH": str(folder)})
    assert not running(psutil.process_iter(), str(folder))


def test_a_stop_while_a_worker_starts_is_quick(pair: Server) -> None:
    for pause in (0.0, 0.1, 0.3, 0.6):
        workers_of(pair)[0].kill()
        time.sleep(0.15 + pause)
        assert pair.stop() == 0
        pair.start()


def test_the_workers_do_not_hold_the_databases_lock(pair: Server) -> None:
    # Else a worker that outlives its supervisor by a moment would keep the next server out.
    lock = os.stat(pair.data_dir / "lock")
    for worker in workers_of(pair):
        held = [os.stat(f"/proc/{worker.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{worker.pid}/fd")]
        assert (lock.st_dev, lock.st_ino) not in {(found.st_dev, found.st_ino) for found in held}
