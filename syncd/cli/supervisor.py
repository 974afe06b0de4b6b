"""One process that owns the address and the database, and the worker processes that serve.

It runs no event loop and answers no request, so it can be trusted to look after the others: a worker that
dies is started again, a database that dies too, and when this process is killed the kernel takes both along.
"""

from __future__ import annotations

import http.client
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.launch import ALLOCATION, Account, EmbeddedError, die_with_parent
from syncd.settings import PREFIX, Settings

# A worker that lived this long was well; the next failure starts again with the shortest pause.
WELL_AFTER_SECONDS = 10.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
# The exit status of a compactor that may not act as its role: it is no use to try again.
NOT_ALLOWED = 3


class Signals:
    """SIGTERM and SIGINT, remembered, and a wake-up when one comes or a child ends.

    A handler that raised would be lost wherever an exception is swallowed (a destructor, a callback).
    """

    def __init__(self) -> None:
        self.stops = 0
        self._wakes, self._woken = socket.socketpair()
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        for end in (self._wakes, self._woken):
            end.setblocking(False)
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        for sign, handler in (
            (signal.SIGTERM, self._stop),
            (signal.SIGINT, self._stop),
            (signal.SIGCHLD, self._child),
        ):
            signal.signal(sign, handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(-1)
        for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(sign, signal.SIG_DFL)
        self._wakes.close()
        self._woken.close()

    def wait(self, timeout: float, *others: int) -> None:
        """Sleep until a signal, a child's end, something to read on `others`, or `timeout` seconds."""
        ready, _, _ = select.select([self._wakes.fileno(), *others], [], [], timeout)
        if self._wakes.fileno() in ready:
            self._wakes.recv(4096)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stops += 1

    def _child(self, number: int, frame: FrameType | None) -> None:
        """Only to wake up."""


class Worker:
    """One slot: a process that serves, and the next one when it dies."""

    def __init__(
        self, listener: socket.socket, settings: Settings, board: int, place: int, account: Account | None, token: str
    ) -> None:
        self._account, self._token = account, token
        self._listener = listener
        self._settings = settings
        self._board, self._place = board, place
        self._pause = SHORTEST_PAUSE
        self._started = 0.0
        self.start_at = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self.reports = -1
        self.ready = False

    def start(self) -> None:
        """Fork and execute it. It writes one byte to a pipe when it serves."""
        self.reports, report = os.pipe()
        fds = (self._listener.fileno(), report, self._board)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "syncd.cli.worker", *map(str, (*fds, self._place)), self._token],
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                # Ctrl-C reaches the supervisor alone, which stops things in order.
                start_new_session=True,
                # SIGKILL: its database goes at that moment too, and the next start needs the address.
                preexec_fn=die_with_parent(signal.SIGKILL),
                **_process(self._settings, self._account),
            )
        finally:
            os.close(report)
        self._started = time.monotonic()

    def listen(self) -> bool:
        """Whether it serves by now."""
        if not self.ready and self.reports >= 0 and select.select([self.reports], [], [], 0)[0]:
            self.ready = os.read(self.reports, 1) == b"1"
            os.close(self.reports)
            self.reports = -1
        return self.ready

    def ended(self) -> int | None:
        """Its exit status, once, when it has ended; a new start is then due at `start_at`."""
        if self.process is None or self.process.poll() is None:
            return None
        status = self.process.returncode
        self._forget()
        lived = time.monotonic() - self._started
        self._pause = SHORTEST_PAUSE if lived > WELL_AFTER_SECONDS else min(self._pause * 2, LONGEST_PAUSE)
        self.start_at = time.monotonic() + self._pause
        return status

    def signal(self, sign: signal.Signals) -> None:
        """Send it a signal, if it is there."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(sign)

    def _forget(self) -> None:
        self.process = None
        self.ready = False
        if self.reports >= 0:
            os.close(self.reports)
            self.reports = -1


class Upkeep:
    """The process that compacts now and then, when one of all servers is due; it decides that itself, and ends.

    `url`: the database as who may compact, None where the settings name none.
    """

    # Not while everybody comes back after a start; and then often enough to go on with what was stopped.
    FIRST, LATER = 300.0, 3600.0

    def __init__(self, settings: Settings, url: str | None, account: Account | None) -> None:
        self._settings, self._url, self._account = settings, url, account
        self._process: subprocess.Popen[bytes] | None = None
        wanted = url is not None and settings.compact_every > 0
        self.due = time.monotonic() + min(self.FIRST, settings.compact_every) if wanted else float("inf")

    def look_after(self) -> None:
        """Starts it when it is due; forgets it when it has ended."""
        if self._process is not None and (status := self._process.poll()) is not None:
            self._process = None
            if status == NOT_ALLOWED:
                self.due = float("inf")
        if self._process is None and time.monotonic() >= self.due:
            self.due = time.monotonic() + min(self.LATER, self._settings.compact_every)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "syncd.cli.compactor"],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
                **_process(self._settings, self._account, **{f"{PREFIX}MIGRATE_URL": str(self._url)}),
            )

    def stop(self) -> None:
        """It ends after the part it is at: before the database does, and within a moment."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class Supervisor:
    """Keeps the workers, and the embedded database if there is one, alive until told to stop."""

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        signals: Signals,
        *,
        database: EmbeddedPostgres | None,
        account: Account | None,
        token: str,
        say: Callable[[str], None],
    ) -> None:
        url = database.compactor_dsn if database is not None else settings.migrate_url
        self._upkeep = Upkeep(settings, url, account)
        self._settings = settings
        self._listener = listener
        self._signals = signals
        self._database = database
        self._say = say
        # For what the workers count, so that each can tell the numbers of all.
        board = os.memfd_create("syncd-numbers")
        self._workers = [Worker(listener, settings, board, place, account, token) for place in range(settings.workers)]
        self._announced = False
        self._database_at = 0.0

    def run(self) -> int:
        """Serve until a signal; the exit code. Everything that was started is stopped on the way out."""
        self._listener.listen(2048)
        try:
            for worker in self._workers:
                worker.start()
            while not self._signals.stops:
                self._look_after_database()
                if not self._look_after_workers():
                    return 1
                self._announce()
                self._upkeep.look_after()
                self._signals.wait(self._until_due(), *(w.reports for w in self._workers if w.reports >= 0))
            return 0
        finally:
            self._upkeep.stop()
            self._stop_workers()

    def _look_after_database(self) -> None:
        if self._database is None or self._database.poll() is None or time.monotonic() < self._database_at:
            return
        self._say(f"the database ended with status {self._database.poll()}; starting it again")
        try:
            self._database.ensure()
            self._say("the database is back")
        except EmbeddedError as error:
            self._say(str(error))
            self._database_at = time.monotonic() + LONGEST_PAUSE

    def _look_after_workers(self) -> bool:
        """False when one cannot start the first time: that is the configuration, and trying on is no use."""
        for worker in self._workers:
            status = worker.ended()
            if status is not None and not self._announced:
                self._say(f"a worker did not start (status {status})")
                return False
            if status is not None:
                self._say(f"a worker ended with status {status}; starting another")
            if worker.process is None and time.monotonic() >= worker.start_at:
                worker.start()
        return True

    def _announce(self) -> None:
        listening = [worker.listen() for worker in self._workers]
        if all(listening) and not self._announced and self._healthy():
            self._announced = True
            host, port = self._listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"syncd is ready at http://{shown}:{port}", flush=True)
            if self._settings.demo:
                self._say(f"the demo is at http://{shown}:{port}/demo/, and lets anybody in")

    def _healthy(self) -> bool:
        host, port = self._listener.getsockname()[:2]
        connection = http.client.HTTPConnection({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _until_due(self) -> float:
        due = [self._upkeep.due, *(worker.start_at for worker in self._workers if worker.process is None)]
        waiting = 0.05 if not self._announced else 1.0
        return max(0.01, min([waiting, *(at - time.monotonic() for at in due)]))

    def _stop_workers(self) -> None:
        """SIGTERM, time for what is in flight, SIGKILL; a second request to stop skips the waiting."""
        self._listener.close()
        asked = self._signals.stops
        deadline = time.monotonic() + self._settings.shutdown_timeout + 5
        for worker in self._workers:
            worker.signal(signal.SIGTERM)
        while any(worker.process and worker.process.poll() is None for worker in self._workers):
            if time.monotonic() > deadline or self._signals.stops > max(asked, 1):
                for worker in self._workers:
                    worker.signal(signal.SIGKILL)
            self._signals.wait(0.2)
        for worker in self._workers:
            worker.ended()


def _process(settings: Settings, account: Account | None, **more: str) -> dict[str, Any]:
    """Environment and user of a process that serves; it is no longer root where it becomes another user."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    env = {**ALLOCATION, **inherited, **settings.environment(), **more}
    if account is None:
        return {"env": env}
    # From root's folder nothing could be read, nor from a home that is root's.
    env |= {"HOME": account.home, "USER": account.name, "LOGNAME": account.name}
    return {"env": env, "cwd": "/", **account.popen()}
