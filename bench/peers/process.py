"""A peer's process: it starts, prints its port, and is killed."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import IO

from syncd.postgres.launch import die_with_parent

FOLDER = Path(__file__).parent
MODULES = FOLDER / "node_modules"


class Absent(Exception):
    """A peer is not here; the text says why."""


def node(package: str) -> str:
    """The version of a package of bench/peers/package.json that is installed. Raises Absent, also without Node."""
    if shutil.which("node") is None:
        raise Absent("there is no node")
    try:
        return str(json.loads((MODULES / package / "package.json").read_text())["version"])
    except OSError:
        raise Absent(f"{package} is not in {MODULES}: `make bench-peers` installs it") from None


class Process:
    """A process of its own session that prints a port number as its first line of digits."""

    def __init__(self, command: list[str], log: Path, env: dict[str, str] | None = None) -> None:
        self._log = log.open("ab")
        self.process = subprocess.Popen(
            command, cwd=FOLDER, stdout=subprocess.PIPE, stderr=self._log, env={**os.environ, **(env or {})},
            preexec_fn=die_with_parent(signal.SIGKILL),
        )  # fmt: skip
        assert self.process.stdout is not None
        try:
            self.port = _port(self.process.stdout)
        except TimeoutError:
            self.kill()
            raise Absent(f"{command[0]} did not start:\n{log.read_text()[-500:]}") from None

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL: what it had not stored is gone."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.close()


def _port(stream: IO[bytes], patience: float = 60.0) -> int:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if select.select([stream], [], [], 0.2)[0]:
            line = stream.readline()
            if not line:
                break
            if line.strip().isdigit():
                return int(line)
    raise TimeoutError
