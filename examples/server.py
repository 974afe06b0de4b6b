"""A real `syncd serve` with a database of its own in a folder that goes away with it."""

from __future__ import annotations

import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import jwt

from syncd.postgres.launch import die_with_parent

_READY = "syncd is ready at "


class ServerError(Exception):
    """The server did not start; the text is what it said."""


class Server:
    """Use as a context manager: `with Server() as server: server.url, server.token("ada")`.

    Nothing is left behind: at the end the server gets SIGTERM and the folder is removed; should this
    process be killed, the kernel tells the server.
    """

    def __init__(self, workers: int = 1) -> None:
        self.url = ""
        self._workers = workers
        self._secret = secrets.token_urlsafe(48)
        self._folder: Path | None = None
        self._process: subprocess.Popen[str] | None = None

    @property
    def folder(self) -> Path:
        """A folder for whatever else should go away with the server."""
        assert self._folder is not None
        return self._folder

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="syncd-demo-"))
        try:
            # Started by root, the database runs as another user, who has to be able to enter.
            self._folder.chmod(0o755)
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def token(self, user: str) -> str:
        """A token that this server accepts."""
        now = int(time.time())
        return jwt.encode({"sub": user, "iat": now, "exp": now + 3600}, self._secret, algorithm="HS256")

    def _start(self) -> None:
        with (self.folder / "server.log").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "syncd", "serve"],
                env=self._environment(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # Ctrl-C reaches this program alone, which stops things in order.
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )
        self._wait_until_ready(60.0)

    def _environment(self) -> dict[str, str]:
        mine = {name: value for name, value in os.environ.items() if not name.startswith("SYNCD_")}
        return mine | {
            "SYNCD_PORT": "0",
            "SYNCD_DATA_DIR": str(self.folder / "data"),
            "SYNCD_WORKERS": str(self._workers),
            "SYNCD_JWT_SECRET": self._secret,
        }

    def _wait_until_ready(self, timeout: float) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if select.select([self._process.stdout], [], [], 0.2)[0]:
                line = self._process.stdout.readline()
                if _READY in line:
                    self.url = line.partition(_READY)[2].split()[0]
                    return
                if not line:
                    break
        said = (self.folder / "server.log").read_text()[-2000:]
        raise ServerError(f"syncd serve did not become ready:\n{said}")

    def close(self) -> None:
        """Stop the server and remove the folder."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
