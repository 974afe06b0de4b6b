"""A real NATS server on a free port of the loopback, which is killed, frozen and started again as a test likes."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from types import TracebackType
from typing import Self

import httpx

from tests.support.programs import need


class NatsServer:
    """`options` are those of nats-server, such as `--user` and `--pass`. It keeps its port over its starts."""

    def __init__(self, *options: str) -> None:
        self.port, self._monitor = _free_port(), _free_port()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        need("nats-server")
        ports = ["--addr", "127.0.0.1", "--port", str(self.port), "--http_port", str(self._monitor)]
        # A session of its own, so that Ctrl-C is for the tests alone.
        self._process = subprocess.Popen(
            ["nats-server", *ports, *self._options], stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 60
        while self._process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                self.connections()
                return
            assert time.monotonic() < deadline, "nats-server does not answer"
            time.sleep(0.01)
        raise RuntimeError("nats-server did not start")

    def connections(self) -> int:
        """How many clients it has."""
        answer = httpx.get(f"http://127.0.0.1:{self._monitor}/connz", timeout=5)
        return int(answer.raise_for_status().json()["num_connections"])

    def freeze(self) -> None:
        """SIGSTOP: connections stay, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, frozen or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
