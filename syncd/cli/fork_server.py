"""The process that workers are forked from: it has imported what they run, so one that dies is there again at once.

The supervisor starts it, as the user that serves, while the database is still on its way, and tells it the settings
when there is a database to serve from. It opens no connection, runs no event loop and starts no thread, so a fork
copies modules and settings, and nothing that two processes must not share. When it ends, the kernel takes its workers
along. Not to be started by people.
"""

from __future__ import annotations

import gc

# Until there is something to collect: a tenth of the start would go to collections that find nothing.
gc.disable()

import os
import select
import signal
import socket
import sys
import time
import traceback
from typing import NoReturn

# Before all that imports structlog.
from syncd.cli.logs import start_logging  # isort: skip

import msgspec

from syncd.cli.orders import Orders
from syncd.cli.signals import HEARD, Pause, Signals
from syncd.cli.worker import serve
from syncd.edge.metrics import Board
from syncd.postgres.launch import WORKER, die_with_parent, set_process_name
from syncd.settings import Settings


class Worker:
    """One place: a process that serves, and the next one when it dies."""

    def __init__(self, listener: int, settings: Settings, token: str, board: Board, signals: Signals) -> None:
        self._listener, self._settings, self._token = listener, settings, token
        self._board, self._signals = board, signals
        self._pause, self._started = Pause(), 0.0
        self.start_at = 0.0
        self.pid: int | None = None
        self.reports = -1
        self.ready = False

    def start(self, *of_mine: int) -> None:
        """Fork it. It writes one byte to a pipe when it serves; `of_mine` are descriptors that it must not have."""
        self._started = time.monotonic()
        self.reports, report = os.pipe()
        arrange = die_with_parent(signal.SIGKILL)
        # One that came in between would be noted here, in the child, where nobody looks.
        signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
        try:
            pid = os.fork()
            if pid == 0:
                arrange()
                self._be(report, *of_mine, self.reports)
            self.pid = pid
        except OSError as error:
            # No memory, or too many processes: the others serve on.
            say(f"a worker cannot be started: {error.strerror}")
            self._rest()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
            os.close(report)

    def _be(self, report: int, *of_parent: int) -> NoReturn:
        """What the child does: never to come back to where it was forked."""
        status = 1
        try:
            set_process_name(WORKER)
            self._signals.leave()
            for descriptor in of_parent:
                os.close(descriptor)
            listener = socket.socket(fileno=self._listener)
            serve(self._settings, listener, report, self._board, self._token)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def listen(self) -> None:
        """Sees whether it serves by now."""
        if self.reports >= 0 and select.select([self.reports], [], [], 0)[0]:
            self.ready = os.read(self.reports, 1) == b"1"
            self._forget_pipe()

    def ended(self) -> int | None:
        """Its exit status, once, when it has ended; a new start is then due at `start_at`."""
        if self.pid is None:
            return None
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return None
        self.pid, self.ready = None, False
        self._rest()
        return os.waitstatus_to_exitcode(status)

    def terminate(self) -> None:
        """SIGTERM, if it is there: who has not waited for it yet kills no stranger by its number."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGTERM)

    def _rest(self) -> None:
        self._forget_pipe()
        now = time.monotonic()
        self.start_at = now + self._pause.after(now - self._started)

    def _forget_pipe(self) -> None:
        if self.reports >= 0:
            os.close(self.reports)
            self.reports = -1


class ForkServer:
    """Keeps a worker in each place until it is told to stop; `report` gets a byte when all serve."""

    def __init__(self, listener: int, orders: Orders, report: int, signals: Signals) -> None:
        settings = Settings.load(orders.environment)
        start_logging(settings)
        self._listener, self._report, self._signals = listener, report, signals
        # For what the workers count, so that each can tell the numbers of all.
        board = os.memfd_create("syncd-numbers")
        self._workers = [
            Worker(listener, settings, orders.token, Board(board, place), signals) for place in range(settings.workers)
        ]

    def run(self) -> int:
        """The exit code: 1 when a worker could not start the first time, as it is no use to try on."""
        # What is there now stays, and workers share it while nobody writes to it: no collection looks at it any more.
        gc.freeze()
        while not self._signals.stops:
            if not all(self._look_after(worker) for worker in self._workers):
                return 1
            if self._report >= 0 and all(worker.ready for worker in self._workers):
                os.write(self._report, b"1")
                os.close(self._report)
                self._report = -1
            self._signals.wait(self._until_due(), *self._reports())
        self._stop()
        return 0

    def _look_after(self, worker: Worker) -> bool:
        status = worker.ended()
        if status is not None and self._report >= 0:
            say(f"a worker did not start (status {status})")
            return False
        if status is not None:
            say(f"a worker ended with status {status}; starting another")
        if worker.pid is None and time.monotonic() >= worker.start_at:
            worker.start(*self._reports(), *([self._report] if self._report >= 0 else []))
        worker.listen()
        return True

    def _reports(self) -> list[int]:
        return [worker.reports for worker in self._workers if worker.reports >= 0]

    def _until_due(self) -> float:
        due = [worker.start_at - time.monotonic() for worker in self._workers if worker.pid is None]
        return max(0.0, min([60.0, *due]))

    def _stop(self) -> None:
        """Waits for what is in flight, however long that takes: the supervisor is who loses patience."""
        # A client that connects is refused, and does not wait in vain.
        os.close(self._listener)
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            while worker.pid is not None and worker.ended() is None:
                self._signals.wait(60.0)


def say(text: str) -> None:
    """One line for people."""
    print(text, file=sys.stderr, flush=True)


def main(listener: int, orders: int, report: int) -> int:
    """Fork workers for the socket `listener`, with the settings that come through `orders`; none come, none start."""
    with open(orders, "rb") as told:
        text = told.read()
    if not text:
        return 0
    with Signals() as signals:
        return ForkServer(listener, msgspec.json.decode(text, type=Orders), report, signals).run()


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:4])))
