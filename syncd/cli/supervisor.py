"""One process that owns the address and the database, and looks after the one that forks the workers.

It runs no event loop and answers no request, so it can be trusted to look after the others: what dies is started again,
and when this process is killed the kernel takes the others along.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from syncd.cli.orders import Orders
from syncd.cli.signals import Pause, Signals
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.launch import ALLOCATION, Account, EmbeddedError, die_with_parent
from syncd.settings import PREFIX, Settings

# Until the database that would not start is tried again. Seconds.
DATABASE_PAUSE = 5.0
# The exit status of a compactor that may not act as its role: it is no use to try again.
NOT_ALLOWED = 3


class ForkServerHandle:
    """The process that forks the workers (syncd/cli/fork_server.py), and the next one when it dies.

    It may be started before there is a database: it begins to serve when it is told the settings.
    """

    def __init__(self, listener: socket.socket, account: Account | None) -> None:
        self._listener, self._account = listener, account
        self._told: Orders | None = None
        self._orders = self.reports = -1
        self._pause, self._started = Pause(), 0.0
        self.start_at = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self.ready = False

    def start(self) -> None:
        """Execute it. It writes one byte to a pipe when all workers serve."""
        orders, self._orders = os.pipe()
        self.reports, report = os.pipe()
        fds = (self._listener.fileno(), orders, report)
        self._started = time.monotonic()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "syncd.cli.fork_server", *map(str, fds)],
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                # Ctrl-C reaches the supervisor alone, which stops things in order.
                start_new_session=True,
                # SIGKILL: its database goes at that moment too, and the next start needs the address.
                preexec_fn=die_with_parent(signal.SIGKILL),
                **_process(self._account),
            )
        finally:
            os.close(orders)
            os.close(report)
        if self._told is not None:
            self.serve(self._told)

    def serve(self, told: Orders) -> None:
        """Tell it what to serve by, now and whenever it is started again. No secret is seen in its environment."""
        self._told = told
        # One that has just died is noticed where all are.
        with contextlib.suppress(BrokenPipeError), open(self._orders, "wb") as orders:
            orders.write(msgspec.json.encode(told))
        self._orders = -1

    def listen(self) -> bool:
        """Whether all workers serve by now."""
        if not self.ready and self.reports >= 0 and select.select([self.reports], [], [], 0)[0]:
            self.ready = os.read(self.reports, 1) == b"1"
            self._forget_pipes()
        return self.ready

    def ended(self) -> int | None:
        """Its exit status, once, when it has ended; a new start is then due at `start_at`."""
        if self.process is None or self.process.poll() is None:
            return None
        status = self.process.returncode
        self.process, self.ready = None, False
        self._forget_pipes()
        now = time.monotonic()
        self.start_at = now + self._pause.after(now - self._started)
        return status

    def signal(self, sign: signal.Signals) -> None:
        """Send it a signal, if it is there."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(sign)

    def stop(self) -> None:
        """At once, if it is there still: where nothing was served yet, or a start went wrong."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
        self._forget_pipes()

    def _forget_pipes(self) -> None:
        for end in (self.reports, self._orders):
            if end >= 0:
                os.close(end)
        self.reports = self._orders = -1


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
            how = _process(self._account)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "syncd.cli.compactor"],
                stdin=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
                **how,
            )
            # By a pipe: others may read an environment. One that has just died is noticed at the next look.
            with contextlib.suppress(BrokenPipeError), self._process.stdin or contextlib.nullcontext() as told:
                if told is not None:
                    told.write(msgspec.json.encode(self._told()))

    def _told(self) -> dict[str, str]:
        """What compaction goes by, as variables: no key and no secret but its own login."""
        ours = (f"{PREFIX}COMPACT_", f"{PREFIX}LOG_")
        chosen = {name: value for name, value in self._settings.environment().items() if name.startswith(ours)}
        # Settings take the one URL for a database that has the other.
        return {**chosen, f"{PREFIX}DATABASE_URL": str(self._url), f"{PREFIX}MIGRATE_URL": str(self._url)}

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
        forks: ForkServerHandle,
        *,
        database: EmbeddedPostgres | None,
        account: Account | None,
        token: str,
        say: Callable[[str], None],
    ) -> None:
        url = database.compactor_dsn if database is not None else settings.migrate_url
        self._upkeep = Upkeep(settings, url, account)
        self._settings, self._token = settings, token
        self._listener = listener
        self._signals = signals
        self._database = database
        self._say = say
        self._forks = forks
        self._announced = False
        self._database_at = 0.0

    def run(self) -> int:
        """Serve until a signal; the exit code. Everything that was started is stopped on the way out."""
        self._listener.listen(2048)
        try:
            self._forks.serve(Orders(self._settings.environment(), self._token))
            while not self._signals.stops:
                self._look_after_database()
                if not self._look_after_forks():
                    return 1
                self._announce()
                self._upkeep.look_after()
                self._signals.wait(self._until_due(), *([self._forks.reports] if self._forks.reports >= 0 else []))
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
            self._database_at = time.monotonic() + DATABASE_PAUSE

    def _look_after_forks(self) -> bool:
        """False when the workers cannot start the first time: that is the configuration, and trying on is no use."""
        status = self._forks.ended()
        if status is not None and not self._announced:
            self._say(f"the workers did not start (status {status})")
            return False
        if status is not None:
            self._say(f"the process that forks the workers ended with status {status}; starting another")
        if self._forks.process is None and time.monotonic() >= self._forks.start_at:
            self._forks.start()
        return True

    def _announce(self) -> None:
        if self._forks.listen() and not self._announced and self._healthy():
            self._announced = True
            host, port = self._listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"syncd is ready at http://{shown}:{port}", flush=True)
            if self._settings.demo:
                self._say(f"the demo is at http://{shown}:{port}/demo/, and lets anybody in")

    def _healthy(self) -> bool:
        import http.client

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
        due = [self._upkeep.due, *([self._forks.start_at] if self._forks.process is None else [])]
        waiting = 0.05 if self._forks.ready and not self._announced else 1.0
        return max(0.0, min([waiting, *(at - time.monotonic() for at in due)]))

    def _stop_workers(self) -> None:
        """SIGTERM, time for what is in flight, SIGKILL; a second request to stop skips the waiting."""
        self._listener.close()
        asked = self._signals.stops
        deadline = time.monotonic() + self._settings.shutdown_timeout + 5
        self._forks.signal(signal.SIGTERM)
        while self._forks.process is not None and self._forks.process.poll() is None:
            if time.monotonic() > deadline or self._signals.stops > max(asked, 1):
                # The kernel takes its workers along.
                self._forks.signal(signal.SIGKILL)
            self._signals.wait(0.2)
        self._forks.ended()


def _process(account: Account | None, **more: str) -> dict[str, Any]:
    """Environment and user of a process that serves; it is no longer root where it becomes another user."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    env = {**ALLOCATION, **inherited, **more}
    if account is None:
        return {"env": env}
    # From root's folder nothing could be read, nor from a home that is root's.
    env |= {"HOME": account.home, "USER": account.name, "LOGNAME": account.name}
    return {"env": env, "cwd": "/", **account.popen()}
