"""`syncd serve` as a subprocess, on a port that it keeps: started, stopped, killed, and started again."""

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
from typing import Any, ClassVar

from syncd.postgres.embedded import EmbeddedPostgres

READY = re.compile(r"syncd is ready at (http://[^\s/]+:(\d+)\S*)")


class ServeError(RuntimeError):
    """The server did not become ready; the text is what it said."""


class ServeProcess:
    """Starts on a free port and waits for the ready line; is stopped or killed, and starts on the same port.

    `settings` are settings by name (`{"max_changes": 10}`), `env` further environment variables. It compacts by itself
    only where `compact_every` is among them. With `database_url` in the settings there is no embedded database, and its
    DSNs are of no use.
    """

    # How many seconds its database has to go when it is killed.
    patience: ClassVar[float] = 30

    def __init__(
        self, data_dir: Path, *, workers: int = 1, settings: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.data_dir = Path(data_dir)
        self.workers = workers
        self.settings = dict(settings or {})
        self.env = dict(env or {})
        self.port = 0
        self.url = ""
        self.log = self.data_dir.with_name(f"{self.data_dir.name}.log")
        self.process: subprocess.Popen[str] | None = None
        self._database = EmbeddedPostgres(self.data_dir)

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
        """Start it and wait until it is ready, `timeout` seconds at most. Raises ServeError."""
        self.launch()
        self.wait_until_ready(timeout)

    def launch(self) -> None:
        """Start the process without waiting for it."""
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command_line(), env=self.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                text=True,
            )  # fmt: skip

    def command(self) -> list[str]:
        """How `syncd` is called."""
        return [sys.executable, "-m", "syncd"]

    def command_line(self) -> list[str]:
        """What is started."""
        return [*self.command(), "serve"]

    def environment(self) -> dict[str, str]:
        """The environment of the process: this one's, and the settings."""
        return {**os.environ, **self.variables(), **self.env}

    def variables(self) -> dict[str, str]:
        """The settings as variables."""
        # Left to itself it compacts when it is five minutes old: a test that compacts just then would be kept out.
        own = {"data_dir": self.data_dir, "port": self.port, "workers": self.workers, "compact_every": 0}
        return {f"SYNCD_{name.upper()}": str(value) for name, value in {**own, **self.settings}.items()}

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
        raise ServeError(f"syncd serve did not become ready:\n{self.output()[-4000:]}")

    def output(self) -> str:
        """All that it wrote to standard error, over all its starts."""
        return self.log.read_text()

    def token(
        self, user: str, spaces: Sequence[Mapping[str, str]] | None = None, ttl: float = 3600.0, **claims: Any
    ) -> str:
        """A token that this server accepts for `ttl` seconds. `spaces`: of the claim that counts with
        `memberships="token"`; `claims`: further ones, or others than it would have."""
        import jwt

        configured = self.settings.get("jwt_secret") or self.env.get("SYNCD_JWT_SECRET")
        secret = configured or (self.data_dir / "jwt_secret").read_text().strip()
        said: dict[str, Any] = {"sub": user, "iat": int(time.time()), "exp": int(time.time() + ttl)}
        if spaces is not None:
            said["spaces"] = [dict(space) for space in spaces]
        return jwt.encode(said | claims, str(secret), algorithm="HS256")

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
                raise RuntimeError(f"killed what held on to the database: {kill_holders(self.data_dir / 'lock')}")
            time.sleep(0.01)

    def restart(self) -> None:
        """Stop it and start it on the same port with the same data."""
        self.stop()
        self.start()

    def _forget(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        if process.poll() is None:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def kill_holders(file: Path) -> list[int]:
    """SIGKILL to all processes that have the file open; their numbers."""
    place, found = os.path.realpath(file), set[int]()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) == place:
                found.add(int(link.parts[2]))
    for number in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    return sorted(found)
