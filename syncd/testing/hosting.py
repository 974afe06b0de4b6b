"""The process that this one's servers are forked from: started with the first, ended with this process."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

from syncd.testing.kept import kept_template
from syncd.testing.template import ServeError, environment, in_memory, python

GOING_SECONDS = 30.0
ENDED = "what servers are forked from has ended"


class _Refused(ServeError):
    """It answered that it could not."""


class HostProcess:
    """`syncd.testing.host`, and what it is asked. Any thread may ask."""

    def __init__(self) -> None:
        self._lock, self._closed = threading.Lock(), False
        self.folder = Path(tempfile.mkdtemp(prefix="syncd-testing-", dir=in_memory()))
        # Root's database runs as another user, who has to get there.
        self.folder.chmod(0o755)
        self._log = self.folder / "host.log"
        try:
            kept_template().copy_to(self.folder / "data")
            with self._log.open("w") as log:
                self._process = subprocess.Popen(
                    [*python("syncd.testing.host"), str(self.folder)], env=environment(),
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                    # Ctrl-C reaches the tests alone, which end things in order.
                    start_new_session=True,
                )  # fmt: skip
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        try:
            self._urls: dict[str, str] = self._answer()
        except BaseException:
            self.close()
            raise

    def url(self, role: str, database: str) -> str:
        """A database of its PostgreSQL, as a role."""
        return self._urls["postgres"].replace("://postgres@", f"://{role}@").replace("{}", database)

    def ask(self, do: str, **what: Any) -> dict[str, Any]:
        """Has something done; see `ServerHost`. Raises ServeError."""
        with self._lock:
            if self._closed:
                raise ServeError(ENDED)
            asked = json.dumps({"do": do, **what}) + "\n"
            try:
                assert self._process.stdin is not None
                self._process.stdin.write(asked)
                self._process.stdin.flush()
                return self._answer()
            except _Refused as why:
                raise ServeError(str(why)) from None
            except BaseException:
                # Its answer, if one comes, would be taken for that to the next question.
                self.close()
                raise

    def close(self) -> None:
        """Ends it, with all servers. A server that starts after that has another process."""
        self._closed = True
        for pid in [pid for pid, host in _hosts.items() if host is self]:
            del _hosts[pid]
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        try:
            self._process.wait(GOING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ServeError(f"{ENDED}\n{self._said()}".strip())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise _Refused(f"{answer['error']}\n{self._said()}".strip())
        return answer

    def _said(self) -> str:
        return self._log.read_text()[-4000:] if self._log.exists() else ""


_hosts: dict[int, HostProcess] = {}
_starting = threading.Lock()


def host_process() -> HostProcess:
    """This process's: one that was forked with the tests' pipes in it has another."""
    with _starting:
        pid = os.getpid()
        if pid not in _hosts:
            _hosts.clear()
            _hosts[pid] = HostProcess()
            atexit.register(_close, pid)
        return _hosts[pid]


def running_host() -> HostProcess | None:
    """This process's, None where it has none or that has ended, and its servers with it."""
    return _hosts.get(os.getpid())


def _close(pid: int) -> None:
    if os.getpid() == pid and (host := _hosts.pop(pid, None)) is not None:
        host.close()
