"""TinyBase: its WebSocket server with its file persister, and its messages, which its own store makes.

It acknowledges nothing: a change is sent to the others at once, and the whole store is written to its file behind.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench import ws_load
from bench.peers.process import FOLDER, Process, node
from bench.ws_load import Script, frame

PATH = "/tasks"
NEVER = b"\0"


class TinyBase:
    """A server, with `records` in its file when it starts."""

    def __init__(self, folder: Path, records: Sequence[dict[str, Any]] = ()) -> None:
        self.version = node("tinybase")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        if records:
            _script("save", records, str(folder / "tasks.json"))
        self.start()

    def hold(self) -> None:
        """Opens a socket that stays: the server forgets a store that nobody is connected to."""
        self._held = socket.create_connection(("127.0.0.1", self.port))
        self._held.sendall(ws_load.handshake(PATH))
        self._held.recv(4096)

    def start(self) -> None:
        self._process = Process(["node", "tinybase.js", str(self._folder)], self._folder / "log")

    def kill(self) -> None:
        self._process.kill()

    @property
    def port(self) -> int:
        return self._process.port

    @property
    def pid(self) -> int:
        return self._process.pid

    def prove(self, records: Sequence[dict[str, Any]]) -> None:
        """Raises RuntimeError when what it was sent is not there after a kill, a moment after it was sent."""
        wanted = msgspec.json.encode(records[-1]["title"])
        # an answer to the question after it says that it was taken
        ws_load.ask(self.port, Script(PATH, 0, [_two(changes(records)[-1])], b'",0,', NEVER))
        time.sleep(2)
        self.kill()
        self.start()
        if wanted not in ws_load.ask(self.port, pull()):
            raise RuntimeError("TinyBase lost what it had been sent two seconds before")


def _two(message: bytes) -> bytes:
    return frame(message) + frame(b'S\n["bench.1",1,""]')


def changes(records: Sequence[dict[str, Any]]) -> list[bytes]:
    """A message for each record that writes it."""
    return [b"\n" + line for line in _script("changes", records).splitlines()]


def pull() -> Script:
    """A socket of a device that has nothing yet, and asks for all."""
    return Script(PATH, 0, [frame(b'S\n["bench.1",4,{}]')], b'",0,', NEVER)


def _script(mode: str, records: Sequence[dict[str, Any]], *arguments: str) -> bytes:
    command = ["node", "tinybase_changes.js", mode, *arguments]
    lines = msgspec.json.Encoder().encode_lines(records)
    return subprocess.run(command, cwd=FOLDER, input=lines, capture_output=True, check=True).stdout
