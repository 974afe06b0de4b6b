"""Triplit: its own server over LMDB, and its messages. The token is the service's, so that no rule is looked at."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jwt
import msgspec

from bench import ws_load
from bench.peers.process import Process, node
from bench.ws_load import Script, frame

SECRET = "a secret of the measurements, 32 bytes or more"
SHAPES = {"values": {"tasks.sets": ["map"], "tasks.deletes": ["set"]}}
REFUSAL = b'"type":"ERROR"'


class Triplit:
    """A server. `flushed`: a commit waits for the disk, as PostgreSQL's does. As shipped it flushes behind."""

    def __init__(self, folder: Path, *, flushed: bool) -> None:
        self.version = node("@triplit/server")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._mode = folder, "flushed" if flushed else "acknowledged"
        self.start()

    def start(self) -> None:
        env = {"TRIPLIT_SECRET": SECRET}
        command = ["node", "triplit.js", str(self._folder / "lmdb"), self._mode]
        self._process = Process(command, self._folder / "log", env)

    def kill(self) -> None:
        self._process.kill()

    @property
    def port(self) -> int:
        return self._process.port

    @property
    def pid(self) -> int:
        return self._process.pid

    def prove(self, records: Sequence[dict[str, Any]]) -> None:
        """Raises RuntimeError when what it has acknowledged is not there after a kill."""
        ws_load.ask(self.port, pushes([changes(records)]))
        self.kill()
        self.start()
        found = ws_load.ask(self.port, pull("proof", [["id", "=", records[-1]["id"]]]))
        if msgspec.json.encode(records[-1]["title"]) not in found:
            raise RuntimeError("Triplit lost what it had acknowledged")


@functools.cache
def path() -> str:
    """What a socket asks for."""
    claims = {"x-triplit-token-type": "secret", "x-triplit-project-id": "bench"}
    return f"/?token={jwt.encode(claims, SECRET, algorithm='HS256')}"


def changes(records: Sequence[dict[str, Any]]) -> bytes:
    """A message that writes these records."""
    written = {"tasks": {"sets": [[one["id"], one] for one in records], "deletes": []}}
    payload = {"changes": {"json": written, "meta": SHAPES}}
    return msgspec.json.encode({"type": "CHANGES", "payload": payload})


def pushes(messages: Sequence[bytes]) -> Script:
    """A socket that sends these, each when the one before is acknowledged."""
    return Script(path(), 1, [frame(one) for one in messages], b'"type":"CHANGES_ACK"', REFUSAL)


def query(name: str, where: Sequence[Any] = ()) -> bytes:
    """A message that asks for all records, and for what comes."""
    params = {"collectionName": "tasks", **({"where": list(where)} if where else {})}
    return msgspec.json.encode({"type": "CONNECT_QUERY", "payload": {"id": name, "params": params}})


def pull(name: str, where: Sequence[Any] = ()) -> Script:
    """A socket that asks for records and takes what there is."""
    return Script(path(), 1, [frame(query(name, where))], b'"type":"ENTITY_DATA"', REFUSAL)
