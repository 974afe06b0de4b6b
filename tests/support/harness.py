"""A real `syncd serve` as a subprocess, for tests, examples and measurements."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import jwt
import psutil

from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.prefork import Prefork, PreforkedProcess
from tests.support.template import Template

READY = re.compile(r"syncd is ready at (http://[^\s/]+:(\d+)\S*)")


# TEST_CONTEXT_KEY=…: every server signs who acts; tests that speak SQL as the role that serves are not for that.
CONTEXT_KEY = os.environ.get("TEST_CONTEXT_KEY", "")
# TEST_SERVER=uvicorn|hypercorn: each server is a FastAPI application that has syncd mounted (tests/support/mounted.py),
# run by that one's own protocols.
FORM = os.environ.get("TEST_SERVER", "")
# Below which path that is; nothing where it is `syncd serve`.
MOUNT = "/own/sync"
PATH = MOUNT if FORM else ""
REPOSITORY = Path(__file__).resolve().parents[2]


class Server:
    """Starts on a free port and waits for the ready line; is stopped or killed, and starts on the same port.

    `settings` are settings by name (`{"max_changes": 10}`), `env` further environment variables. It compacts by itself
    only where `compact_every` is among them. With `database_url` in the settings there is no embedded database, and its
    DSNs are of no use. `form`: what serves a FastAPI application that has it mounted; "": it is `syncd serve`.
    """

    # Where the tests say so, new servers begin with a copy of this database instead of making one.
    template: ClassVar[Template | None] = None
    # Where the tests say so, a `with` block ends by `discard`: a proper stop is a fifth of the work.
    discarded: ClassVar[bool] = False
    # Where the tests say so, what it runs is not loaded for each start (tests/support/prefork.py); and where not.
    prefork: ClassVar[Prefork | None] = None
    executed: ClassVar[bool] = False
    # How many seconds its database has to go when it is killed.
    patience: ClassVar[float] = 30

    def __init__(
        self,
        data_dir: Path,
        *,
        workers: int = 1,
        settings: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        start: bool = True,
        form: str = FORM,
    ) -> None:
        self.form = form
        self.data_dir = Path(data_dir)
        self.workers = workers
        self.settings = dict(settings or {})
        self.env = dict(env or {})
        self.port = 0
        self.url = ""
        self.log = self.data_dir.with_name(f"{self.data_dir.name}.log")
        self.process: subprocess.Popen[str] | PreforkedProcess | None = None
        if self.template is not None and "database_url" not in self.settings:
            self.template.copy_to(self.data_dir)
        self._database = EmbeddedPostgres(self.data_dir)
        if start:
            self.start()

    @property
    def runtime_dsn(self) -> str:
        """The database as the role that serves."""
        return self._database.runtime_dsn

    @property
    def owner_dsn(self) -> str:
        """The database as its superuser."""
        return self._database.owner_dsn

    def dsn(self, role: str, database: str = "syncd") -> str:
        """The embedded database as any role."""
        return self._database.dsn(role, database)

    def start(self, timeout: float = 60.0) -> None:
        """Start it and wait until it is ready; what it said is in the error when it does not come up."""
        self.launch()
        self.wait_until_ready(timeout)

    def launch(self) -> None:
        """Start the process without waiting for it."""
        with self.log.open("a") as log:
            if self.prefork is not None and not self.form and not self.executed and self._is_plain():
                self.process = self.prefork.start(["serve"], self.environment(), log.fileno())
                return
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.mounted"] if self.form else [*self.command(), "serve"],
                env=self.environment(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def _is_plain(self) -> bool:
        """Whether its interpreter would be as one that was started here is."""
        return type(self).command is Server.command and self.prefork is not None and self.prefork.suits(self.env)

    def command(self) -> list[str]:
        """How `syncd` is called."""
        return [sys.executable, "-m", "syncd"]

    def environment(self) -> dict[str, str]:
        """The environment of the process: this one's, and the settings."""
        # Left to itself it compacts when it is five minutes old: a test that compacts just then would be kept out.
        own = {"data_dir": self.data_dir, "port": self.port, "workers": self.workers, "compact_every": 0}
        if CONTEXT_KEY:
            own["context_key"] = CONTEXT_KEY
        values = {f"SYNCD_{name.upper()}": str(value) for name, value in {**own, **self.settings}.items()}
        mounted = {"PYTHONPATH": str(REPOSITORY), "TEST_SERVER": self.form} if self.form else {}
        return {**os.environ, **mounted, **values, **self.env}

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Read its output up to the ready line."""
        assert self.process is not None
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if select.select([self.process.stdout], [], [], 0.2)[0]:
                line = self.process.stdout.readline()
                if match := READY.search(line):
                    self.url, self.port = match[1], int(match[2])
                    return
                if not line and self.process.wait(10) is not None:
                    break
        self.kill()
        raise RuntimeError(f"syncd serve did not become ready:\n{self.output()[-4000:]}")

    def output(self) -> str:
        """All that it wrote to standard error, over all its starts."""
        return self.log.read_text()

    def token(self, user: str, spaces: Sequence[Mapping[str, str]] | None = None, ttl: float = 3600.0) -> str:
        """A token that this server accepts."""
        configured = self.settings.get("jwt_secret") or self.env.get("SYNCD_JWT_SECRET")
        secret = configured or (self.data_dir / "jwt_secret").read_text().strip()
        claims: dict[str, Any] = {"sub": user, "iat": int(time.time()), "exp": int(time.time() + ttl)}
        if spaces is not None:
            claims["spaces"] = [dict(space) for space in spaces]
        return jwt.encode(claims, str(secret), algorithm="HS256")

    def stop(self, timeout: float = 40.0) -> int:
        """SIGTERM, and its exit code."""
        if self.process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        finally:
            self._forget()

    def kill(self) -> None:
        """SIGKILL to the supervisor; the kernel does the rest."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self._forget()

    def discard(self) -> None:
        """SIGKILL, and wait until its database is gone as well: for data that nobody needs any more. Raises
        RuntimeError when it had to kill what was left of it."""
        if self.process is None:
            return  # another may serve from there by now
        self.kill()
        deadline = time.monotonic() + self.patience
        while self._database.running_elsewhere():
            if time.monotonic() > deadline:
                raise RuntimeError(f"killed what held on to the database: {self._kill_holders()}")
            time.sleep(0.01)

    def _kill_holders(self) -> list[psutil.Process]:
        """SIGKILL to all that have the lock of the database open."""
        lock, found = str((self.data_dir / "lock").resolve()), list[psutil.Process]()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(file.path == lock for file in process.open_files()):
                    process.kill()
                    found.append(process)
        return found

    def restart(self) -> None:
        """Stop it and start it on the same port with the same data."""
        self.stop()
        self.start()

    def _forget(self) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()
            self.process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.discarded:
            self.discard()
        else:
            self.stop()
